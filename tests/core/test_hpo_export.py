"""Trials as a study of Optuna: its own tools find in it what was measured."""

import math
import sys

import matplotlib as mpl
import optuna
import pytest

from autotunenet import Categorical, Float, Int, Ordinal, SearchSpace
from autotunenet.hpo import Cost, RandomSearch, SuccessiveHalving, Trial, TrialState, to_optuna_study

mpl.use("Agg")

SPACE = SearchSpace(
    {
        "lr": Float(1e-5, 1.0, log=True),
        "depth": Int(1, 4),
        "batch": Ordinal((16, 32, 256)),
        "share": Ordinal((0.1, 0.2, 0.5)),
        "layers": Categorical(((64,), (64, 64))),
    }
)


def loss(params):
    """The lr decides, the depth hardly matters, and the rest does not."""
    return (math.log10(params["lr"]) + 2) ** 2 + 0.01 * params["depth"]


@pytest.fixture(scope="module")
def search():
    search = RandomSearch(SPACE, seed=1)
    for number in range(30):
        params = search.ask().params
        search.tell(
            number,
            None if number == 3 else loss(params),
            error="out of memory" if number == 3 else "",
            metrics={"accuracy": 0.5, "epochs": [1, 2]},
            cost=Cost(steps=10, seconds=90.0),
        )
    search.ask()
    return search


def test_every_trial_is_there_with_what_is_known_of_it(search):
    study = to_optuna_study(search, name="mine")
    assert (study.study_name, study.direction) == ("mine", optuna.study.StudyDirection.MINIMIZE)
    states = optuna.trial.TrialState
    assert [trial.state for trial in study.trials] == [
        *[states.COMPLETE] * 3, states.FAIL, *[states.COMPLETE] * 26, states.RUNNING,
    ]  # fmt: skip
    for trial, own in zip(study.trials, search.trials, strict=True):
        assert trial.value == own.value
        assert trial.params == {**own.params, "layers": repr(own.params["layers"])}
    told, failed, pending = study.trials[0], study.trials[3], study.trials[30]
    assert told.user_attrs == {
        "metrics.accuracy": 0.5, "metrics.epochs": [1, 2], "cost.steps": 10, "cost.seconds": 90.0,
    }  # fmt: skip
    assert failed.user_attrs["error"] == "out of memory"
    assert told.duration.total_seconds() == 90.0
    assert pending.datetime_complete is None
    assert study.best_trial.number == search.best.number
    assert study.best_value == search.best.value


def test_ranges_and_choices_keep_their_kind(search):
    distributions = to_optuna_study(search).trials[0].distributions
    assert distributions == {
        "lr": optuna.distributions.FloatDistribution(1e-5, 1.0, log=True),
        "depth": optuna.distributions.IntDistribution(1, 4),
        "batch": optuna.distributions.IntDistribution(16, 256, log=True),
        "share": optuna.distributions.FloatDistribution(0.1, 0.5),
        "layers": optuna.distributions.CategoricalDistribution(("(64,)", "(64, 64)")),
    }


def test_the_direction_is_that_of_the_search():
    search = RandomSearch(SPACE, direction="maximize")
    for value in (1.0, 3.0, 2.0):
        search.tell(search.ask().number, value)
    assert to_optuna_study(search).best_trial.number == search.best.number == 1


def test_trials_alone_need_a_space_and_a_direction(search):
    with pytest.raises(ValueError, match="space and direction; give both"):
        to_optuna_study(search.trials, SPACE)
    assert to_optuna_study(iter(search.trials), SPACE, "minimize").best_trial.number == search.best.number


def test_optuna_finds_what_is_important(search):
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0, n_trees=8)
    importance = optuna.importance.get_param_importances(to_optuna_study(search), evaluator=evaluator)
    assert importance.keys() == SPACE.keys()
    assert importance["lr"] > 0.8


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "plot", ["plot_optimization_history", "plot_slice", "plot_parallel_coordinate", "plot_timeline", "plot_edf"]
)
def test_optuna_plots_it(search, plot):
    axes = getattr(optuna.visualization.matplotlib, plot)(to_optuna_study(search))
    figure = (axes[0] if hasattr(axes, "__len__") else axes).figure
    figure.canvas.draw()
    mpl.pyplot.close(figure)


def test_a_file_keeps_it(search, tmp_path):
    url, few = f"sqlite:///{tmp_path / 'trials.db'}", search.trials[:5]
    written = to_optuna_study(few, SPACE, "minimize", storage=url, name="first")
    read = optuna.load_study(study_name="first", storage=url)
    assert len(read.trials) == 5
    assert [t.params for t in read.trials] == [t.params for t in written.trials]
    assert [t.user_attrs for t in read.trials] == [t.user_attrs for t in to_optuna_study(search).trials[:5]]
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        to_optuna_study(search, storage=url, name="first")
    assert (
        to_optuna_study(few, SPACE, "maximize", storage=url, name="second").best_trial.number != read.best_trial.number
    )


def test_trials_of_smaller_budgets_are_pruned_and_larger_ones_have_their_values():
    search = SuccessiveHalving(RandomSearch(SPACE, seed=0), min_budget=1, max_budget=4, eta=2)
    for _ in range(20):
        trial = search.ask()
        search.tell(trial.number, loss(trial.params) - trial.budget / 100)  # at a smaller budget never the lower loss
    search.ask()
    study = to_optuna_study(search)
    assert study.best_trial.number == search.best.number
    assert {trial.user_attrs["budget"] for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE])} == {4}
    values, trial = {}, search.best
    while trial is not None:
        values[trial.budget] = trial.value
        trial = None if trial.parent is None else search.trials[trial.parent]
    assert study.best_trial.intermediate_values == values
    assert list(values) == [4, 2, 1]


def test_a_part_of_the_trials_may_lack_parents():
    trial = Trial(
        number=7, params=SPACE.from_unit([0.5] * len(SPACE)), budget=2.5, parent=3, state=TrialState.DONE, value=1.0
    )
    assert to_optuna_study([trial], SPACE, "minimize").trials[0].intermediate_values == {}


def test_without_optuna_it_is_said_what_is_missing(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"to_optuna_study needs Optuna, .*pip install 'optuna>=5.0'"):
        to_optuna_study(search)
