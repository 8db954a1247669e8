"""Floats, NumPy, PyTorch and JAX come to the same scales, alone and as fleets."""

import decimal
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import EXAMPLES, dyadic, losses, odd, policies
from surefoot import Every, Greedy, schedule
from surefoot.arithmetic import lift

jax.config.update("jax_enable_x64", True)

ids = [repr(policy) for policy in EXAMPLES]


def scales(policy, values):
    return [float(state.scale) for state in schedule(policy, values)]


def some_losses(seed, shape):
    rng = np.random.default_rng(seed)
    values = rng.integers(-64, 512, shape) / 64.0 + np.linspace(3.0, 0.0, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    values[rng.random(shape) < 0.1] = np.nan
    return np.round(values * 64.0) / 64.0


@given(policies, losses)
def test_numpy_equals_floats(policy, values):
    assert scales(policy, [np.float64(v) for v in values]) == scales(policy, values)
    np.testing.assert_allclose(scales(policy, [np.array(v) for v in values]), scales(policy, values), rtol=1e-12, atol=1e-15)


@given(policies, losses)
def test_torch_equals_floats(policy, values):
    tensors = [torch.tensor(v, dtype=torch.float64) for v in values]
    np.testing.assert_allclose(scales(policy, tensors), scales(policy, values), rtol=1e-12, atol=1e-15)


@cache
def compiled(policy):
    """A whole run in one compiled program."""

    def step(state, loss):
        state = policy.update(state, loss)
        return state, state.scale

    return jax.jit(lambda stacked: jax.lax.scan(step, lift(policy.init(), stacked[0]), stacked)[1])


@given(st.sampled_from(EXAMPLES), st.lists(dyadic | odd, min_size=40, max_size=40))
def test_jax_inside_jit_and_scan_equals_floats(policy, values):
    ours = compiled(policy)(jnp.asarray(values))
    np.testing.assert_allclose(ours, scales(policy, values)[1:], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("policy", EXAMPLES, ids=ids)
def test_jax_outside_jit_equals_floats(policy):
    values = some_losses(1, (30,))
    np.testing.assert_allclose(scales(policy, jnp.asarray(values)), scales(policy, values.tolist()), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("policy", EXAMPLES, ids=ids)
@pytest.mark.parametrize("array", [np.asarray, torch.tensor, jnp.asarray], ids=["numpy", "torch", "jax"])
def test_a_fleet_equals_its_runs(policy, array):
    fleet = some_losses(2, (30, 4))
    *_, last = schedule(policy, [array(row) for row in fleet])
    alone = [scales(policy, column.tolist())[-1] for column in fleet.T]
    np.testing.assert_allclose(np.broadcast_to(np.asarray(last.scale), 4), alone, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_scale_is_at_least_float32_wide(dtype):
    *_, state = schedule(Greedy(patience=0), torch.tensor([3.0, 2.0, 1.0], dtype=dtype))
    assert state.scale.dtype == torch.float32


def test_no_state_holds_on_to_an_autograd_graph():
    parameter = torch.ones((), requires_grad=True)
    for policy in (Greedy(patience=0, window=2), Every(Greedy(patience=0), steps=3)):
        *_, state = schedule(policy, [parameter * loss for loss in (3.0, 2.0, 1.0, 0.5)])
        leaves = torch.utils._pytree.tree_leaves(state)
        assert not any(leaf.requires_grad for leaf in leaves if isinstance(leaf, torch.Tensor))


def test_jit_traces_an_update_twice_at_most():
    policy, traces = Greedy(window=3), []

    @jax.jit
    def update(state, loss):
        traces.append(1)
        return policy.update(state, loss)

    state = policy.init()
    for loss in jnp.linspace(3.0, 1.0, 10):
        state = update(state, loss)
    assert len(traces) == 2


def test_lifting_twice_changes_nothing_more():
    once = lift(Greedy(window=3).init(), np.zeros(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, lift(once, np.zeros(2)), strict=True))


def test_a_float_loss_may_follow_array_losses():
    policy = Greedy(factor=0.5, patience=0)
    state = policy.update(policy.update(policy.init(), np.array([3.0, 1.0])), 2.0)
    assert state.scale.tolist() == [4.0, 1.0]


@pytest.mark.parametrize("loss", ["0.5", decimal.Decimal("0.5"), None, [0.5]])
def test_what_is_not_a_loss_is_refused_by_name(loss):
    with pytest.raises(TypeError, match=f"a loss must be a number.*got {type(loss).__name__}"):
        Greedy().update(Greedy().init(), loss)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_an_integer_loss_counts_as_its_float(value):
    state = Greedy().init()
    assert Greedy().update(state, int(value)) == Greedy().update(state, float(int(value)))
