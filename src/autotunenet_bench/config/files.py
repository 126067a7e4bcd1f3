"""Finding a config and reading it: your own files first, then those that come with the package."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from autotunenet_bench.config.errors import ConfigError, Loc, Problem, did_you_mean
from autotunenet_bench.config.experiment import Departure
from autotunenet_bench.config.explain import explain, explain_non_finite
from autotunenet_bench.config.hpo import HpoConfig, HpoSetConfig, OneSearch
from autotunenet_bench.config.models import RunConfig, SuiteConfig
from autotunenet_bench.config.overrides import apply_fraction, apply_override, apply_section
from autotunenet_bench.config.yaml import OVERRIDE, Document, non_finite, parse_yaml, read_text
from autotunenet_bench.searches import SearchConfig

AnyConfig = RunConfig | SuiteConfig | HpoConfig | HpoSetConfig
"""Every kind of config."""

AnyModel = TypeVar("AnyModel", bound=BaseModel)


@dataclass(frozen=True)
class LoadedConfig:
    """A config that has passed every check.

    Attributes:
        config: Its values.
        name: The file's name without its ending; names the folder of the results.
        path: The file that was read.
        shipped: Whether it came with the package.
        departure: What was put over it from outside.
    """

    config: AnyConfig
    name: str
    path: Path
    shipped: bool
    departure: Departure

    @property
    def folder(self) -> str:
        """Name of the folder of its results; every scale has its own, so that scales never mix."""
        return f"{self.name}-{self.departure.scale.name}" if self.departure.scale else self.name


def load_config(
    name: str, overrides: Sequence[str] = (), *, full: bool = False, scale: str | None = None
) -> LoadedConfig:
    """Find, read, override and check a config.

    Args:
        name: A path, or the name of a shipped config: ``"mnist_data_shift"``, ``"configs/suites/demo.yaml"``.
        overrides: Texts ``key.path=value``, applied in order.
        full: Whether the config's section ``full`` is put over the rest.
        scale: Which of the config's ``scales`` is put over the rest.

    Raises:
        ConfigError: With every problem that was found.
    """
    path, shipped = find_config(name)
    try:
        text = read_text(path)
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be read: {error.strerror}", "check its permissions")]) from None
    config, departure = _parse(text, str(path), overrides, full, scale)
    return LoadedConfig(config, path.stem, path, shipped, departure)


def parse_config(
    text: str, source: str, overrides: Sequence[str] = (), *, full: bool = False, scale: str | None = None
) -> AnyConfig:
    """Check the text of a config.

    One that has ``searches`` is an offline search, one that has ``tasks``, ``regimes`` and ``controllers`` is a suite.

    Args:
        text: YAML.
        source: The file's name in messages.
        overrides: Texts ``key.path=value``, applied in order.
        full: Whether the config's section ``full`` is put over the rest; what an override has written stays.
        scale: Which of the config's ``scales`` is put over the rest, and over ``full``; what an override has written
            stays.

    Raises:
        ConfigError: With every problem that was found.
    """
    return _parse(text, source, overrides, full, scale)[0]


def _parse(
    text: str, source: str, overrides: Sequence[str], full: bool, scale: str | None
) -> tuple[AnyConfig, Departure]:
    document = parse_yaml(text, source)
    if document.data is not None and not isinstance(document.data, dict):
        kind = "a list" if isinstance(document.data, list) else "a single value"
        rule = f"a config is a mapping of keys to values, this is {kind}"
        raise ConfigError([Problem(document.where(()), rule, "begin with lines such as `task: mnist_cnn`")])
    if document.data is None and not overrides:
        mend = "begin with `task:`, `regime:` and `controller:`, or copy a shipped config"
        raise ConfigError([Problem(document.where(()), "the config is empty", mend)])
    # What is said of a section comes before it is applied, and what is said of anything else after that: so an index
    # into a list is one into the list that is run.
    of_sections = [text for text in overrides if text.partition("=")[0].partition(".")[0].strip() in _SECTIONS]
    for override in of_sections:
        apply_override(document, override)
    wanted: list[tuple[str, Loc]] = [("full", ("full",))] if full else []
    if scale is not None:
        wanted.append((scale, ("scales", scale)))
    if wanted:
        _check_sections(document, scale)
    blocks = [(apply_section(document, name, loc), loc) for name, loc in wanted]
    for override in overrides:
        if override not in of_sections:
            apply_override(document, override)
    for block, loc in blocks:
        apply_fraction(document, block, loc)
    config = _check(document)
    departure = Departure(
        scale=blocks[-1][0] if scale is not None else None,
        full=blocks[0][0] if full else None,
        scales=tuple(getattr(config, "scales", ())),
        overrides=tuple(overrides),
    )
    return config, departure


_SECTIONS = ("full", "scales")


def _check_sections(document: Document, scale: str | None) -> None:
    """Check the sections by themselves, and that there is one of the name `scale`, if any."""
    if document.data is None:  # all is to come from overrides
        document.data = {}
    _, problems = _validate(document, _choose_model(document.data))
    if faults := [problem for problem in problems if problem.loc[:1] in [(section,) for section in _SECTIONS]]:
        raise ConfigError(faults)
    known = list(document.data.get("scales") or {})
    if scale is not None and scale not in known:
        rule = f"the config has no scale {scale!r}" if known else "the config has no scales"
        mend = f"{did_you_mean(scale, known)}choose from {', '.join(known)}, or leave" if known else "leave"
        raise ConfigError([Problem(f"--scale {scale}", rule, f"{mend} --scale out to run it as it is specified")])


def check_keys(document: Document, model: type[BaseModel]) -> None:
    """Check the keys of a single task, regime or controller, each for itself.

    Keys that are missing, and rules over several of them, are left to whoever makes one.

    Args:
        document: The keys, as ``--set`` has put them there.
        model: The member's.

    Raises:
        ConfigError: With a problem for every key that is unknown or has a wrong value.
    """
    _, problems = _validate(document, model)
    known = [(key,) for key in document.data]
    if at_keys := [one for one in problems if one in document.problems or one.loc[:1] in known]:
        raise ConfigError(at_keys)


def parse_search(text: str, source: str) -> SearchConfig:
    """Check the text of one search, as it stands in a config: a name, or a mapping with one.

    Raises:
        ConfigError: With every problem that was found.
    """
    document = parse_yaml(f"search: {text}", source, numbered=False)
    config, problems = _validate(document, OneSearch)
    if problems or config is None:
        raise ConfigError(problems)
    return config.search


def _check(document: Document) -> AnyConfig:
    config, problems = _validate(document, _choose_model(document.data or {}))
    if problems or config is None:
        raise ConfigError(sorted(problems, key=lambda problem: _line(problem.where)))
    return config


def _validate(document: Document, model: type[AnyModel]) -> tuple[AnyModel | None, list[Problem]]:
    data = document.data or {}
    problems = list(document.problems)
    known = {problem.loc for problem in problems}
    config = None
    found: list[Problem] = []
    try:
        # As JSON, so that a list is accepted for a tuple and nothing else is converted.
        config = model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        found = [problem for problem in explain(error, document, model) if problem.loc not in known]
    refused = known | {problem.loc for problem in found}
    odd = {loc: value for loc, value in non_finite(data) if loc not in refused}
    # A rule over several keys that one of these values breaks is a consequence of it.
    parents = {loc[:-1] for loc in odd}
    problems += [problem for problem in found if problem.loc not in parents]
    problems += [explain_non_finite(loc, value, document, model) for loc, value in odd.items()]
    return config, problems


def _choose_model(data: dict[str, Any]) -> type[AnyConfig]:
    if "configs" in data:
        return HpoSetConfig
    if "searches" in data or "objective" in data:
        return HpoConfig
    singular = sum(key in data for key in ("task", "regime", "controller"))
    plural = sum(key in data for key in ("tasks", "regimes", "controllers"))
    return SuiteConfig if plural > singular else RunConfig


def _line(where: str) -> tuple[int, int]:
    """Sort by line, overrides last."""
    _, _, line = where.rpartition(":")
    return (0, int(line)) if line.isdigit() and not where.startswith(OVERRIDE) else (1, 0)


def shipped_folder() -> Path:
    """Return the folder of the configs that come with the package."""
    return Path(str(resources.files("autotunenet_bench").joinpath("configs")))


def shipped_configs() -> list[str]:
    """Return the names of the configs that come with the package: ``"digits_quick"``, ``"suites/demo"``."""
    folder = shipped_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def find_config(name: str) -> tuple[Path, bool]:
    """Return the file that `name` means, and whether it is a shipped one.

    A file of your own wins. The ending ``.yaml`` and, for shipped configs, the folders ``configs/`` and ``suites/``
    may be left out.

    Raises:
        ConfigError: If there is no such file; the message lists near names and the shipped configs.
    """
    for path in (Path(name), Path(f"{name}.yaml")):
        if path.is_file():
            return path, False
    short = name.removeprefix("./").removeprefix("configs/").removesuffix(".yaml")
    known = shipped_configs()
    for candidate in (short, f"suites/{short}"):
        if candidate in known:
            return shipped_folder() / f"{candidate}.yaml", True
    if Path(name).is_dir():
        inside = sorted(path.name for path in Path(name).glob("*.yaml"))
        mend = f"name one of its files: {', '.join(inside)}" if inside else "it has no .yaml files"
        raise ConfigError([Problem(name, "is a folder, a config is a file", mend)])
    raise ConfigError([Problem(name, "there is no such file and no shipped config of this name", _near(name, known))])


def _near(name: str, known: list[str]) -> str:
    folder = Path(name).parent
    own = [path.name for path in folder.glob("*.y*ml")] if folder.is_dir() else []
    near = [str(folder / file) for file in difflib.get_close_matches(Path(name).name, own, n=3)]
    stems = {Path(entry).name: entry for entry in known}
    near += [stems[stem] for stem in difflib.get_close_matches(Path(name).stem, list(stems), n=3)]
    hint = f"did you mean {' or '.join(repr(entry) for entry in near)}? " if near else ""
    return f"{hint}shipped configs: {', '.join(known)}"
