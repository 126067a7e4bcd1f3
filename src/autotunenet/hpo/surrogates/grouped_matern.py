"""A kernel of scikit-learn's kind; imported only where a Gaussian process is fitted, since it imports scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process.kernels import Matern

Array = NDArray[np.float64]


class GroupedMatern(Matern):  # type: ignore[misc]
    """The Matern 5/2 kernel with one length scale for all columns of a dimension.

    Args:
        length_scale: One for each dimension.
        groups: Number of the dimension of each column, ascending from 0, without gaps.

    >>> kernel = GroupedMatern((1.0, 2.0), groups=(0, 1, 1))
    >>> kernel(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])).round(3).tolist()
    [[1.0, 0.702], [0.702, 1.0]]
    """

    def __init__(self, length_scale: Any = (1.0,), groups: tuple[int, ...] = (0,)) -> None:
        super().__init__(length_scale=length_scale, nu=2.5)
        self.groups = groups

    def __call__(self, X: Array, Y: Array | None = None, eval_gradient: bool = False) -> Any:  # noqa: N803
        """Return correlations, and their gradient with respect to the logarithms of the length scales."""
        groups = np.asarray(self.groups)
        wide = Matern(length_scale=np.atleast_1d(self.length_scale)[groups], nu=self.nu)
        if not eval_gradient:
            return wide(X, Y)
        correlations, gradient = wide(X, Y, eval_gradient=True)
        return correlations, np.add.reduceat(gradient, np.unique(groups, return_index=True)[1], axis=2)
