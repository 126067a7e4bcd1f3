"""A training with Lightning goes on from its checkpoint as if nothing had been."""

import importlib

import pytest
import torch

pytestmark = [pytest.mark.xdist_group("lightning"), pytest.mark.slow]


@pytest.fixture(scope="module")
def runs():
    return importlib.import_module("lightning_runs")


def interrupt(runs, folder, module, step, **options):
    """Train until a step, and return what Lightning saves then."""
    saver = runs.pl.callbacks.OnExceptionCheckpoint(folder)
    with pytest.raises(OSError, match="interrupted"):
        runs.fit(module, runs.AutoTuneNetCallback(), saver, runs.Interrupt(step), enable_checkpointing=True, **options)
    return saver.ckpt_path


def scheduler(optimizer):
    return {"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120), "interval": "step"}


@pytest.mark.parametrize("step", [2, 25, 95], ids=["calibration", "launch", "cruise"])
@pytest.mark.parametrize("make_scheduler", [None, scheduler], ids=["alone", "scheduler"])
def test_an_interrupted_training_goes_on_bit_for_bit(runs, tmp_path, step, make_scheduler):
    whole, callback = runs.Indexed(make_scheduler=make_scheduler), runs.AutoTuneNetCallback()
    runs.fit(whole, callback)
    path = interrupt(runs, tmp_path, runs.Indexed(make_scheduler=make_scheduler), step)
    resumed, again = runs.Indexed(lr=1e-3, make_scheduler=make_scheduler, seed=9), runs.AutoTuneNetCallback()
    runs.fit(resumed, again, ckpt_path=path)
    assert torch.equal(whole.weight, resumed.weight)
    assert list(callback.tuner.history) == list(again.tuner.history)


def test_the_state_is_plain(runs, tmp_path):
    path = interrupt(runs, tmp_path, runs.Indexed(), 25)
    saved = torch.load(path, weights_only=True)
    assert saved["callbacks"]["AutoTuneNetCallback"]["tuner"]["history"]


def test_a_resumed_training_with_a_scaler_goes_on_bit_for_bit(runs, tmp_path):
    def options():
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=30)
        return {"plugins": [runs.pl.plugins.MixedPrecision("16-mixed", "cpu", scaler)]}

    whole = runs.Indexed(lr=1.0)
    runs.fit(whole, runs.AutoTuneNetCallback(), **options())
    path = interrupt(runs, tmp_path, runs.Indexed(lr=1.0), 45, **options())
    resumed = runs.Indexed()
    runs.fit(resumed, runs.AutoTuneNetCallback(), ckpt_path=path, **options())
    assert torch.equal(whole.weight, resumed.weight)


def test_a_checkpoint_of_the_end_goes_on_too(runs, tmp_path):
    callback, again = runs.AutoTuneNetCallback(), runs.AutoTuneNetCallback()
    module = runs.Regression()
    trainer = runs.fit(module, callback)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    runs.fit(module, again, ckpt_path=tmp_path / "end.ckpt", max_epochs=14)
    before, after = list(callback.tuner.history), list(again.tuner.history)
    assert after[: len(before)] == before
    assert after[-1].observation.step > 120


def test_the_lr_finder_before_another_fit_takes_nothing_of_the_last_one(runs, tmp_path):
    module, callback = runs.Regression(), runs.AutoTuneNetCallback()
    trainer = runs.fit(module, callback)
    runs.pl.tuner.Tuner(trainer).lr_find(module, runs.batches(), num_training=20, update_attr=False)
    assert callback.state_dict() == {}


def test_a_second_fit_is_a_new_training(runs):
    module, callback = runs.Regression(), runs.AutoTuneNetCallback()
    trainer = runs.fit(module, callback)
    first = callback.tuner
    trainer.fit_loop.max_epochs = 36
    trainer.fit(module, runs.batches())  # with a new optimizer, which Lightning makes
    assert callback.tuner is not first
    assert trainer.global_step == 360
    assert 120 <= callback.tuner.history[-1].observation.step <= 240
    assert any("launch ends" in reason for reason in runs.reasons(callback.tuner))
    assert any("Landing" in reason for reason in runs.reasons(callback.tuner))
    assert module.error < 0.05


def test_a_state_that_was_loaded_for_a_test_is_forgotten(runs, tmp_path):
    module, callback = runs.Regression(), runs.AutoTuneNetCallback()
    trainer = runs.fit(module, callback)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    trainer.validate(module, runs.batches(2), ckpt_path=tmp_path / "end.ckpt", verbose=False)
    runs.fit(module, callback)
    assert callback.tuner.history[-1].observation.step <= 120


def test_the_lr_finder_in_the_middle_gives_everything_back(runs):
    class Later(runs.pl.callbacks.LearningRateFinder):
        def on_fit_start(self, trainer, pl_module):
            pass

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                self.lr_find(trainer, pl_module)

    module, callback = runs.Indexed(lr=1.0), runs.AutoTuneNetCallback()
    runs.fit(module, callback, Later(max_lr=0.1, num_training_steps=20, update_attr=False))
    assert callback.tuner.history[-1].observation.step > 100
    assert module.error < 0.05
