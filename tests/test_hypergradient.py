"""A rate that follows its own gradient."""

import math
import pickle
from itertools import accumulate, pairwise

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import alignments, hypergradient
from surefoot import Clip, Every, Hypergradient, Warmup, schedule, train
from surefoot.nmf import Factorisation, Matrices


def states(policy, values):
    return list(accumulate(values, lambda state, value: policy.update(state, 1.0, alignment=value), initial=policy.init()))


def scales(policy, values):
    return [float(state.scale) for state in states(policy, values)]


@given(hypergradient, alignments)
def test_the_scale_stays_within_its_limits(policy, values):
    assert all(policy.min_scale <= scale <= policy.max_scale for scale in scales(policy, values))


@given(hypergradient, alignments)
def test_it_moves_by_one_step_at_most(policy, values):
    for before, after in pairwise(scales(policy, values)):
        allowed = policy.step * (before if policy.rule == "multiplicative" else 1.0)
        assert abs(after - before) <= allowed * (1.0 + 1e-12)


@given(hypergradient, st.lists(st.floats(0.0, 1.0), max_size=40))
def test_steps_that_point_the_same_way_never_lower_it_and_steps_that_turn_back_never_raise_it(policy, values):
    assert all(before <= after for before, after in pairwise(scales(policy, values)))
    assert all(before >= after for before, after in pairwise(scales(policy, [-value for value in values])))


@given(hypergradient, alignments, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_an_alignment_that_is_not_finite_is_forgotten(policy, values, odd):
    *_, state = states(policy, values)
    assert policy.update(state, 1.0, alignment=odd) == state


@given(hypergradient, alignments, st.data())
def test_resuming_at_any_cut_equals_never_stopping(policy, values, data):
    cut = data.draw(st.integers(0, len(values)))
    state = pickle.loads(pickle.dumps(states(policy, values[:cut])[-1]))  # noqa: S301 - our own
    for value in values[cut:]:
        state = policy.update(state, 1.0, alignment=value)
    assert state == states(policy, values)[-1]


@given(hypergradient, alignments)
@pytest.mark.parametrize("array", [np.float64, lambda v: torch.tensor(v, dtype=torch.float64)], ids=["numpy", "torch"])
def test_arrays_equal_floats(array, policy, values):
    np.testing.assert_allclose(scales(policy, [array(value) for value in values]), scales(policy, values), rtol=1e-12)


def test_jax_equals_floats_and_a_fleet_its_runs():
    values = np.random.default_rng(0).uniform(-1.0, 1.0, (30, 4)).astype(np.float32)
    for rule in ("multiplicative", "additive"):
        policy = Hypergradient(step=0.3, rule=rule)
        alone = [scales(policy, column.tolist())[-1] for column in values.T]
        np.testing.assert_allclose(states(policy, jnp.asarray(values))[-1].scale, alone, rtol=1e-5)
        np.testing.assert_allclose(states(policy, list(values))[-1].scale, alone, rtol=1e-5)


@pytest.mark.parametrize("policy", [Hypergradient(), Warmup(Hypergradient(), steps=1), Clip(Hypergradient())], ids=repr)
def test_without_its_signal_it_says_what_is_missing(policy):
    with pytest.raises(ValueError, match="Hypergradient must be told the signal `alignment`"):
        list(schedule(policy, [1.0, 1.0, 1.0]))


@given(st.floats(0.01, 3.0))
def test_the_alignment_has_the_sign_of_the_derivative_by_the_rate(rate):
    """On a bowl, whose derivative can be had from two more steps."""
    curvatures, start = np.array([1.0, 0.3]), np.array([1.0, -2.0])

    def gradient(x):
        return curvatures * x

    def loss_after(rate):
        return float(np.sum(curvatures * (start - rate * gradient(start)) ** 2)) / 2.0

    derivative = (loss_after(rate + 1e-6) - loss_after(rate - 1e-6)) / 2e-6
    product = gradient(start - rate * gradient(start)) @ gradient(start)
    assert derivative == pytest.approx(-product, abs=1e-6)


def test_it_repairs_a_base_that_is_far_too_low():
    made = Factorisation("test", draw=Matrices(), rank=6, batch_size=None)
    ends = {}
    for policy in (Hypergradient(max_scale=100.0), Hypergradient(min_scale=1.0, max_scale=1.0)):
        *_, ends[policy] = train(made, policy, base=0.01, steps=400)
    repaired, constant = ends.values()
    assert repaired.rate > 20.0 * constant.rate
    assert repaired.loss < 0.5 * constant.loss


def test_inside_every_it_sees_the_alignment_of_the_last_step():
    policy = Every(Hypergradient(step=0.5), steps=2)
    assert scales(policy, [-1.0, 1.0, 1.0, -1.0]) == [1.0, 1.0, 1.5, 1.5, 0.75]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 1.0}, "step must lie strictly between 0 and 1, got 1.0"),
        ({"rule": "geometric"}, "rule must be one of 'multiplicative', 'additive', got 'geometric'"),
        ({"min_scale": 0.0}, "min_scale must be above 0"),
        ({"max_scale": 0.5}, "max_scale must be finite and 1 or more, got 0.5"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        Hypergradient(**settings)
