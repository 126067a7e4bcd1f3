"""The tables of the report: searches at equal cost, what each found and took, and the predictions of surrogates."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from autotunenet.hpo import Trial, TrialState
from autotunenet_bench.report.hpo.costs import EqualCost, Target, amount, cost_to, is_known, mean_text, total
from autotunenet_bench.report.hpo.points_figures import short, tick_text
from autotunenet_bench.report.hpo.predictions import LEVELS, Predictions
from autotunenet_bench.report.hpo.records import Goal, SearchRun, Study
from autotunenet_bench.report.sections import Cell, Table, plain

_TEST_WORDS = {"accuracy": "test accuracy", "f1": "test F1", "top5_accuracy": "test top-5 accuracy"}


def equal_cost_table(study: Study, equal: EqualCost) -> Table:
    """Return the searches at the cost that all of them had, the best first."""
    best = next((standing.mean for standing in equal.standings if standing.mean is not None), None)
    rows = []
    for standing in equal.standings:
        known = [value for value in standing.values if value is not None]
        mean = "no result yet" if standing.mean is None else study.goal.text(standing.mean)
        spread = _spread(known, study.goal) if len(known) > 1 else "n/a"
        is_best = standing.mean is not None and standing.mean == best
        rows.append((Cell(standing.search, False), Cell(mean, is_best), *plain(spread, len(standing.values))))
    title = f"Within {amount(equal.budget, equal.unit)}"
    return Table(
        title=title, head=("search", f"best {study.goal.title}", "lowest to highest seed", "seeds"), rows=tuple(rows)
    )


def searches_table(study: Study, target: Target) -> Table:
    """Return what every search found and took in all; means over seeds."""
    tests, units = _test_keys(study), _units(study)
    near = study.goal.text(target.near)
    head = ["search", "trials", "best", *(_TEST_WORDS.get(key, f"test {key}") for key in tests)]
    head += [*({"flops": "FLOPs"}.get(unit, unit) for unit in units), f"trials to {near}"]
    head += [f"{'FLOPs' if 'flops' in units else 'steps'} to {near}"]
    means = {name: _mean_best(runs, study.goal) for name, runs in study.searches.items()}
    best = study.goal.best(list(means.values()))
    rows = [_row(runs, study, target, means[name] == best) for name, runs in study.searches.items()]
    note = (
        "Means over seeds. Of every search its best trial counts; steps, seconds and FLOPs are sums over its trials. "
        f"{near} is {_near_words(study.goal)} the best point trained"
        f"{', of all there are' if target.is_optimum else ''}."
    )
    title = f"What every search found, by {study.goal.title}, and took in all"
    return Table(title=title, head=tuple(head), rows=tuple(rows), note=note)


def chosen_table(study: Study) -> Table:
    """Return the point that every search chose; of several seeds the one that chose best."""
    names = list(study.space)
    rows = []
    for name, runs in study.searches.items():
        trial = _best_of(runs, study.goal)
        assert trial.value is not None
        values = [tick_text(trial.params[key]) for key in names]
        rows.append(plain(name, *values, study.goal.text(trial.value)))
    return Table(
        title="What every search chose", head=("search", *map(short, names), study.goal.title), rows=tuple(rows)
    )


def predictions_table(found: Sequence[Predictions], goal: Goal) -> Table:
    """Return how right surrogates were about points before they were trained."""
    levels = [f"in the {100 * level:.0f} % interval" for level in LEVELS]
    rows = [
        plain(
            one.search,
            len(one.mean),
            "n/a" if one.spearman is None else f"{one.spearman:.2f}",
            f"{100 * one.rmse:.2f} points" if goal.is_share else f"{one.rmse:.3g}",
            *(f"{one.num_inside(level)} of {len(one.mean)}" for level in LEVELS),
        )
        for one in found
    ]
    note = (
        "Predictions were made before the point was trained, from the results until then. Intervals are of a normal "
        "distribution with the predicted mean and standard deviation; of 20 calibrated predictions 10, 16 and 19 lie "
        "inside. A search that goes where it expects the best is tried there and not elsewhere."
    )
    head = ("search", "n", "Spearman rank correlation", "RMSE", *levels)
    return Table(title="Predictions against results", head=head, rows=tuple(rows), note=note)


def _row(runs: Sequence[SearchRun], study: Study, target: Target, is_best: bool) -> tuple[Cell, ...]:
    goal, tests, units = study.goal, _test_keys(study), _units(study)
    chosen = [trial for run in runs if (trial := run.best(goal)) is not None]
    num_trials = f"{fmean(len(run.trials) for run in runs):g}"
    num_failed = sum(trial.state is TrialState.FAILED for run in runs for trial in run.trials)
    failed = f" ({num_failed} of all failed)" if num_failed else ""
    unit = "flops" if "flops" in units else "steps"
    text = "{:.2e}" if unit == "flops" else "{:,.0f}"
    return (
        *plain(runs[0].search, num_trials + failed),
        Cell(goal.text(_mean_best(runs, goal)), is_best),
        *plain(*(_mean_test(chosen, key) for key in tests)),
        *plain(*(_amount(fmean(total(run, one) for run in runs), one) for one in units)),
        *plain(mean_text([cost_to(run, "trials", goal, target.near) for run in runs], "{:.3g}")),
        *plain(mean_text([cost_to(run, unit, goal, target.near) for run in runs], text)),
    )


def _units(study: Study) -> list[str]:
    return [unit for unit in ("steps", "seconds", "flops") if is_known(study, unit)]


def _amount(value: float, unit: str) -> str:
    return f"{value:.2e}" if unit == "flops" else f"{value:,.0f}"


def _near_words(goal: Goal) -> str:
    return "half a point from" if goal.is_share else "a hundredth from"


def _spread(values: Sequence[float], goal: Goal) -> str:
    return f"{goal.text(min(values))} to {goal.text(max(values))}"


def _mean_best(runs: Sequence[SearchRun], goal: Goal) -> float:
    return fmean(trial.value for run in runs if (trial := run.best(goal)) and trial.value is not None)


def _best_of(runs: Sequence[SearchRun], goal: Goal) -> Trial:
    found = {trial.value: trial for run in reversed(runs) if (trial := run.best(goal)) and trial.value is not None}
    return found[goal.best(list(found))]


def _test_keys(study: Study) -> list[str]:
    """Return the test metrics, without the loss, that all done trials have."""
    rows = [trial.metrics for trial in study.points]
    keys = [key for key in rows[0] if key.startswith("test_") and key != "test_loss"] if rows else []
    return [key.removeprefix("test_") for key in keys if all(key in row for row in rows)]


def _mean_test(chosen: Sequence[Trial], key: str) -> str:
    return f"{100 * fmean(float(trial.metrics[f'test_{key}']) for trial in chosen):.2f} %"
