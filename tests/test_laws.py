"""What holds for every policy and every sequence of losses."""

import copy
import json
import math
import pickle
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strategies import driven, every, finite_losses, greedy, hypergradient, losses, plateau, timed
from surefoot import Greedy, Plateau, Policy, schedule
from surefoot.runner import runner
from surefoot.spec import from_dict, to_dict


def scales(policy, values):
    return [state.scale for state in schedule(policy, values)]


@given(every, losses)
def test_a_scale_is_a_finite_number_of_zero_or_more(policy, values):
    assert all(math.isfinite(scale) and scale >= 0.0 for scale in scales(policy, values))


@given(greedy(), losses)
def test_greedy_stays_within_its_limits(policy, values):
    assert all(policy.min_scale <= scale <= policy.max_scale for scale in scales(policy, values))


@given(plateau(), losses)
def test_plateau_stays_within_its_limits(policy, values):
    assert all(policy.min_scale <= scale <= 1.0 for scale in scales(policy, values))


@given(timed, losses)
def test_a_schedule_of_time_stays_between_zero_and_the_base_rate(policy, values):
    assert all(0.0 <= scale <= 1.0 + 1e-12 for scale in scales(policy, values))


@given(driven, losses)
def test_a_policy_driven_by_the_loss_moves_by_one_factor_at_most(policy, values):
    for before, after in pairwise(scales(policy, values)):
        assert policy.factor * (1 - 1e-12) <= after / before <= (1 + 1e-12) / policy.factor


@given(every, losses, st.integers(-8, 8))
def test_no_policy_cares_about_the_units_of_the_loss(policy, values, power):
    assert scales(policy, values) == scales(policy, [value * 2.0**power for value in values])


@given(every, losses)
def test_the_first_scale_is_that_of_the_first_state(policy, values):
    assert scales(policy, values)[0] == policy.init().scale


@given(every, losses, st.data())
def test_resuming_at_any_cut_equals_never_stopping(policy, values, data):
    cut = data.draw(st.integers(0, len(values)))
    first, whole = runner(policy), runner(policy)
    for value in values[:cut]:
        first.advance(value)
    second = runner(policy, pickle.loads(pickle.dumps(first.state)))  # noqa: S301 - our own
    resumed = [second.advance(value) for value in values[cut:]]
    assert resumed == [whole.advance(value) for value in values][cut:]


@given(greedy(), st.lists(st.floats(-1e3, 1e3), max_size=60), st.data())
def test_resuming_is_exact_to_the_last_bit_for_any_losses(policy, values, data):
    cut = data.draw(st.integers(0, len(values)))
    whole, first = runner(policy), runner(policy)
    for value in values[:cut]:
        whole.advance(value)
        first.advance(value)
    second = runner(policy, first.state)
    for value in values[cut:]:
        whole.advance(value)
        second.advance(value)
    assert second.state == whole.state


@given(every, losses)
def test_the_fast_runner_equals_the_fold(policy, values):
    fast, path = runner(policy), []
    for value in values:
        fast.advance(value)
        path.append(fast.state)
    expected = list(schedule(policy, values))[1:]
    if isinstance(policy, Greedy):
        # A sum of squares, which the two sum up in another order.
        assert [state.scatter for state in path] == pytest.approx([state.scatter for state in expected])
        path, expected = ([state._replace(scatter=0.0) for state in states] for states in (path, expected))
    assert repr(path) == repr(expected)


@given(every, losses)
def test_no_state_is_changed_in_place(policy, values):
    states = list(schedule(policy, values))
    before = repr(states)
    for state in states:
        policy.update(state, 1.0)
    assert repr(states) == before


@given(driven, losses, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_loss_that_is_not_finite_is_forgotten(policy, values, odd):
    *_, state = schedule(policy, values)
    assert policy.update(state, odd) == state


@given(driven, st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60))
def test_no_float_whatever_breaks_a_policy(policy, values):
    assert all(math.isfinite(scale) for scale in scales(policy, values))


@given(st.one_of(greedy(mode="min"), plateau(mode="min")), st.integers(1, 80), st.floats(0.01, 0.4))
def test_a_steadily_falling_loss_never_lowers_the_scale(policy, steps, rate):
    assume(policy.threshold < rate)
    values = [(1.0 - rate) ** step for step in range(steps)]
    is_smooth = isinstance(policy, Greedy) and policy.window > 1
    assume(not is_smooth or policy.threshold == 0.0)  # A mean falls by less than its last loss while the window fills up.
    assert all(before <= after for before, after in pairwise(scales(policy, values)))


@given(st.one_of(greedy(mode="min"), plateau(mode="min")), finite_losses)
def test_max_mode_is_min_mode_upside_down(policy, values):
    mirrored = from_dict(to_dict(policy) | {"mode": "max"})
    assert scales(policy, values) == scales(mirrored, [-value for value in values])


@given(every | hypergradient)
def test_a_policy_pickles_copies_and_round_trips_through_json(policy):
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301 - our own
    assert copy.deepcopy(policy) == policy
    assert from_dict(json.loads(json.dumps(to_dict(policy)))) == policy


@given(every | hypergradient)
def test_a_policy_is_hashable_and_can_be_typed_back_in(policy):
    import surefoot

    assert hash(policy) == hash(copy.deepcopy(policy))
    assert eval(repr(policy), vars(surefoot)) == policy  # noqa: S307 - our own


@given(every | hypergradient)
def test_every_policy_keeps_the_protocol(policy):
    assert isinstance(policy, Policy)


def test_plateau_never_raises_the_scale():
    up_and_down = [3.0, 2.0, 1.0, 5.0, 5.0, 4.0, 0.5, 0.1, 6.0, 7.0]
    path = scales(Plateau(factor=0.5, patience=0), up_and_down)
    assert all(after <= before for before, after in pairwise(path))
