"""What a run looks like in a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autotunenet.sinks.run_log import RunLog
from autotunenet.sinks.telling import is_news
from autotunenet.types import Action, Decision
from autotunenet.views.reading import is_launch_move, is_verdict, verdict_name
from autotunenet.watch.chart import ASCII, LABEL_WIDTH, UNICODE, Size, Strokes, axis, chart, column_of

_STYLES = {"stable": "green", "suspect": "yellow", "unstable": "bold red"}
_MARKS = {
    Action.ROLLBACK: ("R", "rollback", "bold red"),
    Action.RESTORE_SUSPECT: ("S", "restore suspect", "bold magenta"),
    Action.ACCEPT: ("A", "accept", "bold yellow"),
    Action.HOLD: ("H", "held while unstable", "bold yellow"),
}
_TRIAL = ("x", "trial of the launch, taken back", "yellow")
_RESUMED = ("r", "resumed", "cyan")
_CHANGED = ("!", "the benchmark changes something", "cyan")
_CHART_HEIGHTS = (9, 6)
_SMALLEST_CHART = 3
_LEAST_WIDTH = LABEL_WIDTH + 12
_TALL = 36  # lines
_STALE_SECONDS = 120.0


@dataclass(frozen=True)
class Screen:
    """A run as one screen: numbers, curves of loss and lr with marks, the last verdicts and decisions.

    As wide as the console; where `height` is given, it fits into so many lines.

    Attributes:
        log: The run.
        source: Where it was read.
        note: What else is to be said, of a line that could not be read for example.
        num_decisions: How many of the last decisions are told.
        height: Lines; None: as many as it takes.
    """

    log: RunLog
    source: str
    note: str = ""
    num_decisions: int = 6
    height: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width, _LEAST_WIDTH)
        strokes = ASCII if options.ascii_only else UNICODE
        yield from self._head(width)
        if self.log.step:
            yield Text()
            yield from self._charts(width, strokes)
        if self.note:
            yield Text(f"\n{self.note}", "yellow", overflow="fold")
        yield from self._told("Last verdicts", self._verdicts())
        yield from self._told("Last decisions", self._decisions(), in_a_line=self.height is not None)

    # -- numbers -----------------------------------------------------------------------------------------------------

    def _head(self, width: int) -> RenderResult:
        yield Text.assemble(("AutoTuneNet", "bold"), "  ", self.source, "  ", (_news(self.log), "dim"), overflow="fold")
        if not self.log.step:
            return
        values = {name.removeprefix("autotunenet/"): value for name, value in self.log.values.items()}
        items = [Text(f"step {self.log.step:,}")]
        for name in [name for name in values if name not in ("health", "rollbacks", "discarded_steps")]:
            items.append(Text.assemble((f"{name} ", "dim"), f"{values[name]:.4g}"))
        if self.log.decisions:
            health = self.log.decisions[-1].health.value
            items.append(Text.assemble(("health ", "dim"), (health, _STYLES[health])))
        yield from _flow(items, width)
        yield Text(_counts(self.log.decisions), "dim", overflow="fold")

    # -- curves ------------------------------------------------------------------------------------------------------

    def _charts(self, width: int, strokes: Strokes) -> RenderResult:
        log, (loss_height, lr_height) = self.log, self._chart_heights()
        if log.losses or log.validation:
            yield Text("loss" + (f", {strokes.point} validation" if log.validation else ""), "bold", no_wrap=True)
            size = Size(log.step, width, loss_height)
            yield _curve(chart(log.losses, size, log.validation, strokes=strokes), "cyan")
        if log.lrs:
            yield Text("lr", "bold")
            size = Size(log.step, width, lr_height)
            yield _curve(chart(log.lrs, size, strokes=strokes, mean=False), "yellow")
        yield Text("\n".join(axis(log.step, width, strokes)), "dim", no_wrap=True)
        yield from _marks(log, width)

    def _chart_heights(self) -> tuple[int, int]:
        if self.height is None:
            return _CHART_HEIGHTS
        left = self.height - 16  # what the rest takes in most cases
        loss, lr = (min(usual, max(_SMALLEST_CHART, left * usual // sum(_CHART_HEIGHTS))) for usual in _CHART_HEIGHTS)
        return loss, lr

    # -- words -------------------------------------------------------------------------------------------------------

    def _verdicts(self) -> list[Decision]:
        most = 1 if self.height is not None and self.height < _TALL else 3
        return [each for each in self.log.decisions if is_verdict(each)][-most:]

    def _decisions(self) -> list[Decision]:
        return [each for each in self.log.decisions if is_news(each) and not is_verdict(each)][-self.num_decisions :]

    def _told(self, heading: str, decisions: Sequence[Decision], *, in_a_line: bool = False) -> RenderResult:
        if not decisions:
            return
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=in_a_line, overflow="ellipsis" if in_a_line else "fold")
        for each in reversed(decisions):  # the newest first: what does not fit is old
            style = _MARKS[each.action][2] if is_verdict(each) else ""
            table.add_row(f"{each.observation.step:,}", Text(verdict_name(each), style), Text(each.reason))
        yield Text()
        yield Text(heading, "bold")
        yield table


def _flow(items: Sequence[Text], width: int) -> RenderResult:
    """Yield lines with as many items as fit; none is broken."""
    line = Text()
    for item in items:
        if line and len(line) + 3 + len(item) > width:
            yield line
            line = Text()
        line.append("   " if line else "").append_text(item)
    yield line


def _curve(lines: Sequence[tuple[str, str]], color: str) -> Text:
    parts = [((label + line[:1], "dim"), (line[1:] + "\n", color)) for label, line in lines]
    text = Text.assemble(*(part for pair in parts for part in pair), no_wrap=True)
    text.rstrip()
    return text


def _news(log: RunLog) -> str:
    """Return how the run is doing."""
    if log.is_ended:
        return "finished"
    if not log.step:
        return "nothing has been reported yet"
    if log.last_time is None:
        return "running"
    seconds = max(time.time() - log.last_time, 0.0)
    since = f"last report {_duration(seconds)} ago"
    return since if seconds > _STALE_SECONDS else f"running, {since}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _counts(decisions: Sequence[Decision]) -> str:
    counted = Counter(each.action.value for each in decisions).most_common()
    discarded = sum(each.discarded_steps for each in decisions)
    words = ", ".join(f"{count:,} {action}" for action, count in counted) or "none"
    return f"{len(decisions):,} decisions: {words}; {discarded:,} steps thrown away"


def _marks(log: RunLog, width: int) -> RenderResult:
    """Yield a line with a letter for everything that stands out, and what the letters mean."""
    columns = width - LABEL_WIDTH
    taken_back = [each for each in log.decisions if is_launch_move(each) and each.discarded_steps]
    events = [
        *((step, _RESUMED) for step in log.resumed),
        *((step, _CHANGED) for step, _ in log.changes),
        *((each.observation.step, _TRIAL) for each in taken_back),
        *((each.observation.step, _MARKS[each.action]) for each in log.decisions if is_verdict(each)),
    ]
    if not events:
        return
    cells: dict[int, tuple[str, str, str]] = {column_of(step, log.step, columns): mark for step, mark in events}
    line = Text("marks".rjust(LABEL_WIDTH - 1) + " ", "dim", no_wrap=True)
    for column in range(max(cells) + 1):
        letter, _, style = cells.get(column, (" ", "", ""))
        line.append(letter, style)
    yield line
    meanings = ", ".join(f"{letter} {word}" for letter, word, _ in dict.fromkeys(mark for _, mark in events))
    told = [meanings, *(f"! step {step:,}: {description}" for step, description in log.changes)]
    yield Padding(Text("\n".join(told), "dim", overflow="fold"), (0, 0, 0, LABEL_WIDTH))
