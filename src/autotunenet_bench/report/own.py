"""What a report says of classes that are not this package's: which they were, and whether they can still be found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autotunenet_bench.references import digest_of, find_source, is_reference
from autotunenet_bench.results.trace import Trace


def own_classes(runs: Sequence[Trace]) -> list[str]:
    """Return a sentence for every class of somebody's own that took part, each once.

    Nothing is imported for it: a report of somebody else's results must not run their code.
    """
    words = [_words(name, run.spec.get("sources") or {}) for run in runs for name in _names(run.spec)]
    return list(dict.fromkeys(words))


def _names(spec: Mapping[str, Any]) -> Iterator[str]:
    for family in ("task", "regime", "controller"):
        config = spec.get(family) or {}
        parts = [part for part in config.get("parts") or () if isinstance(part, Mapping)]
        yield from (str(item["name"]) for item in (config, *parts) if is_reference(item.get("name")))


def _words(name: str, sources: Mapping[str, str]) -> str:
    recorded = sources.get(name)
    digest = f"file SHA-256 {recorded}" if recorded else "its file was not recorded"
    path = find_source(name)
    if path is None:
        return f"{name}, {digest}; its module is not found here, so these runs can be shown and not repeated"
    if recorded and digest_of(path) != recorded:
        return f"{name}, {digest}; its file is another one now, so these runs are not those of the file"
    return f"{name}, {digest}"
