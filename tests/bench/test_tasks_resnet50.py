"""ResNet-50 on CIFAR-10: what it begins with, and that this is told; what a step of the small one costs."""

import logging

import pytest
import torch

import tiny_models
from autotunenet_bench.data import DataError, DataSource, TensorBatches
from autotunenet_bench.runners.flops import measure_flops
from autotunenet_bench.tasks import Cifar10ResNet50, Cifar10ResNet50Small
from autotunenet_bench.types import TaskData


@pytest.fixture(scope="module")
def pretrained():
    return tiny_models.resnet50()


@pytest.fixture(scope="module")
def models(tmp_path_factory, pretrained):
    """A folder of models with a ResNet-50 of random weights."""
    root = tmp_path_factory.mktemp("models")
    tiny_models.write(root / "resnet-50", {"model_type": "resnet"}, pretrained.state_dict())
    return root


def test_without_pretrained_weights_it_begins_with_random_ones_and_says_so(small_data, caplog):
    source, said = DataSource(small_data), "random weights, for no pretrained ones were found"
    with caplog.at_level(logging.WARNING):
        data, info = Cifar10ResNet50().load(source)
    assert (data.pretrained, info.pretrained, info.weights_sha256) == (None, said, "")
    assert f"cifar10_resnet50 begins with {said}: the pretrained weights resnet-50 are not here: put" in caplog.text
    caplog.clear()
    data, info = Cifar10ResNet50(weights="none").load(source)
    assert (data.pretrained, info.pretrained, caplog.text) == (None, "", "")  # as was asked for
    with pytest.raises(DataError, match=r"resnet-50 are not here: put .*microsoft/resnet-50.* with --download"):
        Cifar10ResNet50(weights="pretrained").load(source)


def test_a_damaged_folder_is_no_reason_for_random_weights(small_data, tmp_path):
    (tmp_path / "resnet-50").mkdir()
    with pytest.raises(DataError, match=r"resnet-50 holds no whole model: config.json, model.safetensors not found"):
        Cifar10ResNet50().load(DataSource(small_data, model_dir=tmp_path))


def test_blocks_begin_with_the_pretrained_weights_and_stem_and_head_with_the_seed(small_data, models, pretrained):
    task = Cifar10ResNet50()
    data, info = task.load(DataSource(small_data, model_dir=models))
    assert info.pretrained == "resnet-50 from the user's folder of models"
    assert len(info.weights_sha256) == 64
    one, two = (task.build(task.defaults, seed, data).model for seed in (0, 1))
    weights = pretrained.state_dict()
    for name, other in (
        ("blocks.0.conv1.weight", "stages.0.layers.0.layer.0.convolution.weight"),
        ("blocks.3.shortcut.1.running_var", "stages.1.layers.0.shortcut.normalization.running_var"),
        ("blocks.15.norm3.bias", "stages.3.layers.2.layer.2.normalization.bias"),
    ):
        assert torch.equal(one.state_dict()[name], weights[f"resnet.encoder.{other}"])
    for name, own in one.state_dict().items():
        is_drawn = name in ("stem.0.weight", "head.weight")
        assert torch.equal(own, two.state_dict()[name]) is not is_drawn
    fed = torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = pretrained.eval().resnet.encoder(fed).last_hidden_state
        assert torch.allclose(one.eval().blocks(fed), expected, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_refused_by_name(pretrained):
    model = Cifar10ResNet50().build_model()
    weights = dict(pretrained.state_dict())
    name = "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight"
    with pytest.raises(ValueError, match=rf"{name} have the shape \(1, 1\), the network's \(64, 64, 1, 1\)"):
        model.load_pretrained({**weights, name: torch.zeros(1, 1)})
    del weights[name]
    with pytest.raises(ValueError, match=f"lack {name}, which 0.conv1.weight of the blocks is to begin with"):
        model.load_pretrained(weights)


def test_the_operations_of_the_small_one():
    task = Cifar10ResNet50Small()
    batches = TensorBatches(torch.randn(3, 3, 32, 32), torch.arange(3), batch_size=3)
    with torch.random.fork_rng(devices=[]):
        flops = measure_flops(task, task.build_model(), TaskData(batches, batches))
    stem, rest, before = 2 * 16**2 * 27 * 16, 2 * 256 * 10, 16
    for width, size_in, size in ((16, 16, 16), (32, 16, 8), (64, 8, 4)):
        rest += 2 * size_in**2 * before * width + 2 * size**2 * (9 * width * width + 4 * width * width)
        rest += 2 * size**2 * before * 4 * width
        before = 4 * width
    assert stem + rest == 10_187_776
    assert flops.evaluation == 3 * (stem + rest)
    assert flops.train_epoch == 3 * (2 * stem + 3 * rest)  # nobody asks for the gradient of the images
