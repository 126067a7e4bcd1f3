"""What may be said of measured numbers: intervals, paired comparisons, profiles and scores.

Pure functions of numbers: nothing is read or written, and of the benchmark nothing is imported. Lower is better
everywhere; give 1 minus an accuracy. A *run* is one seed of one method in one *cell*, a task under a regime. Formulas,
sources and the rule of what may be claimed: `docs/statistics.md`.

Symbols: M cells, N_m runs in cell m, n runs or pairs in all, B resamples.
"""

from __future__ import annotations

from autotunenet_bench.statistics.claims import Claim, claim, limits
from autotunenet_bench.statistics.intervals import Interval, bootstrap, interquartile_mean, iqm, mean, wilson
from autotunenet_bench.statistics.paired import (
    Comparison,
    compare,
    compare_all,
    holm,
    improvement,
    sign_flip,
)
from autotunenet_bench.statistics.profiles import Profile, mean_ranks, profile, ranks, ratio_to_best
from autotunenet_bench.statistics.scores import at_worst, lr_sensitivity, normalised_regret, worst_decile

__all__ = [
    "Claim",
    "Comparison",
    "Interval",
    "Profile",
    "at_worst",
    "bootstrap",
    "claim",
    "compare",
    "compare_all",
    "holm",
    "improvement",
    "interquartile_mean",
    "iqm",
    "limits",
    "lr_sensitivity",
    "mean",
    "mean_ranks",
    "normalised_regret",
    "profile",
    "ranks",
    "ratio_to_best",
    "sign_flip",
    "wilson",
    "worst_decile",
]
