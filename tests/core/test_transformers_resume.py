"""A training with `transformers.Trainer` that goes on from a checkpoint ends as one that was never interrupted."""

from __future__ import annotations

import shutil
from pickle import PicklingError

import pytest
import torch
from trainers import bert, entries, make, train, tuned, weights
from transformers import TrainerCallback

from autotunenet.adapters._trainer_state import FILE_NAME, save_tuner

pytestmark = pytest.mark.xdist_group("transformers")

ARGS = {"max_steps": 100, "learning_rate": 3.0, "save_strategy": "steps", "save_steps": 20, "logging_steps": 10}
LAUNCH_ENDS_AFTER = 40


class Stop(TrainerCallback):
    """Ends a training early, as a kill does: without the Trainer's own end."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def interrupted(folder, step, **args):
    """Train until before a step, and leave what a killed process leaves."""
    with pytest.raises(KeyboardInterrupt):
        tuned(folder, callbacks=[Stop(step)], **{**ARGS, **args})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One that was never interrupted; its checkpoints stay."""
    folder = tmp_path_factory.mktemp("whole")
    callback, trainer = tuned(folder, **ARGS)
    launch = [decision.observation.step for decision in callback.tuner.history if decision.action.value == "probe"]
    assert launch[-1] > LAUNCH_ENDS_AFTER
    return folder, callback, trainer


def records(callback):
    return [decision.to_record() for decision in callback.tuner.history]


def without_times(trainer):
    return [row for row in trainer.state.log_history if "train_runtime" not in row and "eval_runtime" not in row]


def check_same(whole, callback, trainer):
    assert torch.equal(weights(trainer), weights(whole[2]))
    assert records(callback) == records(whole[1])
    assert without_times(trainer) == without_times(whole[2])


@pytest.mark.parametrize("step", [20, 80], ids=["in the launch", "after it"])
def test_a_new_process_goes_on_bit_for_bit(step, whole, tmp_path):
    interrupted(tmp_path, step + 7)
    torch.rand(5)  # a new process has another state of the generators
    check_same(whole, *tuned(tmp_path, resume={"resume_from_checkpoint": True}, **ARGS))


def test_a_schedule_that_follows_the_evaluations_and_the_best_model(tmp_path):
    args = {
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0, "threshold": 0.2},
        "eval_strategy": "steps",
        "eval_steps": 20,
        "load_best_model_at_end": True,
        "save_total_limit": 1,
    }
    reference = (None, *tuned(tmp_path / "whole", **{**ARGS, **args}))
    interrupted(tmp_path / "cut", 63, **args)
    callback, trainer = tuned(tmp_path / "cut", resume={"resume_from_checkpoint": True}, **{**ARGS, **args})
    assert torch.equal(weights(trainer), weights(reference[2]))
    assert records(callback) == records(reference[1])


# -- which checkpoint? -----------------------------------------------------------------------------------------------


@pytest.fixture
def moved(whole, tmp_path):
    """A checkpoint that lies outside of the output folder."""
    return shutil.copytree(whole[0] / "checkpoint-80", tmp_path / "elsewhere")


def go_on(folder, checkpoint, **options):
    return tuned(folder, options=options, resume={"resume_from_checkpoint": str(checkpoint)}, **ARGS)


def test_a_checkpoint_elsewhere_has_to_be_named_to_the_callback_too(whole, moved, tmp_path):
    with pytest.raises(ValueError, match=r"there is no autotunenet_state\.pt in .*\(resume_from_checkpoint=\.\.\.\)"):
        go_on(tmp_path, moved)
    check_same(whole, *go_on(tmp_path, moved, resume_from_checkpoint=moved))


def test_the_folder_that_the_arguments_name_is_looked_into(whole, moved, tmp_path):
    resume = {"resume_from_checkpoint": str(moved)}
    check_same(whole, *tuned(tmp_path, resume=resume, **ARGS, **resume))


def test_another_trainings_state_is_never_loaded(whole, moved, tmp_path):
    tuned(tmp_path, **{**ARGS, "seed": 1, "max_steps": 80})
    with pytest.raises(ValueError, match="is not of the weights that the Trainer has loaded"):
        go_on(tmp_path, moved)
    check_same(whole, *go_on(tmp_path, moved, resume_from_checkpoint=moved))


def starts(trainer):
    rows = entries(trainer, "autotunenet/action")
    return [(row["step"], row["autotunenet/reason"]) for row in rows if row["autotunenet/action"] == "start"]


def test_a_state_that_was_lost_is_an_error_unless_the_tuner_may_start_afresh(moved, tmp_path):
    (moved / "autotunenet_state.pt").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="is damaged"):
        go_on(tmp_path, moved, resume_from_checkpoint=moved)
    (moved / "autotunenet_state.pt").unlink()
    with pytest.raises(ValueError, match="killed before the file was written"):
        go_on(tmp_path, moved, resume_from_checkpoint=moved)
    _, trainer = go_on(tmp_path, moved, resume_from_checkpoint=False)
    assert starts(trainer)[-1] == (80, "The tuner starts from lr 3, over 20 steps.")


def test_a_training_that_had_no_tuner_gets_one_with_a_warning(tmp_path, caplog):
    train(make(tmp_path, **{**ARGS, "max_steps": 20}))
    _, trainer = tuned(tmp_path, resume={"resume_from_checkpoint": True}, **ARGS)
    assert starts(trainer) == [(20, "The tuner starts from lr 3, over 80 steps.")]
    assert "is of a training without AutoTuneNetCallback: the tuner starts afresh" in caplog.text


def test_a_checkpoint_of_the_model_only_has_no_state(tmp_path, caplog):
    interrupted(tmp_path, 22, save_only_model=True)
    assert not list(tmp_path.rglob("autotunenet_state.pt"))
    _, trainer = tuned(tmp_path, resume={"resume_from_checkpoint": True}, **ARGS)
    assert [step for step, _ in starts(trainer)] == [0, 20]
    assert "holds the model only: the tuner starts afresh" in caplog.text


def test_a_state_that_cannot_be_written_leaves_the_folder_as_it_was(tmp_path):
    save_tuner(tmp_path, 5, bert(), {"history": []})
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises((AttributeError, PicklingError)):
        save_tuner(tmp_path, 5, bert(), {"history": lambda: None})
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).read_bytes() == before
