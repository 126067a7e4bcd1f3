"""Regimes on data that are not floats: pixels stored with 8 bits, and word ids; and inside real runs on both."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from autotunenet_bench.config import expand, parse_config
from autotunenet_bench.data import DataSource, TensorBatches
from autotunenet_bench.data.text_batches import TextBatches
from autotunenet_bench.regimes import REGIMES, CurriculumShift, DataShift, curricula, input_shifts
from autotunenet_bench.regimes.input_shifts import contrast_noise, inversion, pixel_permutation, rotation
from autotunenet_bench.results import RunFolder
from autotunenet_bench.runners import run_online
from autotunenet_bench.testing.regimes import subjects
from autotunenet_bench.types import Horizon, TaskData

SHIFTS = {
    "pixel_permutation": pixel_permutation,
    "inversion": inversion,
    "rotation": rotation,
    "contrast_noise": contrast_noise,
    "augmentation": curricula.augmentation,
    "easy_to_all": curricula.easy_to_all,
}
SEED, SEVERITY = 5, 0.6


def make_pixels(num=50, seed=0, low=3, high=250):
    images = np.random.default_rng(seed).integers(low, high + 1, (num, 3, 6, 5), dtype=np.uint8)
    return TensorBatches(torch.from_numpy(images), torch.arange(num) % 5, 8, seed=1)


def as_floats(batches):
    return TensorBatches(batches.inputs.float(), batches.targets, batches.batch_size, batches.seed)


# -- stored pixels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [7, 1024])
@pytest.mark.parametrize("kind", SHIFTS)
def test_a_shift_of_stored_pixels_is_that_of_their_values_rounded_and_clipped(kind, chunk, monkeypatch):
    for module in (input_shifts, curricula):
        monkeypatch.setattr(module, "_CHUNK", chunk)
    stored = make_pixels()
    before = stored.inputs.clone()
    for batches, part in ((stored, "train"), (make_pixels(30, seed=1, low=0, high=255), "val")):
        found = SHIFTS[kind](batches, SEVERITY, SEED, part, stored).inputs
        expected = SHIFTS[kind](as_floats(batches), SEVERITY, SEED, part, as_floats(stored)).inputs
        assert found.dtype == torch.uint8
        assert torch.equal(found, expected.round().clamp(0, 255).to(torch.uint8))
        assert not torch.equal(found, batches.inputs)
    assert torch.equal(stored.inputs, before)


def test_levels_of_stored_pixels_are_exact():
    inputs = make_pixels(num=300).inputs
    std, mean = input_shifts._std_and_mean(inputs)
    assert mean == pytest.approx(inputs.double().mean().item(), rel=1e-12)
    assert std == pytest.approx(inputs.double().std().item(), rel=1e-12)


def test_a_negative_of_what_lies_outside_of_the_training_range_does_not_turn_over():
    train, val = make_pixels(low=100, high=250), make_pixels(20, low=0, high=50)
    found = inversion(val, 1.0, SEED, "val", train).inputs.int()
    assert torch.equal(found, (350 - val.inputs.int()).clamp(max=255))


def test_shifted_pixels_are_prepared_as_the_untouched_ones_are():
    prepared = TensorBatches(
        make_pixels().inputs, make_pixels().targets, 8, 1, preparation=lambda images, _: images.double() + 1000
    )
    shifted = inversion(prepared, 1.0, SEED, "train", prepared)
    for (images, _), (negatives, _) in zip(prepared.epoch(1), shifted.epoch(1), strict=True):
        assert torch.equal(negatives - 1000, 253 - (images - 1000))


# -- word ids ----------------------------------------------------------------------------------------------------------


def make_texts(num=40):
    ids = torch.zeros(num, 12, dtype=torch.int32)
    for row in range(num):
        ids[row, : 3 + row % 9] = 1 + (row + torch.arange(3 + row % 9)) % 30
    return TextBatches(ids, torch.arange(num) % 2, 8, seed=1)


def in_epoch(regime, data):
    with torch.random.fork_rng(devices=[]):
        model = nn.Linear(1, 1)
    regime.apply(1, model, data, torch.optim.SGD(model.parameters(), lr=0.1))
    return data


FIT_NO_WORDS = ("pixel_permutation", "inversion", "rotation", "contrast_noise", "easy_to_all", "augmentation")


@pytest.mark.parametrize("kind", FIT_NO_WORDS)
def test_what_changes_values_is_refused_on_word_ids_with_what_fits(kind):
    config = (CurriculumShift if kind in ("easy_to_all", "augmentation") else DataShift)(kind=kind, trigger_epoch=5)
    expected = (
        f"^{kind.replace('_', ' ')} .*got torch.int32 of shape \\(40, 12\\).*use another kind or task: label_noise, "
        "class_conditional_label_noise, class_prior, classes, optimizer_shift and loss_noise fit any inputs$"
    )
    with pytest.raises(TypeError, match=expected):
        in_epoch(config.start(Horizon(num_epochs=10, steps_per_epoch=5), 0), TaskData(make_texts(), make_texts()))


@pytest.mark.parametrize("kind", ["class_prior", "label_noise", "class_conditional_label_noise"])
def test_what_changes_labels_and_classes_fits_word_ids(kind):
    texts = make_texts()
    config = DataShift(kind=kind, trigger_epoch=1, severity=0.5)
    data = in_epoch(config.start(Horizon(num_epochs=10, steps_per_epoch=5), 0), TaskData(texts, make_texts()))
    assert isinstance(data.train, TextBatches)
    assert data.train.pristine is texts
    assert not torch.equal(data.train.targets, texts.targets)
    words = {tuple(row) for row in texts.inputs.tolist()}
    drawn = [row for ids, _ in data.train.epoch(1) for row in ids.tolist()]
    assert len(drawn) == 40
    assert {(*row, *[0] * (12 - len(row))) for row in drawn} <= words


# -- real runs ---------------------------------------------------------------------------------------------------------

KINDS = {
    "-".join(filter(None, (name, subject.fields.get("kind")))): {"name": name, **subject.fields}
    for name in REGIMES
    for subject in subjects(REGIMES[name])
}
TASKS = ("cifar10_resnet18_small", "imdb_bilstm_small")


def make_spec(task, regime, source):
    config = parse_config(
        f"{{task: {{name: {task}, data_fraction: 0.3, batch_size: 32}}, regime: stationary, controller: fixed, "
        f"num_epochs: 2, seeds: [0]}}",
        "test.yaml",
    )
    (cell,) = expand(config)
    fields = {key: value for key, value in regime.items() if key != "name"}
    if regime["name"] != "stationary":
        fields["trigger_epoch"] = 2
    return cell.resolve(cell.task.load(source)[1]).model_copy(update={"regime": REGIMES[regime["name"]](**fields)})


def run(spec, source, path, cut_after=None):
    def on_event(event):
        if event["event"] == "epoch" and event["epoch"] == cut_after:
            raise InterruptedError

    folder = RunFolder(path)
    if cut_after is not None:
        with pytest.raises(InterruptedError):
            run_online(spec, source, folder, on_event)
    run_online(spec, source, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("regime", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_a_regime_runs_or_is_refused(task, regime, small_data, tmp_path):
    source = DataSource(small_data)
    spec = make_spec(task, KINDS[regime], source)
    if task.startswith("imdb") and KINDS[regime].get("kind") in FIT_NO_WORDS:
        with pytest.raises(TypeError, match="fit any inputs"):
            run(spec, source, tmp_path / "run")
        return
    trace = run(spec, source, tmp_path / "run").trace()
    assert trace.finished
    assert len(trace.epochs) == 2
    assert all(math.isfinite(loss) for loss in trace.losses)
    assert trace.spec["data"]["num_test"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_run_with_augmentation_or_dropout_goes_on_where_it_was_cut_off(task, small_data, tmp_path):
    """Each epoch's augmentation has a stream of its own, and a checkpoint has the state of dropout's generator."""
    source = DataSource(small_data)
    spec = make_spec(task, {"name": "data_shift"}, source)
    folders = run(spec, source, tmp_path / "straight"), run(spec, source, tmp_path / "cut", cut_after=1)
    straight, cut = (
        [{key: value for key, value in event.items() if key != "clock"} for event in folder.events()]
        for folder in folders
    )
    assert straight == cut
