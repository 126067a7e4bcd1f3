"""Wrapped and sharded models in a world of one rank, which needs no other process."""

import pytest
import torch
import torch.distributed as dist
from doubles import new_tuner
from many_ranks import Training
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel
from trials import ALARM, Twins

from autotunenet import Action, AutoTuneNet
from autotunenet.adapters.distributed import _forget_batches, joinable, load_sharded_state, sharded_state

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("distributed")]


@pytest.fixture(scope="module", autouse=True)
def _world():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_one_rank_is_alone():
    assert Training().tuner.run.process_group is None
    for kind in ("ddp", "fsdp"):
        run = Training(kind).tuner.run
        assert (run.ranks, run.exchange([1.0, 2.0])) == ((0,), [[1.0, 2.0]])
        assert run.process_group is not None


def test_it_trains_as_without_a_wrapper():
    plain, wrapped, sharded = (Training(kind).train(30).outcome() for kind in ("plain", "ddp", "fsdp"))
    assert plain["history"] == wrapped["history"] == sharded["history"]
    assert torch.equal(plain["weights"], wrapped["weights"])
    assert torch.equal(plain["weights"], sharded["weights"])


def test_names_are_without_those_of_wrappers():
    model = torch.compile(DistributedDataParallel(nn.Linear(2, 1)))
    run = AutoTuneNet(model, torch.optim.SGD(model.parameters(), lr=0.1)).run
    assert list(run.copy_into(None)["model"]) == ["param.weight", "param.bias"]


def test_weights_that_an_evaluation_has_gathered_are_put_back_to_their_shards():
    training = Training("fsdp")
    training.tuner.close()
    with torch.no_grad():
        training.loss(training.batch(0))
    assert not all(hasattr(param, "to_local") for param in training.model.parameters())
    run = AutoTuneNet(training.model, training.optimizer).run
    assert all(hasattr(tensor, "to_local") for tensor in run.copy_into(None)["model"].values())


def test_shards_are_filled_in_place_and_restored():
    training = Training("fsdp").train(5)
    run, before = training.tuner.run, training.weights().clone()
    buffers = run.copy_into(None)
    first = buffers["model"]["param.0.weight"]
    training.train(10, 5)
    again = run.copy_into(buffers)
    assert again["model"]["param.0.weight"] is first
    assert not torch.equal(training.weights(), before)
    with torch.no_grad():
        first.to_local().fill_(7.0)
    params = list(training.model.parameters())
    run.copy_from(again)
    assert params[0].to_local().unique().tolist() == [7.0]
    assert all(a is b for a, b in zip(params, training.model.parameters(), strict=True))


def test_one_broken_number_in_a_shard_is_found():
    training = Training("fsdp")
    assert training.tuner.run.has_finite_weights()
    with torch.no_grad():
        next(training.model.parameters()).to_local()[3, 2] = float("inf")
    assert not training.tuner.run.has_finite_weights()


def test_a_whole_state_does_not_fit_shards():
    whole, sharded = Training(), Training("fsdp")
    with pytest.raises(ValueError, match=r"param\.0\.weight is sharded as None in this snapshot"):
        sharded.tuner.load_state_dict(whole.tuner.state_dict())


def test_what_join_cannot_do_is_refused():
    with pytest.raises(ValueError, match="drop_last=True"):
        joinable(Training("fsdp").tuner)
    first = joinable(Training("ddp").tuner)
    hook = first.join_hook()
    Join([first])
    with pytest.raises(ValueError, match="stands behind the model"):
        hook.main_hook()


def test_a_checkpoint_needs_a_place_and_a_tuner_of_torch():
    tuner, _ = new_tuner()
    with pytest.raises(TypeError, match="not over NumberRun"):
        sharded_state(tuner)
    with pytest.raises(TypeError, match="give the folder"):
        load_sharded_state(Training().tuner)


def test_a_checkpoint_of_another_model_is_refused_and_nothing_is_loaded(tmp_path):
    Training("fsdp").train(5).save_shards(tmp_path, dist.group.WORLD)
    other = Training("fsdp", norm=True)
    before = other.outcome()
    with pytest.raises(ValueError, match="of another model or optimizer"):
        load_sharded_state(other.tuner, tmp_path)
    assert other.outcome()["history"] == before["history"]
    assert other.tuner.state_dict()["_num_steps"] == 0


def test_stored_batches_stay_out_of_it():
    training = Training("fsdp", replays=True).turn_up(stop=60)
    assert training.tuner.state_dict()["recovery"]["way_back"]["batches"]
    state = sharded_state(training.tuner)
    assert not [name for name in state["tensors"] if "batches" in name]


def test_a_race_that_was_on_is_judged_in_line():
    """It needs the batches that the twin has had, and the state goes on without them."""
    racing, resumed = Twins(), Twins()
    racing.feed(ALARM - 4)
    racing.feed(1, lr=0.15)
    assert racing.feed(3, 8.0).action is Action.PROBE
    racing.feed(2, 8.0)
    state = racing.tuner.state_dict()
    _forget_batches(state["recovery"])
    resumed.run.weight, resumed.run.hyperparams = racing.run.weight, dict(racing.run.hyperparams)
    resumed.tuner.load_state_dict(state)
    decisions = [resumed.feed(1, 8.0) for _ in range(8)]
    assert [decision.cause for decision in decisions if decision] != []
    assert resumed.replayed == []
