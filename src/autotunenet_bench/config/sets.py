"""Loading a config of an offline search, or all of a set."""

from __future__ import annotations

from collections.abc import Sequence

from autotunenet_bench.config.errors import ConfigError, Problem
from autotunenet_bench.config.files import LoadedConfig, find_config, load_config
from autotunenet_bench.config.hpo import HpoSetConfig
from autotunenet_bench.config.yaml import parse_yaml, read_text


def load_members(
    name: str, overrides: Sequence[str] = (), *, full: bool = False, scale: str | None = None
) -> tuple[LoadedConfig, list[LoadedConfig]]:
    """Load a config, and the members of a set.

    Args:
        name: A path, or the name of a shipped config.
        overrides: Texts ``key.path=value``. Those of a set's own keys are put over the set, all others over every
            member.
        full: As `load_config`; of a set, for every member.
        scale: As `load_config`; of a set, for every member.

    Returns:
        The config, and the members; none where it is no set.

    Raises:
        ConfigError: With every problem of the first config that has one.
    """
    if not _is_set(name):
        return load_config(name, overrides, full=full, scale=scale), []
    own = [text for text in overrides if text.partition("=")[0].partition(".")[0].strip() in HpoSetConfig.model_fields]
    whole = load_config(name, own)
    assert isinstance(whole.config, HpoSetConfig)
    others = [text for text in overrides if text not in own]
    members = [load_config(member, others, full=full, scale=scale) for member in whole.config.configs]
    if nested := next((member for member in members if isinstance(member.config, HpoSetConfig)), None):
        raise ConfigError([Problem(str(nested.path), "is a set itself", f"name its configs in {whole.path.name}")])
    stems = [member.name for member in members]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise ConfigError([Problem(str(whole.path), f"two of its configs are called {twice}", "rename one file")])
    # Its folder is named as that of a single config: every scale has its own.
    return LoadedConfig(whole.config, whole.name, whole.path, whole.shipped, members[0].departure), members


def _is_set(name: str) -> bool:
    path, _ = find_config(name)
    try:
        data = parse_yaml(read_text(path), str(path)).data
    except OSError:
        return False  # loading it says what is wrong
    return isinstance(data, dict) and "configs" in data
