"""The callback for `transformers.Trainer` sees what is trained on, scales the schedule, and leaves no trace."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from torch.nn import functional
from trainers import DATA, bert, entries, make, train, tuned
from transformers import GPT2Config, GPT2LMHeadModel, SchedulerType, Trainer, TrainerCallback

from autotunenet import AutoTuneNet
from autotunenet.adapters import transformers as adapter
from autotunenet.adapters._trainer_loss import OutputLoss
from autotunenet.adapters.transformers import AutoTuneNetCallback
from autotunenet.launch import Launch

pytestmark = pytest.mark.xdist_group("transformers")


def gpt2():
    sizes = {"vocab_size": 20, "n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 8}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


TEXTS = [{"input_ids": row["input_ids"], "labels": [-100, 3, -100 if n % 3 else 5]} for n, row in enumerate(DATA)]


def of_all_items(outputs, labels, num_items_in_batch=None):
    return functional.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


class OfLogits(Trainer):
    """Trains on what the model does not return."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = 2 * functional.cross_entropy(outputs.logits, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


class WithPenalty(Trainer):
    """Trains on more than what the model returns."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        return (loss + 1, outputs) if return_outputs else loss + 1


class Halved(Trainer):
    """Trains on half of what the model returns, averaged over micro-batches."""

    loss_is_scaled_for_ga = False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True)
        return (loss / 2, outputs) if return_outputs else loss / 2


def check_losses(trainer):
    """The Trainer's own log of every step is what the tuner was told."""
    rows = entries(trainer, "loss")
    assert len(rows) == 12
    for row in rows:
        assert row["autotunenet/loss"] == pytest.approx(row["loss"], rel=1e-6)


# -- the loss --------------------------------------------------------------------------------------------------------

RETURNED = {
    "one batch a step": {},
    "averaged over micro-batches": {"gradient_accumulation_steps": 3, "kind": Halved},
    "added up over micro-batches": {"gradient_accumulation_steps": 3, "make_model": gpt2, "data": TEXTS},
    "bfloat16, activations computed again": {"bf16": True, "activation_checkpointing": True},
}
OTHERS = {
    "label smoothing": {"label_smoothing_factor": 0.1},
    "compute_loss_func": {"given": {"compute_loss_func": of_all_items}, "gradient_accumulation_steps": 3},
    "a compute_loss of the logits": {"kind": OfLogits},
}


@pytest.mark.parametrize("attach", [False, True], ids=["alone", "attached"])
@pytest.mark.parametrize("args", RETURNED.values(), ids=RETURNED.keys())
def test_the_loss_is_what_the_step_goes_down_from(args, attach, tmp_path):
    make_model, args = args.get("make_model", bert), {k: v for k, v in args.items() if k != "make_model"}
    check_losses(tuned(tmp_path, attach=attach, model=make_model(), **args)[1])


@pytest.mark.parametrize("args", OTHERS.values(), ids=OTHERS.keys())
def test_a_loss_that_the_model_does_not_return_asks_for_the_trainer(args, tmp_path):
    with pytest.raises(RuntimeError, match=r"callback\.attach\(trainer\)"):
        tuned(tmp_path, **args)
    check_losses(tuned(tmp_path, attach=True, **args)[1])


def test_a_loss_beside_the_one_that_the_model_returns_is_noticed(tmp_path, caplog):
    tuned(tmp_path, kind=WithPenalty)
    said = [record.getMessage() for record in caplog.records if record.name == adapter.__name__]
    assert len(said) == 1
    assert "callback.attach(trainer)" in said[0]
    caplog.clear()
    check_losses(tuned(tmp_path, kind=WithPenalty, attach=True)[1])
    assert not [record for record in caplog.records if record.name == adapter.__name__]


class Returning(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, factor):
        return (self.weight * factor, "more")


def test_losses_are_weighed_as_the_gradient_weighs_them_and_its_scale_is_taken_out():
    model = Returning()
    source = OutputLoss(model)
    for factor, weight in ((1.0, 0.25), (2.0, 0.75), (math.nan, 0.0)):
        (model(factor)[0] * weight * 1024).backward()
    with torch.no_grad():
        model(100.0)
    model.eval()(100.0)[0].backward()
    assert source.take(1024) == 3 * (0.25 + 2 * 0.75)
    with pytest.raises(RuntimeError, match="has seen no loss"):
        source.take(1.0)
    source.close()
    model.train()(1.0)[0].backward()
    with pytest.raises(RuntimeError):
        source.take(1.0)


class Poison(TrainerCallback):
    """Ruins the weights after a step, as a bad update does."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 95:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)


def test_the_log_tells_the_truth_where_the_trainers_filter_does_not(tmp_path, caplog):
    without = train(make(tmp_path, [Poison()], max_steps=97))
    assert math.isfinite(entries(without, "loss")[-1]["loss"])  # of weights that are not finite
    callback, trainer = tuned(tmp_path, callbacks=[Poison()], max_steps=110)
    row = next(row for row in entries(trainer, "loss") if row["step"] == 96)
    assert math.isfinite(row["loss"])
    assert not math.isfinite(row["autotunenet/loss"])
    assert "not finite; the loss of" in caplog.text
    events = [row["autotunenet/action"] for row in entries(trainer, "autotunenet/action")]
    assert "rollback" in events
    assert callback.tuner.metrics()["autotunenet/rollbacks"] >= 1
    assert all(torch.isfinite(param).all() for param in trainer.model.parameters())


# -- the schedule ----------------------------------------------------------------------------------------------------


class Rates(TrainerCallback):
    """Writes down the lr in the groups before a step, and the one that the step used."""

    def __init__(self):
        self.shown, self.used = [], []

    def on_train_begin(self, args, state, control, optimizer=None, **kwargs):
        optimizer.optimizer.register_step_pre_hook(lambda inner, *_: self.used.append(inner.param_groups[0]["lr"]))

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        self.shown.append(optimizer.param_groups[0]["lr"])


SCHEDULE_ARGS = {
    "cosine_with_restarts": {"num_cycles": 2},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 30},
    "greedy": {"patience": 1},
    "reduce_lr_on_plateau": {"patience": 0, "threshold": 0.5},
}


@pytest.mark.parametrize("name", [kind.value for kind in SchedulerType])
def test_every_schedule_plays_on_scaled_to_the_lr_that_was_found(name, tmp_path):
    args = {
        "lr_scheduler_type": name,
        "lr_scheduler_kwargs": SCHEDULE_ARGS.get(name),
        "warmup_steps": 5,
        "max_steps": 84,
        "learning_rate": 0.5,
        "logging_strategy": "no",
        "metric_for_best_model": "loss",
        **({"eval_strategy": "steps", "eval_steps": 10} if name in ("greedy", "reduce_lr_on_plateau") else {}),
    }
    rates = Rates()
    callback, _ = tuned(
        tmp_path, callbacks=[rates], options={"bayesian": False, "attribution": False, "land": False}, **args
    )
    moves = [decision for decision in callback.tuner.history if decision.action.value == "probe"]
    end, peak = moves[-1].observation.step, moves[-1].applied["lr"]
    assert moves[-1].reason.endswith(f"lr {peak:.3g}.")
    assert peak != 0.5
    # The groups show what the schedule says, as without a tuner, and the steps use the same times a factor.
    assert rates.used[end:] == pytest.approx([lr * peak / 0.5 for lr in rates.shown[end:]], rel=1e-12)
    if name not in ("greedy", "reduce_lr_on_plateau"):  # these follow the evaluations, which are better with a tuner
        alone = Rates()
        train(make(tmp_path, [alone], **args))
        assert rates.shown == alone.shown


def test_a_schedule_that_never_comes_down_is_landed_unless_the_user_forbids_it(tmp_path):
    args = {"lr_scheduler_type": "constant", "max_steps": 84, "logging_strategy": "no"}
    for options, comes_down in (({}, True), ({"land": False}, False)):
        rates = Rates()
        tuned(tmp_path, callbacks=[rates], options={"bayesian": False, **options}, **args)
        assert (rates.used[-1] < 0.2 * rates.used[43]) is comes_down
        assert set(rates.shown) == {0.003}


# -- evaluation and logs ---------------------------------------------------------------------------------------------


def test_the_tuner_observes_the_metric_that_was_asked_for(tmp_path, caplog):
    def share_right(predictions):
        return {"right": float((predictions.predictions.argmax(1) == predictions.label_ids).mean())}

    args = {"eval_strategy": "steps", "eval_steps": 6}
    callback, trainer = tuned(tmp_path, **args)
    assert callback.tuner.metrics()["autotunenet/validation"] == entries(trainer, "eval_loss")[-1]["eval_loss"]
    options, given = {"metric": "eval_right", "mode": "max"}, {"compute_metrics": share_right}
    callback, trainer = tuned(tmp_path, options=options, given=given, **args)
    assert callback.tuner.metrics()["autotunenet/validation"] == entries(trainer, "eval_right")[-1]["eval_right"]
    trainer.evaluate()  # after the training: nobody is there to observe it
    assert "no evaluation had" not in caplog.text
    tuned(tmp_path, options={"metric": "accuracy"}, **args)
    assert "no evaluation had the metric accuracy" in caplog.text
    assert "there were epoch, eval_loss" in caplog.text


@pytest.mark.parametrize("attach", [True, False], ids=["attached", "given before the reporter"])
def test_reporters_get_the_numbers_of_a_callback_that_comes_before_them(attach, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from transformers.integrations import TensorBoardCallback

    if attach:
        tuned(tmp_path, attach=True, report_to="tensorboard", logging_steps=4)
    else:
        tuned(tmp_path, callbacks=[TensorBoardCallback()], logging_steps=4)
    events = EventAccumulator(str(next(tmp_path.rglob("events.out.tfevents*")).parent))
    events.Reload()
    for name in ("lr", "multiplier", "health", "rollbacks", "loss"):
        assert [event.step for event in events.Scalars(f"train/autotunenet/{name}")] == [4, 8, 12]


def test_every_decision_that_touches_the_training_is_in_the_trainers_log(tmp_path):
    callback, trainer = tuned(tmp_path, max_steps=90, learning_rate=3.0, logging_steps=30)
    rows = entries(trainer, "autotunenet/reason")
    assert rows[0]["autotunenet/reason"] == "The tuner starts from lr 3, over 90 steps."
    decisions = [decision for decision in callback.tuner.history if decision.action.value not in ("hold", "adapt")]
    assert [row["autotunenet/reason"] for row in rows[1:]] == [decision.reason for decision in decisions]
    assert len(rows) > 3
    assert [row["step"] for row in entries(trainer, "autotunenet/lr")] == [30, 60, 90]


# -- a training's life -----------------------------------------------------------------------------------------------


def check_untouched(trainer):
    assert "training_step" not in vars(trainer)
    assert not trainer.model._forward_hooks
    inner = trainer.optimizer.optimizer
    assert not inner._optimizer_step_pre_hooks
    assert not inner._optimizer_step_post_hooks


@pytest.mark.parametrize("attach", [False, True], ids=["alone", "attached"])
def test_another_training_begins_afresh_and_no_hook_stays(attach, tmp_path):
    callback, trainer = tuned(tmp_path, attach=attach, options={"launch": Launch()}, max_steps=90)
    check_untouched(trainer)
    first = callback.tuner
    with pytest.raises(RuntimeError, match="closed"):
        first.step(1.0)
    train(trainer)
    check_untouched(trainer)
    assert callback.tuner is not first
    assert callback.tuner.history[0].reason.startswith("The loss starts at")  # a launch of its own
    AutoTuneNet(trainer.model, trainer.optimizer.optimizer).close()  # nobody holds the optimizer


class Stumble(TrainerCallback):
    """Raises once."""

    is_due = True

    def on_step_end(self, args, state, control, **kwargs):
        if self.is_due and state.global_step == 5:
            self.is_due = False
            raise KeyboardInterrupt


def test_a_training_after_one_that_was_interrupted(tmp_path):
    trainer = make(tmp_path, [AutoTuneNetCallback(), Stumble()])
    with pytest.raises(KeyboardInterrupt):
        train(trainer)
    train(trainer)
    check_untouched(trainer)
    assert len(entries(trainer, "loss")) == 12


def test_the_class_will_do(tmp_path):
    trainer = train(make(tmp_path, [AutoTuneNetCallback]))
    callback = next(found for found in trainer.callback_handler.callbacks if isinstance(found, AutoTuneNetCallback))
    assert callback.tuner.history
    check_losses(trainer)


def test_two_callbacks_in_one_trainer_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has a tuner already"):
        train(make(tmp_path, [AutoTuneNetCallback(), AutoTuneNetCallback()]))


def test_trials_of_a_search_each_have_a_tuner(tmp_path):
    def made():
        return bert()

    callback = AutoTuneNetCallback()
    given = {"model_init": made}
    trainer = make(tmp_path, [callback], model=False, given=given, save_strategy="steps", save_steps=6, max_steps=6)
    tuners = []
    trainer.hyperparameter_search(
        lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2)},
        compute_objective=lambda metrics: tuners.append(callback.tuner) or metrics["eval_loss"],
        n_trials=2,
        backend="optuna",
    )
    assert len({id(tuner) for tuner in tuners}) == 2


DRIVER = """
import json, sys
from trainers import entries, tuned, weights
from autotunenet.adapters.transformers import AutoTuneNetCallback
callback, trainer = tuned(sys.argv[1], max_steps=90, learning_rate=3.0, ddp_backend="gloo")
losses = {row["step"]: row["loss"] for row in entries(trainer, "loss")}
decisions = [decision.to_record() for decision in callback.tuner.history]
print(json.dumps([trainer.args.world_size, weights(trainer).tolist(), decisions, losses]))
"""


@pytest.mark.slow
def test_two_processes_decide_alike_and_from_the_loss_of_both(tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    here = os.pathsep.join([str(Path(__file__).parent), str(Path(adapter.__file__).parents[2])])
    shared = {**os.environ, "PYTHONPATH": here, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    first, second = (json.loads(output.splitlines()[-1]) for output in outputs)
    assert first[0] == 2
    assert first[:3] == second[:3]
    probes = [decision for decision in first[2] if decision["action"] == "probe"]
    assert len(probes) > 3
    for probe in probes:  # the metric of a trial is the loss of its last step, which the Trainer gathers too
        assert probe["metric"] == pytest.approx(first[3][str(probe["step"])], rel=1e-5)


# -- what cannot be --------------------------------------------------------------------------------------------------


def test_an_option_that_is_none_is_refused_at_once():
    with pytest.raises(TypeError, match="takes no 'intervall'; did you mean 'interval'"):
        AutoTuneNetCallback(intervall=5)
    with pytest.raises(TypeError, match="takes no 'total_steps'"):
        AutoTuneNetCallback(total_steps=5)


@pytest.mark.parametrize(
    ("kind", "args", "why"),
    [
        (DistributedType.DEEPSPEED, {}, "DeepSpeed"),
        (DistributedType.FSDP, {}, "in shards"),
        (DistributedType.MEGATRON_LM, {}, "Megatron"),
        (DistributedType.XLA, {}, "XLA"),
        (DistributedType.NO, {"optim": "adalomo"}, "in the backward pass"),
        (DistributedType.NO, {"optim": "galore_adamw_layerwise"}, "in the backward pass"),
        (DistributedType.NO, {"enable_jit_checkpoint": True}, "enable_jit_checkpoint"),
    ],
)
def test_a_training_in_which_a_tuner_would_be_wrong_is_refused(kind, args, why, tmp_path):
    from transformers import TrainingArguments

    optimizer = SimpleNamespace(accelerator_state=SimpleNamespace(distributed_type=kind))
    with pytest.raises(ValueError, match=why):
        adapter._check_supported(TrainingArguments(str(tmp_path), use_cpu=True, **args), bert(), optimizer)


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    spec = importlib.util.spec_from_file_location("without_transformers", adapter.__file__)
    with pytest.raises(ImportError, match=r"pip install 'autotunenet\[transformers\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
