"""Several real processes over gloo: one decision for all ranks, and the same training as in one process."""

import pytest
import torch
from many_ranks import Training, run_world

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("distributed")]

# Sums over ranks are made in another order than those over the joined batch; everything is in float64.
ROUNDING = 1e-10


@pytest.fixture(scope="module")
def two_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(two_folder):
    return run_world(2, two_folder)


@pytest.fixture(scope="module")
def four_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("four")


@pytest.fixture(scope="module")
def four(four_folder):
    return run_world(4, four_folder)


@pytest.fixture(scope="module")
def single():
    """The same training in one process, on the joined batches."""
    return Training().train().outcome()


def of(ranks, name):
    return [outcome[name] for outcome in ranks]


def are_identical(ranks):
    return all(
        torch.equal(other["weights"], ranks[0]["weights"]) and other["history"] == ranks[0]["history"]
        for other in ranks[1:]
    )


def assert_like(outcome, reference):
    """The same decisions, in the same words, and the same weights up to rounding."""
    assert outcome["actions"] == reference["actions"]
    torch.testing.assert_close(outcome["weights"], reference["weights"], rtol=ROUNDING, atol=ROUNDING)


def test_the_training_has_what_is_to_be_compared(single):
    """Trials that the launch takes back, a rollback from a NaN of one rank, and a landing."""
    kinds = [action for _, action, _ in single["actions"]]
    assert any("Taken back" in reason for _, _, reason in single["actions"])
    assert kinds.count("rollback") == 1
    assert kinds[-3:] == ["adapt"] * 3


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_ranks_are_identical_and_train_as_one_process_does(two, single, kind):
    ranks = of(two["whole"], kind)
    assert are_identical(ranks)
    assert_like(ranks[0], single)


@pytest.mark.parametrize("at", ["ddp 20", "fsdp 20", "fsdp 80"])
def test_a_training_resumed_rank_by_rank_is_the_uninterrupted_one_bit_for_bit(two, at):
    resumed, whole = of(two["resumed"], at), of(two["whole"], at.split()[0])
    for rank, reference in zip(resumed, whole, strict=True):
        assert torch.equal(rank["weights"], reference["weights"])
        assert rank["history"] == reference["history"]


def test_a_state_that_one_rank_of_ddp_has_saved_goes_on_in_one_process(two, two_folder, single):
    training = Training().load(two_folder / "of_rank_0.pt")
    assert_like(training.train(start=20).outcome(), single)


def test_ranks_without_a_group_tune_each_for_itself(two):
    first, second = two["each_by_itself"]
    assert first["actions"] != second["actions"]
    assert not torch.equal(first["weights"], second["weights"])
    assert of(two["each_by_itself"], "ranks") == [[0], [0]]


def test_which_ranks_decide_together_is_found_out_or_asked_for(two):
    for rank in two["found"]:
        assert rank["inside"] == rank["around"] == rank["given"] == [0, 1]
        assert rank["neither"].startswith("ValueError: torch.distributed runs with 2 ranks, and this Sequential has")
        assert "process_group=None for a tuner of its own on each rank" in rank["neither"]
        assert rank["list"].startswith("TypeError: process_group must be")
        assert rank["word"].startswith("ValueError: process_group must be")


def test_ranks_that_have_come_apart_are_told_which_and_do_not_wait(two):
    first, second = two["apart"]
    assert first == second
    assert "rank 0 is at step 0 with lr 1e-09, rank 1 is at step 0 with lr 2e-09" in first["lr"]
    assert "rank 0 is at step 0 with lr 1e-09, rank 1 is at step 3 with" in first["step"]
    assert "rank 0 calls tuner.step, rank 1 saves the tuner's state in shards" in first["call"]


def test_a_rank_that_runs_out_of_batches_joins_and_ends_with_the_state_of_the_others(two):
    """Weights, optimizer and tuner, though trials and a rollback came when only one rank had batches."""
    ranks = two["uneven"]
    assert are_identical(ranks)
    assert ranks[0]["state"] == ranks[1]["state"]
    assert of(ranks, "num_steps") == [80, 80]
    steps_lost = [step for step, _, reason in ranks[0]["actions"] if "Taken back" in reason]
    assert any(step % 20 > 12 for step in steps_lost)
    assert [step for step, action, _ in ranks[0]["actions"] if action == "rollback"] == [79]
    assert ranks[0]["alone"].startswith("ValueError: this tuner decides for its own rank alone")
    assert "cannot replay" in ranks[0]["replay"]


def test_gradients_may_be_accumulated_without_a_reduction_in_between(two):
    ranks = two["accumulated"]
    assert are_identical(ranks)
    assert_like(ranks[0], Training().accumulate(30).outcome())


def test_stored_batches_are_replayed_on_all_ranks(two):
    ranks = two["twins"]
    reference = Training(replays=True).turn_up()
    assert any("twin_loss" in decision.evidence for decision in reference.tuner.history)
    assert are_identical(ranks)
    assert_like(ranks[0], reference.outcome())


def test_every_rank_gets_its_own_statistics_back(two):
    first, second = two["statistics"]
    assert not torch.equal(first["before"], second["before"])
    for rank in (first, second):
        assert torch.equal(rank["after"], rank["before"])
        assert not torch.equal(rank["between"], rank["before"])


@pytest.mark.parametrize("how", ["on four", "on two", "in copies"])
def test_a_training_goes_on_with_another_number_of_ranks(four, single, how):
    """From two to four after the rollback, with a metric that had not reached all; in the launch from four to two, and
    from FSDP2 to DDP."""
    ranks = of(four["other_numbers"], how)
    assert are_identical(ranks)
    assert_like(ranks[0], single)


def test_a_sharded_training_goes_on_in_one_process(four, four_folder, single):
    with pytest.warns(UserWarning, match="single process"):
        training = Training().load_shards(four_folder / "four")
    assert_like(training.train(start=20).outcome(), single)


def test_a_state_that_does_not_fit_is_refused(four):
    for rank in four["other_numbers"]:
        assert "param.0.weight is sharded as" in rank["per rank"]
        assert "load_sharded_state" in rank["per rank"]
        assert "no sharded_state under 'other'; its keys begin with model, optimizer, tuner" in rank["key"]


def test_all_ranks_of_a_hybrid_mesh_decide_together(four):
    ranks = four["hybrid"]
    assert of(ranks, "ranks") == [[0, 1, 2, 3]] * 4
    assert are_identical(ranks)
    assert_like(ranks[0], Training().train(30).outcome())


def test_groups_of_ranks_decide_side_by_side(four):
    ranks = four["side_by_side"]
    assert of(ranks, "ranks") == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert are_identical(ranks[:2])
    assert are_identical(ranks[2:])
    assert ranks[0]["actions"] != ranks[2]["actions"]
    assert all("no member" in stranger for stranger in of(ranks, "stranger"))
