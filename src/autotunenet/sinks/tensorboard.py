"""Numbers as TensorBoard scalars, decisions as its texts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autotunenet.optional import import_optional
from autotunenet.sinks.telling import is_news
from autotunenet.types import Decision

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardSink:
    """Writes scalars ``autotunenet/lr`` and so on, and decisions with their reasons under the Text tab.

    A decision's tag is ``autotunenet/decisions/<action>``: TensorBoard shows a sample of each tag, so a rollback is not
    lost among adaptations. Quiet intervals give no text. NaN and infinities are written as they are; TensorBoard marks
    them with triangles.

    Args:
        writer: Your own writer, which is neither flushed nor closed here; or the folder for one of the sink's own. That
            one is made at the first report, flushed at every decision, and closed with the tuner. After a resume it
            hides what the branch that was given up had written into the same folder.

    Raises:
        TypeError: If `writer` is neither.
        ImportError: If a folder is given and TensorBoard is not installed.
    """

    def __init__(self, writer: SummaryWriter | str | os.PathLike[str]) -> None:
        self._folder: str | None = None
        self._writer: Any = None
        self._purge_step: int | None = None
        if isinstance(writer, str | os.PathLike):
            _import_writer()  # told now, not in the middle of a training
            self._folder = os.fspath(writer)
        elif isinstance(writer, type) or not hasattr(writer, "add_scalar") or not hasattr(writer, "add_text"):
            raise TypeError(f"writer must be a folder or a SummaryWriter, with add_scalar and add_text; got {writer!r}")
        else:
            self._writer = writer

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write a scalar for each number."""
        writer = self._ready()
        for name, value in values.items():
            writer.add_scalar(name, float(value), step)

    def event(self, decision: Decision) -> None:
        """Write the decision as a text of Markdown."""
        writer = self._ready()
        if is_news(decision):
            tag = f"autotunenet/decisions/{decision.action.value.replace(' ', '_')}"
            writer.add_text(tag, _to_markdown(decision), decision.observation.step)
        if self._folder is not None:
            writer.flush()

    def resumed(self, step: int, num_reports: int) -> None:
        """Have the sink's own writer hide what was written about later steps."""
        self.close()
        self._purge_step = step + 1

    def close(self) -> None:
        """Close the writer, if it is the sink's own."""
        if self._folder is not None and self._writer is not None:
            self._writer.close()
            self._writer = None
        self._purge_step = None

    def _ready(self) -> Any:
        if self._writer is None:
            self._writer = _import_writer()(self._folder, purge_step=self._purge_step)
        return self._writer


def _import_writer() -> Any:
    return import_optional("torch.utils.tensorboard", "TensorBoardSink", "tensorboard").SummaryWriter


def _to_markdown(decision: Decision) -> str:
    """Return the decision as a paragraph and a table; a reason's own signs stand as they are."""
    reason = decision.reason.translate({ord(sign): f"\\{sign}" for sign in "\\`*_<>|[]#"})
    cause = f" ({decision.cause.value})" if decision.cause else ""
    lines = [f"**{decision.action.value}**{cause}: {reason}", "", "| | before | after |", "| --- | --- | --- |"]
    before, after = decision.observation.hyperparams, decision.applied
    lines += [f"| {name} | {before.get(name, float('nan')):.6g} | {value:.6g} |" for name, value in after.items()]
    if decision.discarded_steps:
        lines += ["", f"{decision.discarded_steps} steps were thrown away."]
    return "\n".join(lines)
