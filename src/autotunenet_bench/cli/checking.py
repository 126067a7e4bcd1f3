"""Check a member against the contract of its family, and say what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from autotunenet_bench.cli.ending import EXIT_FAILED, interruptible, refuse
from autotunenet_bench.cli.saying import count, say

if TYPE_CHECKING:
    from pydantic import BaseModel


def check_member(name: str, overrides: list[str], data_dir: Path | None, download: bool) -> None:
    """Print a line for every rule; exit with 1 where one is broken, with 2 where there is no such member or key."""
    with interruptible():
        import torch

        from autotunenet_bench.config import ConfigError
        from autotunenet_bench.data import DataError, DataSource
        from autotunenet_bench.references import ClassNotFoundError
        from autotunenet_bench.testing.targets import check, family_of, model_of

        torch.set_num_threads(1)  # the runs are short and small, and this process is ours
        broken = total = 0
        try:
            fields = _fields(name, overrides, model_of(name))
            family = family_of(name).family
            found = check(name, fields, DataSource.from_environment(data_dir, download))
        except ClassNotFoundError as error:
            refuse(f"{name}: {error}")
        except ConfigError as error:
            refuse(str(error))
        say(f"{name}, a {family}:")
        try:
            for finding in found:
                total, broken = total + 1, broken + (not finding.is_ok)
                line = f"  {'ok' if finding.is_ok else 'broken':<6}  {finding.rule.name}: {finding.rule.text}"
                say(line if finding.is_ok else f"{line} Found: {finding.reason}. Mend: {finding.rule.mend}.")
        except DataError as error:
            refuse(str(error))
        say(f"{count(total, 'rule')}, {broken} broken")
        if broken:
            raise typer.Exit(EXIT_FAILED)


def _fields(name: str, overrides: list[str], model: type[BaseModel]) -> dict[str, Any]:
    """Return the keys that overrides set, read and checked as those of a config are."""
    from autotunenet_bench.config.files import check_keys
    from autotunenet_bench.config.overrides import apply_override
    from autotunenet_bench.config.yaml import Document

    document = Document(name, {})
    for override in overrides:
        apply_override(document, override)
    check_keys(document, model)
    return dict(document.data)
