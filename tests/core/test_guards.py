"""How far: properties of the guards."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotunenet import Float, SearchSpace
from autotunenet.guards import chain, cooldown, max_delta, warmup, within

NUMBERS = st.floats(-1e12, 1e12)
POSITIVE = st.floats(1e-7, 1e12)
DELTAS = st.floats(1e-3, 10.0)
BOX = SearchSpace({"lr": Float(1e-4, 1.0, log=True), "wd": Float(0.0, 0.1)})


def moved(guard, old, new, step=1):
    return guard({"lr": old}, {"lr": new}, step)["lr"]


@given(NUMBERS, NUMBERS, st.integers(1, 100))
def test_within_ends_in_the_box(old, new, step):
    assert BOX["lr"].contains(moved(within(BOX), old, new, step))


@given(st.floats(1e-4, 1.0))
def test_within_leaves_alone_what_is_inside(new):
    assert moved(within(BOX), 0.5, new) == new


def test_within_passes_names_it_does_not_know():
    assert within(BOX)({"momentum": 0.9}, {"momentum": 7.0}, 1) == {"momentum": 7.0}


@given(POSITIVE, NUMBERS, DELTAS)
def test_max_delta_is_a_bound_on_the_logarithm(old, new, delta):
    allowed = moved(max_delta(delta), old, new)
    assert abs(math.log(allowed / old)) <= math.log1p(delta) + 1e-12


@given(POSITIVE, DELTAS, st.floats(-1, 1))
def test_max_delta_leaves_alone_what_is_near(old, delta, share):
    new = old * (1 + delta) ** (0.999 * share)
    assert moved(max_delta(delta), old, new) == new


@given(NUMBERS, NUMBERS, NUMBERS, DELTAS)
def test_max_delta_keeps_the_order_of_proposals(old, new, newer, delta):
    guard = max_delta(delta)
    low, high = sorted((new, newer))
    assert moved(guard, old, low) <= moved(guard, old, high)


@given(NUMBERS, NUMBERS, DELTAS)
def test_max_delta_moves_towards_the_proposal_and_never_past_it(old, new, delta):
    low, high = sorted((old, new))
    assert low <= moved(max_delta(delta), old, new) <= high


@given(POSITIVE, DELTAS)
def test_a_full_rise_and_a_full_fall_cancel(old, delta):
    guard = max_delta(delta)
    assert moved(guard, moved(guard, old, math.inf if old == 0 else 1e300), 1e-300) == pytest.approx(old, rel=1e-12)


@given(st.floats(1e-3, 10.0), st.sampled_from([1.0, -1.0, 1e-3]))
def test_zero_can_be_left_and_reached(delta, goal):
    """A bound that is only relative would hold a value at zero for ever, and never let it get there."""
    guard, value, num_steps = max_delta(delta), 0.0, 0
    while value != goal:
        value, num_steps = moved(guard, value, goal), num_steps + 1
        assert num_steps < 30_000
    while value != 0.0:
        value, num_steps = moved(guard, value, 0.0), num_steps + 1
        assert num_steps < 60_000


def test_a_value_can_change_its_sign():
    guard, value = max_delta(0.5), 0.1
    for _ in range(200):
        value = moved(guard, value, -0.1)
    assert value == -0.1


def test_each_value_is_bounded_on_its_own():
    assert max_delta(1.0)({"lr": 1.0, "wd": 0.1}, {"lr": 8.0, "wd": 0.11}, 1) == {"lr": 2.0, "wd": 0.11}


@pytest.mark.parametrize("value", [0.0, -0.5, math.nan, math.inf])
def test_max_delta_refuses(value):
    with pytest.raises(ValueError, match="delta must be a finite number above 0"):
        max_delta(value)
    with pytest.raises(ValueError, match="floor must be a finite number above 0"):
        max_delta(0.5, floor=value)


@given(st.integers(0, 20), st.integers(1, 60))
def test_warmup_holds_at_first_and_never_again(num_steps, step):
    assert moved(warmup(num_steps), 0.1, 0.2, step) == (0.1 if step <= num_steps else 0.2)


@given(st.integers(0, 20))
def test_cooldown_lets_one_in_n_plus_one_through(num_steps):
    steps = [step for step in range(1, 201) if moved(cooldown(num_steps), 0.1, 0.2, step) == 0.2]
    assert steps == list(range(1, 201, num_steps + 1))


@pytest.mark.parametrize("make", [warmup, cooldown])
@pytest.mark.parametrize("count", [-1, 0.5])
def test_counts_are_whole_and_not_negative(make, count):
    with pytest.raises(ValueError, match="whole number of control steps"):
        make(count)


def test_the_order_of_a_chain_matters_and_the_last_has_the_last_word():
    outside = 100.0
    assert moved(chain(max_delta(0.5), within(BOX)), outside, outside) == 1.0
    assert moved(chain(within(BOX), max_delta(0.5)), outside, outside) == pytest.approx(outside / 1.5)


def test_each_guard_of_a_chain_sees_what_the_one_before_allowed():
    seen = []

    def spy(current, proposed, step):
        seen.append((current["lr"], proposed["lr"], step))
        return dict(proposed)

    assert moved(chain(spy, max_delta(1.0), spy), 0.1, 5.0, step=3) == 0.2
    assert seen == [(0.1, 5.0, 3), (0.1, 0.2, 3)]


@given(POSITIVE, NUMBERS)
def test_the_empty_chain_allows_everything(old, new):
    assert moved(chain(), old, new) == new


@given(st.floats(1e-4, 1.0), NUMBERS, st.integers(1, 30))
def test_the_default_chain_is_inside_box_and_bound(old, new, step):
    allowed = moved(chain(max_delta(0.5), within(BOX)), old, new, step)
    assert BOX["lr"].contains(allowed)
    assert abs(math.log(allowed / old)) <= math.log(1.5) + 1e-12
