"""AutoTuneNet as a callback of Keras on PyTorch: real models, tiny ones."""

import csv
import doctest
import importlib
import math
import runpy
import sys

import numpy as np
import pytest
import torch

from autotunenet import Action
from autotunenet.testing import check_run

pytestmark = [pytest.mark.xdist_group("keras"), pytest.mark.slow]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Imported by the process that runs these tests, and by no other that collects them."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        monkeypatch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        yield importlib.import_module("keras_runs")


@pytest.fixture(scope="module")
def adapter(runs):
    return importlib.import_module("autotunenet.adapters.keras")


def test_the_docstring_runs(adapter):
    done = doctest.testmod(adapter)
    assert done.attempted > 0
    assert done.failed == 0


def optimizers(keras):
    yield keras.optimizers.SGD(0.1, momentum=0.9)
    yield keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW(0.01))
    yield keras.optimizers.RMSprop(0.01, use_ema=True, gradient_accumulation_steps=3)


@pytest.mark.parametrize("index", range(3))
def test_the_run_keeps_the_contract(runs, adapter, index):
    def make():
        keras = runs.keras
        model = keras.Sequential([keras.Input((8,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
        model.compile(list(optimizers(keras))[index], loss="mse")
        model.optimizer.build(model.trainable_variables)
        run = adapter.KerasRun(model)

        def train():
            for _ in range(run.num_micro_batches):
                model.train_on_batch(runs.INPUTS[:32], runs.TARGETS[:32])

        return run, train

    check_run(make)


def test_a_run_refuses_what_is_not_its_own(runs, adapter):
    run = adapter.KerasRun(runs.make_model())
    buffers = run.copy_into(None)
    with pytest.raises(ValueError, match="of another model or optimizer: its weights have the shapes"):
        run.copy_from({**buffers, "weights": [torch.zeros(2, 2)]})
    with pytest.raises(ValueError, match="it lacks optimizer"):
        run.copy_from({"weights": buffers["weights"]})
    assert run.has_finite_weights()


def test_an_lr_a_thousand_times_too_high_does_no_harm(runs):
    model, callback = runs.make_model(), runs.AutoTuneNetCallback()
    logs = runs.fit(model, callback)
    assert runs.error(model) < 0.05
    assert any("launch ends" in reason for reason in runs.reasons(callback))
    assert any("Landing" in reason for reason in runs.reasons(callback))
    assert logs.history["autotunenet/lr"][-1] == pytest.approx(float(model.optimizer.learning_rate.value))
    assert "compute_loss" not in vars(model)


def test_the_tuner_sees_the_loss_of_each_step_and_keras_its_mean(runs):
    model, losses = runs.make_model(runs.keras.optimizers.SGD(0.05)), runs.BatchLosses()
    callback = runs.AutoTuneNetCallback(launch=False, interval=1)
    logs = runs.fit(model, losses, callback, epochs=2, validation_data=(runs.INPUTS, runs.TARGETS))
    seen = [decision.observation.metric for decision in callback.tuner.history]
    assert seen == pytest.approx(losses.losses, rel=1e-5)
    sizes = [32] * 9 + [22]
    assert logs.history["loss"][1] == pytest.approx(np.average(losses.losses[10:], weights=sizes), rel=1e-5)


def test_weights_that_are_lost_come_back(runs):
    model, callback = runs.make_model(runs.keras.optimizers.SGD(0.05)), runs.AutoTuneNetCallback()
    logs = runs.fit(model, runs.Poison(), callback, epochs=14)
    assert Action.ROLLBACK in [decision.action for decision in callback.tuner.history]
    assert runs.error(model) < 0.05
    assert math.isnan(logs.history["loss"][9])  # Keras says what it saw


def test_gradients_that_are_accumulated_make_one_step(runs):
    model = runs.make_model(runs.keras.optimizers.SGD(0.05, gradient_accumulation_steps=4))
    callback = runs.AutoTuneNetCallback(launch=False, interval=1)
    losses = runs.BatchLosses()
    runs.fit(model, losses, callback, epochs=2)
    seen = [decision.observation.metric for decision in callback.tuner.history]
    assert seen == pytest.approx(np.reshape(losses.losses, (5, 4)).mean(axis=1).tolist(), rel=1e-5)


def test_steps_that_a_loss_scale_skips_are_none(runs):
    optimizer = runs.keras.optimizers.LossScaleOptimizer(runs.keras.optimizers.SGD(0.05), initial_scale=2.0**126)
    callback = runs.AutoTuneNetCallback(launch=False, interval=1)
    runs.make_model(optimizer).fit(runs.INPUTS, 1e3 * runs.TARGETS, epochs=2, verbose=0, callbacks=[callback])
    num_steps = int(optimizer.inner_optimizer.iterations.value)
    assert 0 < num_steps < 18
    assert callback.tuner.history[-1].observation.step == num_steps + 1  # the first call counts in any case


def test_a_validation_metric_is_observed_where_there_is_one(runs):
    callback = runs.AutoTuneNetCallback(monitor="val_loss")
    options = {"validation_data": (runs.INPUTS, runs.TARGETS), "validation_freq": 2}
    logs = runs.fit(runs.make_model(), callback, epochs=3, **options)
    assert callback.tuner.metrics()["autotunenet/validation"] == logs.history["val_loss"][-1]
    with pytest.raises(ValueError, match=r"monitor='val_los'.*loss, val_loss"):
        runs.fit(runs.make_model(), runs.AutoTuneNetCallback(monitor="val_los"), epochs=2, **options)


def test_the_numbers_reach_the_csv_file(runs, tmp_path):
    csv_logger = runs.keras.callbacks.CSVLogger(tmp_path / "log.csv")
    logs = runs.fit(runs.make_model(), runs.AutoTuneNetCallback(), csv_logger)
    with open(tmp_path / "log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in ("lr", "multiplier", "health", "rollbacks", "discarded_steps"):
        column = [float(row[f"autotunenet/{name}"]) for row in rows]
        assert column == logs.history[f"autotunenet/{name}"]


def test_an_lr_that_another_callback_writes_is_reported(runs):
    callback = runs.AutoTuneNetCallback()
    scheduler = runs.keras.callbacks.LearningRateScheduler(lambda epoch, lr: 0.05 * 0.9**epoch)
    runs.fit(runs.make_model(), scheduler, callback)
    assert any("else" in reason for reason in runs.reasons(callback))


def test_a_second_fit_begins_where_the_first_one_did(runs):
    model, callback = runs.make_model(), runs.AutoTuneNetCallback()
    runs.fit(model, callback)
    first = callback.tuner
    runs.fit(model, callback)
    assert callback.tuner is not first
    tried = [reason for reason in runs.reasons(callback) if reason.startswith("lr 30 failed")]
    assert tried


def test_where_the_end_is_unknown_nothing_is_landed(runs):
    def batches():
        for i in range(150):
            part = slice(32 * (i % 9), 32 * (i % 9) + 32)
            yield runs.INPUTS[part], runs.TARGETS[part]

    model, callback = runs.make_model(), runs.AutoTuneNetCallback()
    model.fit(batches(), verbose=0, callbacks=[callback], shuffle=False)
    assert any("launch ends" in reason for reason in runs.reasons(callback))
    assert not any("Landing" in reason for reason in runs.reasons(callback))


def test_what_cannot_be_is_an_error(runs, monkeypatch):
    keras = runs.keras
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    with pytest.raises(ValueError, match="learning rate of SGD comes from a schedule"):
        runs.fit(runs.make_model(keras.optimizers.SGD(schedule)), runs.AutoTuneNetCallback())
    with pytest.raises(ValueError, match=r"learning rate is 0.0; give it a positive one"):
        runs.fit(runs.make_model(keras.optimizers.SGD(0.0)), runs.AutoTuneNetCallback())
    with pytest.raises(ValueError, match=r"OwnStep.train_step has not called self.compute_loss"):
        runs.fit(runs.make_model(kind=runs.OwnStep), runs.AutoTuneNetCallback())
    with pytest.raises(TypeError, match="did you mean 'interval'"):
        runs.AutoTuneNetCallback(intervall=5)
    with pytest.raises(ValueError, match="steps_per_execution"):  # Keras' own, on PyTorch
        runs.fit(runs.make_model(steps_per_execution=2), runs.AutoTuneNetCallback())
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="this is Keras on jax"):
        runs.AutoTuneNetCallback()


def test_without_keras_the_error_says_what_to_install(adapter, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=r"pip install 'autotunenet\[keras\]'.*KERAS_BACKEND=torch"):
        runpy.run_path(importlib.import_module("autotunenet.adapters._keras_run").__file__)


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 3, 10], ids=["calibration", "launch", "cruise"])
def test_an_interrupted_training_goes_on_bit_for_bit(runs, tmp_path, epoch):
    def make_callback(folder):
        return runs.AutoTuneNetCallback(backup=runs.keras.callbacks.BackupAndRestore(tmp_path / folder))

    whole, callback = runs.make_model(), make_callback("whole")
    runs.fit(whole, callback)
    with pytest.raises(OSError, match="interrupted"):
        runs.fit(runs.make_model(), runs.Interrupt(epoch), make_callback("cut"))
    resumed, again = runs.make_model(runs.keras.optimizers.SGD(1e-3, momentum=0.5), seed=9), make_callback("cut")
    runs.fit(resumed, again)
    assert runs.same_weights(whole, resumed)
    assert list(callback.tuner.history) == list(again.tuner.history)
    assert not (tmp_path / "cut").exists()  # as Keras leaves it after a training that has ended


def test_a_state_saved_by_hand_goes_on_bit_for_bit(runs, tmp_path):
    whole, callback = runs.make_model(), runs.AutoTuneNetCallback(total_steps=120)
    runs.fit(whole, callback)
    model, first = runs.make_model(), runs.AutoTuneNetCallback(total_steps=120)
    runs.fit(model, first, epochs=10)
    model.save_weights(tmp_path / "cut.weights.h5")
    torch.save(first.state_dict(), tmp_path / "tuner.pt")

    resumed, again = runs.make_model(), runs.AutoTuneNetCallback(total_steps=120)
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.load_weights(tmp_path / "cut.weights.h5")
    again.load_state_dict(torch.load(tmp_path / "tuner.pt", weights_only=True))
    runs.fit(resumed, again, initial_epoch=10)
    assert runs.same_weights(whole, resumed)
    assert list(callback.tuner.history) == list(again.tuner.history)


def test_the_state_is_in_the_backup_and_nowhere_else(runs, tmp_path):
    backup = runs.keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    checkpoint = runs.keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    model = runs.make_model()
    runs.fit(model, runs.AutoTuneNetCallback(backup=backup), checkpoint, epochs=3)
    import h5py

    with h5py.File(tmp_path / "backup" / "latest.weights.h5") as file:
        assert "autotunenet" in file
    plain = runs.keras.models.load_model(tmp_path / "model.keras")
    assert runs.same_weights(model, plain)
    bare = runs.make_model(seed=9)
    bare.load_weights(tmp_path / "backup" / "latest.weights.h5")  # without a tuner
    assert runs.same_weights(model, bare)
    with h5py.File(tmp_path / "backup" / "latest.weights.h5", "a") as file:
        del file["autotunenet"]  # as of a training without one
    runs.fit(bare, runs.AutoTuneNetCallback(backup=backup), epochs=4)
