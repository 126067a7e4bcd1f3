"""AutoTuneNet as a callback of Lightning: real trainers, tiny models."""

import csv
import doctest
import importlib
import sys
from pathlib import Path

import pytest
import torch

from autotunenet import Action, Health

pytestmark = [pytest.mark.xdist_group("lightning"), pytest.mark.slow]


@pytest.fixture(scope="module")
def runs():
    """Imported by the process that runs these tests, and by no other that collects them."""
    return importlib.import_module("lightning_runs")


@pytest.fixture(scope="module")
def adapter(runs):
    return importlib.import_module("autotunenet.adapters.lightning")


def test_the_docstring_runs(adapter):
    done = doctest.testmod(adapter)
    assert done.attempted > 0
    assert done.failed == 0


def test_a_training_is_the_plain_loop_with_a_tuner_bit_for_bit(runs):
    module, by_hand, callback = runs.Regression(), runs.Regression(), runs.AutoTuneNetCallback()
    trainer = runs.fit(module, callback, val=True)  # a sanity check comes first
    tuner = runs.train_by_hand(by_hand)
    assert torch.equal(module.weight, by_hand.weight)
    assert list(callback.tuner.history) == list(tuner.history)
    assert any("launch ends" in reason for reason in runs.reasons(tuner))
    assert module.error < 0.05
    assert trainer.global_step == 120


def test_micro_batches_are_one_step_and_their_losses_one_loss(runs):
    module, by_hand, callback = runs.Regression(), runs.Regression(), runs.AutoTuneNetCallback()
    trainer = runs.fit(module, callback, accumulate_grad_batches=4, max_epochs=30)  # 4, 4 and 2 batches an epoch
    tuner = runs.train_by_hand(by_hand, 30, accumulate=4)
    assert torch.equal(module.weight, by_hand.weight)
    assert list(callback.tuner.history) == list(tuner.history)
    assert any("launch ends" in reason for reason in runs.reasons(tuner))
    assert trainer.global_step == 90


@pytest.mark.parametrize("kind", ["step", "epoch", "plateau"])
def test_an_lr_scheduler_goes_on_as_if_nobody_were_there_and_is_scaled(runs, kind):
    def make(optimizer):
        if kind == "plateau":
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=2.0)
            return {"scheduler": scheduler, "monitor": "val_loss", "interval": "epoch"}
        factor = (lambda step: 1 / (1 + 0.05 * step)) if kind == "step" else (lambda epoch: 0.8**epoch)
        return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "interval": kind}

    module, callback = runs.Regression(make_scheduler=make), runs.AutoTuneNetCallback()
    trainer = runs.fit(module, callback, val=True)
    factor = {"step": 1 / 7, "epoch": 0.8**12, "plateau": 0.5**12}[kind]
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(30.0 * factor)
    assert callback.tuner.history[-1].applied["lr"] < 1.0  # and not what the user gave, a thousand times too high
    assert not any("Landing" in reason for reason in runs.reasons(callback.tuner))  # the schedule's
    assert module.error < 0.5


def test_the_top_of_a_cycle_is_what_the_launch_has_found(runs):
    def make(optimizer):
        return torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=3.0, max_lr=30.0, cycle_momentum=False)

    callback = runs.AutoTuneNetCallback()
    runs.fit(runs.Regression(make_scheduler=make), callback)
    end = next(decision for decision in callback.tuner.history if "launch ends" in decision.reason)
    found = float(end.reason.rstrip(".").split()[-1])
    assert end.applied["lr"] == pytest.approx(found / 10, rel=0.01)


def test_the_launch_begins_at_the_lr_that_lightnings_finder_suggests(runs):
    module, callback = runs.Regression(lr=1.0), runs.AutoTuneNetCallback()
    finder = runs.pl.callbacks.LearningRateFinder(min_lr=1e-4, max_lr=10.0, num_training_steps=20)
    runs.fit(module, callback, finder)
    assert module.lr == finder.optimal_lr.suggestion() != 1.0
    end = next(decision for decision in callback.tuner.history if "launch ends" in decision.reason)
    assert end.applied["lr"] <= module.lr
    # The finder leaves traces of a scheduler on the optimizer, although there is none.
    assert any("Landing" in reason for reason in runs.reasons(callback.tuner))


def test_weights_that_are_lost_come_back(runs):
    module, callback = runs.Poisoned(lr=0.05), runs.AutoTuneNetCallback()
    runs.fit(module, callback)
    assert Action.ROLLBACK in [decision.action for decision in callback.tuner.history]
    assert module.error < 0.05


def test_a_batch_that_the_module_skips_is_no_step(runs):
    module, callback = runs.Skipping(lr=0.1), runs.AutoTuneNetCallback(interval=8, launch=False)
    runs.fit(module, callback, max_epochs=2)
    assert [decision.observation.step for decision in callback.tuner.history] == [8, 16]


def test_steps_that_a_gradient_scaler_skips_are_none(runs):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    module, callback, count = (
        runs.Regression(lr=0.05),
        runs.AutoTuneNetCallback(interval=1, launch=False),
        runs.StepCount(),
    )
    plugin = runs.pl.plugins.MixedPrecision("16-mixed", "cpu", scaler)
    trainer = runs.fit(module, callback, count, plugins=[plugin], max_epochs=3)
    assert 0 < count.num_steps < trainer.global_step == 30
    assert callback.tuner.history[-1].observation.step == count.num_steps + 1  # the first call counts in any case


def test_a_loss_that_is_no_number_is_seen_although_every_step_is_skipped(runs):
    callback = runs.AutoTuneNetCallback(launch=False)
    plugin = runs.pl.plugins.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    runs.fit(runs.Broken(lr=0.05), callback, plugins=[plugin], max_epochs=3)
    assert Health.UNSTABLE in [decision.health for decision in callback.tuner.history]


def test_bfloat16_and_clipped_gradients(runs):
    module = runs.Regression()
    runs.fit(module, runs.AutoTuneNetCallback(), precision="bf16-mixed", gradient_clip_val=5.0)
    assert module.error < 0.1


def test_a_validation_metric_is_observed(runs):
    callback = runs.AutoTuneNetCallback(monitor="val_loss")
    trainer = runs.fit(runs.Regression(lr=0.1), callback, val=True, max_epochs=3)
    seen = callback.tuner.metrics()["autotunenet/validation"]
    assert seen == trainer.callback_metrics["val_loss"].item()


def test_a_metric_that_nobody_logs_is_an_error(runs):
    with pytest.raises(ValueError, match=r"monitor='val_los'.*train_loss, val_loss"):
        runs.fit(runs.Regression(), runs.AutoTuneNetCallback(monitor="val_los"), val=True, max_epochs=1)


def test_manual_optimization_is_the_same(runs):
    modules, callbacks = (runs.Manual(), runs.Regression()), [runs.AutoTuneNetCallback() for _ in range(2)]
    for module, callback in zip(modules, callbacks, strict=True):
        runs.fit(module, callback)
    assert torch.equal(modules[0].weight, modules[1].weight)
    assert list(callbacks[0].tuner.history) == list(callbacks[1].tuner.history)


def test_manual_optimization_has_to_return_its_loss(runs):
    module = runs.Manual()
    module.returns_loss = False
    with pytest.raises(ValueError, match="has to return its loss"):
        runs.fit(module, runs.AutoTuneNetCallback(), max_epochs=1)


def test_two_optimizers_for_one_loss_have_one_tuner(runs):
    module, callback = runs.TwoOptimizers(), runs.AutoTuneNetCallback(one_loss=True)
    trainer = runs.fit(module, callback)
    assert trainer.global_step == 240  # Lightning counts the steps of both
    assert 100 < callback.tuner.history[-1].observation.step <= 120
    first, second = (optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers)
    assert first == pytest.approx(2 * second)
    assert all((half - 1).abs().max() < 0.1 for half in module.halves)


def test_two_optimizers_with_a_loss_each_are_refused_and_can_have_a_tuner_each(runs):
    module = runs.TwoParts()
    with pytest.raises(ValueError, match="this module has 2 optimizers"):
        runs.fit(module, runs.AutoTuneNetCallback(), max_epochs=1)
    module = runs.TwoParts()
    runs.make_trainer().fit(module, runs.batches())
    assert all(part.error < 0.1 for part in module.parts)


def test_the_loggers_get_numbers_and_reasons_at_the_steps_of_the_batches(runs, tmp_path):
    loggers = runs.pl.loggers.CSVLogger(tmp_path, "csv"), runs.pl.loggers.TensorBoardLogger(tmp_path, "board")
    callback = runs.AutoTuneNetCallback()
    runs.fit(runs.Regression(), callback, logger=loggers, log_every_n_steps=1, max_epochs=10)
    with open(Path(loggers[0].log_dir) / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    history = callback.tuner.history
    steps = [decision.observation.step - 1 for decision in history]  # Lightning counts from 0
    lrs = [str(decision.applied["lr"]) for decision in history]

    def column(name):
        return {int(row["step"]): row[name] for row in rows if row[name]}

    assert column("autotunenet/lr") == dict(zip(steps, lrs, strict=True))
    assert column("autotunenet/reason") == dict(zip(steps, runs.reasons(callback.tuner), strict=True))
    assert {"autotunenet/health", "autotunenet/multiplier", "autotunenet/rollbacks"} <= rows[0].keys()
    failed = next(decision for decision in history if "failed" in decision.reason)
    assert failed.observation.metric == float(column("train_loss")[failed.observation.step - 1])

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(loggers[1].log_dir, {"tensors": 0}).Reload()  # all of them
    assert [event.step for event in board.Scalars("autotunenet/lr")] == steps
    assert [event.step for event in board.Tensors("autotunenet/reason/text_summary")] == steps


def test_a_development_run_is_too_short_for_anything(runs):
    callback = runs.AutoTuneNetCallback()
    runs.fit(runs.Regression(), callback, fast_dev_run=True)
    assert not callback.tuner.history


def test_where_the_end_is_unknown_nothing_is_landed(runs):
    callback, module = runs.AutoTuneNetCallback(), runs.Regression()
    runs.make_trainer(callback, max_epochs=30).fit(module, torch.utils.data.DataLoader(runs.Endless(), batch_size=32))
    assert any("launch ends" in reason for reason in runs.reasons(callback.tuner))
    assert not any("Landing" in reason for reason in runs.reasons(callback.tuner))
    assert module.error < 0.1


def test_a_wrong_option_is_an_error_when_the_callback_is_made(runs):
    with pytest.raises(TypeError, match="did you mean 'interval'"):
        runs.AutoTuneNetCallback(intervall=5)
    with pytest.raises(TypeError, match="takes no 'replay'"):
        runs.AutoTuneNetCallback(replay=print)


def test_processes_decide_alike(runs, tmp_path):
    callback = runs.AutoTuneNetCallback()
    report = runs.Report(tmp_path, callback)
    runs.fit(runs.Regression(), callback, report, max_epochs=24, strategy="ddp_fork", devices=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["reasons"] == second["reasons"] != []
    assert torch.equal(first["weight"], second["weight"])


def test_a_strategy_that_shards_the_model_is_refused(runs):
    with pytest.raises(ValueError, match="Sharding shards"):
        runs.fit(runs.Regression(), runs.AutoTuneNetCallback(), strategy=runs.Sharding())


def test_the_trainer_of_the_other_package_takes_it_too(runs, adapter):
    import pytorch_lightning

    assert issubclass(adapter._base_class(), pytorch_lightning.Callback)  # imported by now, so it is one of both

    class Module(pytorch_lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner = runs.Regression()

        def training_step(self, batch):
            return self.inner.loss(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=30.0)

    callback, module = runs.AutoTuneNetCallback(), Module()
    trainer = pytorch_lightning.Trainer(max_epochs=12, accelerator="cpu", barebones=True, callbacks=[callback])
    trainer.fit(module, runs.batches())
    assert module.inner.error < 0.05


def test_without_lightning_the_error_says_what_to_install(adapter, monkeypatch):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'autotunenet\[lightning\]'"):
        adapter._base_class()
