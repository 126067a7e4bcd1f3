"""HOW FAR: pure functions that bound what a controller asks for."""

from autotunenet.guards.base import Guard, chain
from autotunenet.guards.cooldown import cooldown
from autotunenet.guards.max_delta import max_delta
from autotunenet.guards.warmup import warmup
from autotunenet.guards.within import within

GUARDS = {"within": within, "max_delta": max_delta, "warmup": warmup, "cooldown": cooldown, "chain": chain}
"""Makers of guards by name; `chain` of nothing is the null member."""

__all__ = ["GUARDS", "Guard", "chain", "cooldown", "max_delta", "warmup", "within"]
