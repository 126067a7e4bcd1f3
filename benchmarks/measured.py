"""Keep what long suites have measured, one row a run, and print the tables that the documentation quotes.

A suite like `robustness` takes many hours on a small machine. What has been measured once stays in ``docs/measured/``,
so that other seeds and controllers can be added later, and every table can be made again from it:

    autotunenet-bench suite robustness --set "seeds=[0]"
    python benchmarks/measured.py keep results/robustness docs/measured/robustness.csv
    python benchmarks/measured.py table docs/measured/robustness.csv --where mnist_cnn
    autotunenet-bench suite any_lr
    python benchmarks/measured.py launches results/any_lr
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from autotunenet import Decision
from autotunenet_bench.metrics import METRICS
from autotunenet_bench.results import ResultStore, Trace
from autotunenet_bench.statistics import at_worst, mean_ranks

KEY = ("task", "regime", "controller", "seed")
LOSSES = ("post_trigger_val_loss", "final_val_loss")
COLUMNS = (*KEY, "optimizer", "lr", "initial_val_loss", *LOSSES, "failure", "rollback_count", "protocol", "commit")

Row = dict[str, str]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    keep_command = commands.add_parser("keep", help="add the finished runs of a results folder to a file of rows")
    keep_command.add_argument("results", type=Path, help="folder that a suite has written")
    keep_command.add_argument("file", type=Path, help="CSV file; a run that is in it already is replaced")
    keep_command.add_argument("--commit", help="that the runs were made at; default: what is checked out here")
    keep_command.set_defaults(do=lambda args: keep(args.results, args.file, args.commit or checked_out()))
    table_command = commands.add_parser("table", help="print tables in Markdown")
    table_command.add_argument("file", type=Path)
    table_command.add_argument("--where", default="", metavar="TASK", help="only tasks whose name begins so")
    table_command.add_argument("--metric", default=LOSSES[0], choices=LOSSES)
    table_command.add_argument("--by", default="regime", choices=("regime", "start"), help="lines of the first table")
    table_command.add_argument(
        "--controllers", nargs="+", metavar="NAME", help="columns; default: all, where all have run"
    )
    table_command.set_defaults(do=lambda args: table(args.file, args.where, args.metric, args.by, args.controllers))
    launches_command = commands.add_parser("launches", help="print what launches have found, by initial lr")
    launches_command.add_argument("results", type=Path, help="folder that a suite has written")
    launches_command.set_defaults(do=lambda args: launches(args.results))
    args = parser.parse_args()
    args.do(args)


def checked_out() -> str:
    """Return the commit of this checkout."""
    words = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def keep(results: Path, file: Path, commit: str) -> None:
    """Add the finished runs below a folder to the rows of a file."""
    rows = {tuple(row[name] for name in KEY): row for row in read(file)} if file.exists() else {}
    num_before, num_found = len(rows), 0
    for trace in ResultStore(results):
        if trace.finished:
            row = row_of(trace, commit)
            rows[tuple(row[name] for name in KEY)] = row
            num_found += 1
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
    print(f"{file}: {num_found} finished runs, {len(rows) - num_before} of them new; {len(rows)} rows", file=sys.stderr)


def row_of(trace: Trace, commit: str) -> Row:
    """Return what is kept of a run; losses with six digits."""
    task, regime, controller = trace.label
    return {
        "task": task,
        "regime": regime,
        "controller": controller,
        "seed": str(trace.spec["seed"]),
        "optimizer": str(trace.spec["task"]["optimizer"]),
        "lr": f"{trace.spec['task']['lr'] or trace.initial_hyperparams['lr']:g}",
        "initial_val_loss": f"{trace.initial_val['loss']:.6g}",
        **{name: f"{METRICS[name](trace):.6g}" for name in (*LOSSES, "failure", "rollback_count")},
        "protocol": trace.spec["protocol"],
        "commit": commit,
    }


def read(file: Path) -> list[Row]:
    """Return the rows of a file."""
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def table(file: Path, where: str, metric: str, by: str, wanted: list[str] | None) -> None:
    """Print means over cells of medians over seeds, over the runs that every controller has."""
    rows = [row for row in read(file) if row["task"].startswith(where)]
    known = list(dict.fromkeys(row["controller"] for row in rows))
    if unknown := set(wanted or ()) - set(known):
        sys.exit(f"{file}: there are no runs of {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    controllers = [name for name in known if name in (wanted or known)]
    rows = [row for row in rows if row["controller"] in controllers]
    runs: dict[tuple[str, str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        runs[row["task"], row["regime"], row["seed"]][row["controller"]] = row
    common = {run: each for run, each in runs.items() if each.keys() == set(controllers)}
    if not common:
        sys.exit(
            f"{file}: there is no run that all of {', '.join(controllers)} have finished; keep more, or narrow --where"
        )
    cells: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for (task, regime, _), each in common.items():
        for name, row in each.items():
            cells[task, regime][name].append(row)
    costs = {cell: {name: cost(each[name], metric) for name in controllers} for cell, each in cells.items()}
    order = sorted(controllers, key=lambda name: mean(costs[cell][name] for cell in costs))
    seeds = sorted({int(seed) for _, _, seed in common})
    commits = sorted({row["commit"] for each in common.values() for row in each.values()})
    print(f"{len(cells)} cells, seeds {seeds}, {len(common)} runs a method, commits {', '.join(commits)}\n")
    lines: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for task, regime in cells:
        first = next(iter(cells[task, regime].values()))[0]
        lines[regime if by == "regime" else f"{first['optimizer']} {first['lr']}"].append((task, regime))
    print_row("", *order)
    print_row(*["---"] * (len(order) + 1))
    for line, members in [*lines.items(), ("**all**", list(cells))]:
        print_row(line, *marked([mean(costs[cell][name] for cell in members) for name in order]))
    lost = [sum(float(row["failure"]) for cell in cells.values() for row in cell[name]) for name in order]
    print_row(f"failed, of {len(common)}", *(f"{count:.0f}" for count in lost))
    ranks = mean_ranks([[costs[cell][name] for name in order] for cell in cells])
    print_row(f"mean rank in {len(cells)} cells", *(f"{rank:.2f}" for rank in ranks.tolist()))


def launches(results: Path) -> None:
    """Print how runs with AutoTuneNet have ended, and what their launches have found and cost."""
    runs: dict[tuple[str, str, float], list[Trace]] = defaultdict(list)
    for trace in ResultStore(results):
        if trace.finished and trace.spec["controller"]["name"] == "autotunenet":
            task = trace.spec["task"]
            runs[task["name"], task["optimizer"], task["lr"] or trace.initial_hyperparams["lr"]].append(trace)
    print_row(
        "initial lr", "accuracy, median (worst)", "final loss", "lr found", "launch ends at, latest", "discarded, most"
    )
    print_row(*["---"] * 6)
    for (task, optimizer, lr), traces in sorted(runs.items()):
        accuracies = [100 * METRICS["final_val_accuracy"](trace) for trace in traces]
        ends = [end for end in map(launch_of, traces) if end is not None]
        print_row(
            f"{task}, {optimizer} {lr:g}",
            f"{median(accuracies):.1f} % ({min(accuracies):.1f})",
            f"{median(METRICS['final_val_loss'](trace) for trace in traces):.3f}",
            f"{median(end.applied['lr'] for end in ends):.3g}" if ends else "-",
            f"{max(end.observation.step for end in ends)}" if ends else "-",
            f"{max(METRICS['discarded_steps'](trace) for trace in traces):.0f}",
        )


def launch_of(trace: Trace) -> Decision | None:
    """Return the decision that has ended a run's launch; of several launches, the last; None: there was none."""
    return next((one for one in reversed(trace.decisions) if "The launch ends after" in one.reason), None)


def cost(rows: list[Row], metric: str) -> float:
    """Return the median over seeds; a run counts for no more than the loss it began with."""
    initial = [float(row["initial_val_loss"]) for row in rows]
    return median(at_worst([float(row[metric]) for row in rows], initial).tolist())


def mean(values: Iterable[float]) -> float:
    """Return the arithmetic mean."""
    values = list(values)
    return sum(values) / len(values)


def marked(values: list[float]) -> list[str]:
    """Return the values as text, the lowest in bold."""
    return [f"**{value:.3f}**" if value == min(values) else f"{value:.3f}" for value in values]


def print_row(*words: str) -> None:
    """Print a line of a table."""
    print(f"| {' | '.join(words)} |")


if __name__ == "__main__":
    main()
