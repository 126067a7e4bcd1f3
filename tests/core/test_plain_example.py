"""The example of a plain loop with everything in it: whatever the lr, and interrupted anywhere between two epochs."""

import importlib.util
from pathlib import Path

import pytest
import torch

from autotunenet.testing import same

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_pytorch_full.py"


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("mlxtend")
    spec = importlib.util.spec_from_file_location("plain_pytorch_full", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = module.mnist()  # it takes seconds to read them
    module.mnist = lambda: data
    return module


@pytest.mark.slow
def test_it_goes_on_bit_for_bit_from_a_launch_that_was_interrupted_and_ends_well(example, tmp_path, capsys):
    file = tmp_path / "checkpoint.pt"
    straight = example.main([])
    example.main(["--checkpoint", str(file), "--stop-after", "1"])
    resumed = example.main(["--checkpoint", str(file), "--resume"])
    assert same(list(resumed.model.parameters()), list(straight.model.parameters()))
    assert same(resumed.tuner.state_dict(), straight.tuner.state_dict())
    assert straight.evaluate(*example.mnist()[1].tensors)[1] > 0.93
    assert "epoch 1: validation loss" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.slow
def test_a_resume_in_the_middle_of_the_launch(example, tmp_path, monkeypatch):
    """From an lr so low that the launch takes longer than an epoch."""
    monkeypatch.setattr(example, "NUM_EPOCHS", 4)
    arguments = ["--lr", "1e-6", "--stop-after", "4"]
    file = tmp_path / "checkpoint.pt"
    straight = example.main(arguments)
    example.main([*arguments, "--checkpoint", str(file), "--stop-after", "1"])
    assert torch.load(file, weights_only=True)["tuner"]["launch"]["is_done"] is False
    resumed = example.main([*arguments, "--checkpoint", str(file), "--resume"])
    assert same(list(resumed.model.parameters()), list(straight.model.parameters()))


def test_a_resume_needs_a_checkpoint(example, capsys):
    with pytest.raises(SystemExit):
        example.main(["--resume"])
    assert "--resume needs the --checkpoint" in capsys.readouterr().err
