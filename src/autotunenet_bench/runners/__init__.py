"""Who trains: one run of a spec, from its first step or from where it was cut off."""

from autotunenet_bench.runners.online import run_online

__all__ = ["run_online"]
