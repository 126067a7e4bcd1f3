"""Random search: the floor for every other search."""

from __future__ import annotations

from autotunenet.hpo.base import Search
from autotunenet.hpo.trial import Trial
from autotunenet.hpo.untried import draw_untried

NUM_DRAWS = 64
"""Draws that may hit tried points before one of those that are left is taken."""


class RandomSearch(Search):
    """Points drawn uniformly from the space, over orders of magnitude where a dimension is logarithmic.

    Bergstra and Bengio 2012, "Random Search for Hyper-Parameter Optimization". In a finite space it draws without
    replacement, and ends when nothing is left; a point takes as long however many there are.

    >>> from autotunenet import Int, SearchSpace
    >>> search = RandomSearch(SearchSpace({"depth": Int(1, 3)}), seed=0)
    >>> sorted(search.ask().params["depth"] for _ in range(3)), search.ask(), search.is_exhausted
    ([1, 2, 3], None, True)
    """

    def _propose(self, number: int) -> Trial | None:
        if self.is_exhausted:
            return None
        rng = self._stream(number)
        if self.space.num_points is None:
            return Trial(number=number, params=self.space.sample(rng))
        tried = self._tried()
        for _ in range(NUM_DRAWS):
            params = self.space.sample(rng)
            if self.space.index_of(params) not in tried:
                return Trial(number=number, params=params)
        index = draw_untried(rng, self.space.num_points, tried)
        return Trial(number=number, params=self.space.point_at(index))
