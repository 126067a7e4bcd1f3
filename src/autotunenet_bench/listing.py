"""One line about everything that ``autotunenet-bench list`` knows.

Imports of plug-ins stand inside the functions: they come with torch, and runs can be listed in less time than it takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotunenet_bench.results.store import CUT_OFF, ResultStore, RunFolder

Line = tuple[str, str]
"""A name and what there is to say about it."""


def describe(topic: str) -> list[Line]:
    """Return the members of a topic: tasks, regimes, controllers, searches, metrics, suites or configs.

    >>> [name for name, _ in describe("regimes")][0]
    'stationary'
    """
    from autotunenet_bench.config import shipped_configs
    from autotunenet_bench.metrics import METRICS

    families = _families()
    if topic in families:
        return [(name, _first_line(member)) for name, member in families[topic].items()]
    if topic == "metrics":
        return [(name, f"{metric.description} ({metric.direction.value})") for name, metric in METRICS.items()]
    suites = [name for name in shipped_configs() if name.startswith("suites/")]
    if topic == "suites":
        return [(name.removeprefix("suites/"), _title(name)) for name in suites]
    return [(name, _title(name)) for name in shipped_configs() if name not in suites]


def describe_hpo_configs() -> list[Line]:
    """Return the shipped configs of offline searches."""
    from autotunenet_bench.config import shipped_configs

    return [(name, _title(name)) for name in shipped_configs() if {"searches", "configs"} & _values(name).keys()]


def describe_runs(out: Path) -> list[Line]:
    """Return every run below the folders of `out`, with its state and how far it got."""
    folders = sorted(path for path in out.iterdir() if path.is_dir()) if out.is_dir() else []
    return [(str(run.path), _describe_run(run)) for folder in folders for run in ResultStore(folder).folders()]


def _describe_run(run: RunFolder) -> str:
    try:
        details = run.details()
        if isinstance(num_epochs := details.get("num_epochs"), int) and run.is_done(details):
            return f"done, {num_epochs} of {num_epochs} epochs"
        epochs = sum(event["event"] == "epoch" for event in run.events())
        state = run.status()
        is_cut_off = state == "done" and not run.is_done(details)
        far = f"{'cut off' if is_cut_off else state}, {epochs} of {run.spec()['num_epochs']} epochs"
        return f"{far}: {CUT_OFF}" if is_cut_off else far
    except (OSError, KeyError, TypeError, ValueError) as error:  # one run that cannot be read hides no other
        fault = f"no key {error}" if isinstance(error, KeyError) else str(error)
        return f"cannot be read: {fault}"


def _families() -> dict[str, Mapping[str, type[Any]]]:
    from autotunenet_bench.controllers import CONTROLLERS
    from autotunenet_bench.regimes import REGIMES
    from autotunenet_bench.searches import SEARCHES
    from autotunenet_bench.tasks import TASKS

    return {"tasks": TASKS, "regimes": REGIMES, "controllers": CONTROLLERS, "searches": SEARCHES}


def _first_line(member: type[Any]) -> str:
    return (inspect.getdoc(member) or "").partition("\n")[0]


def _title(name: str) -> str:
    return str(_values(name).get("title") or "")


def _values(name: str) -> dict[str, Any]:
    from autotunenet_bench.config.files import shipped_folder
    from autotunenet_bench.config.yaml import parse_yaml

    path = shipped_folder() / f"{name}.yaml"
    return dict(parse_yaml(path.read_text(encoding="utf-8"), str(path)).data)
