"""Random search: the floor for every other search."""

from __future__ import annotations

from autotunenet.hpo.base import Search
from autotunenet.hpo.trial import Trial


class RandomSearch(Search):
    """Points drawn uniformly from the space, over orders of magnitude where a dimension is logarithmic.

    Bergstra and Bengio 2012, "Random Search for Hyper-Parameter Optimization". In a finite space it draws without
    replacement, and ends when nothing is left.
    """

    def _propose(self, number: int) -> Trial | None:
        return Trial(number=number, params=self.space.sample(self._stream(number)))
