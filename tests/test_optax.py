"""Policies as optax transformations: compiled, carried, stacked, wrapped and resumed."""

import io
import sys
from functools import cache

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import surefoot.optax
from strategies import EXAMPLES, LEARNED, dyadic, every, finite_losses, odd
from surefoot import Clip, Cosine, Every, Greedy, Hypergradient, Learned, Then, Warmup, schedule
from surefoot.arithmetic import lift
from surefoot.optax import PolicyState, changes, greedy_lr, policy_state, scale_by_policy

QUICK = Greedy(factor=0.5, patience=0, window=1)
COMPILED = [*EXAMPLES, Learned(LEARNED[1], steps=30), Learned("networks-loss")]
LOSSES = [3.0, 2.0, 4.0, 1.0, 0.5, 0.75, 0.25, 0.5]


@pytest.fixture(autouse=True)
def _single_precision():
    """Other tests of the same process switch to double precision; here it is switched to where it is the subject."""
    with jax.enable_x64(False):
        yield


def descent(policy, rate=1.0):
    return optax.chain(optax.sgd(rate), scale_by_policy(policy))


def updates_of(optimizer, losses, gradient=1.0, **signals):
    """What a parameter would be moved by, step by step, in one compiled program."""

    def step(state, at):
        loss, signals = at
        update, state = optimizer.update(gradient, state, jnp.asarray(gradient), value=loss, **signals)
        return state, update

    signals = {name: jnp.asarray(values) for name, values in signals.items()}
    start = optimizer.init(jnp.asarray(gradient))
    return jax.lax.scan(step, start, (jnp.asarray(losses, jnp.float32), signals))[1]


def plain_scales(policy, losses):
    """The scale of every step: the last one comes too late for any."""
    return [state.scale for state in schedule(policy, losses)][:-1]


@cache
def both_folds(policy):
    """The path of the scales by optax, and by the policy alone, in single precision."""
    optimizer = descent(policy)

    def step(states, loss):
        ours, plain = states
        update, ours = optimizer.update(1.0, ours, value=loss)
        return (ours, policy.update(plain, loss)), (-update, jnp.asarray(plain.scale, jnp.float32))

    def paths(losses):
        return jax.lax.scan(step, (optimizer.init(1.0), lift(policy.init(), losses[0])), losses)[1]

    return jax.jit(paths)


@given(st.sampled_from(COMPILED), st.lists(dyadic | odd, min_size=40, max_size=40))
def test_the_scales_are_those_of_the_policy_alone(policy, losses):
    ours, plain = both_folds(policy)(jnp.asarray(losses, jnp.float32))
    np.testing.assert_array_equal(ours, plain)


@settings(max_examples=8)
@given(every, st.lists(st.floats(0.125, 8.0), min_size=1, max_size=6))
def test_any_policy_moves_as_it_does_on_plain_numbers(policy, losses):
    optimizer = descent(policy)
    state, scales = optimizer.init(1.0), []
    for loss in losses:
        update, state = optimizer.update(1.0, state, value=np.float32(loss))
        scales.append(-float(update))
    plain = [float(scale) for scale in plain_scales(policy, [float(np.float32(loss)) for loss in losses])]
    np.testing.assert_allclose(scales, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "policy", [QUICK, Warmup(Every(QUICK, steps=2), steps=2), Learned(LEARNED[0])], ids=lambda policy: type(policy).__name__
)
def test_a_step_is_traced_once(policy):
    optimizer, traces = optax.chain(optax.adam(0.1), scale_by_policy(policy)), []

    @jax.jit
    def step(weights, state, loss):
        traces.append(1)
        updates, state = optimizer.update(weights, state, weights, value=loss)
        return optax.apply_updates(weights, updates), state

    weights = jnp.ones(3)
    state = optimizer.init(weights)
    for loss in LOSSES:
        weights, state = step(weights, state, jnp.asarray(loss))
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64, jnp.int32])
@pytest.mark.parametrize("wide", [False, True], ids=["single", "double"])
def test_the_types_of_a_state_never_change(wide, dtype):
    policy = Then(Clip(Every(QUICK, steps=2), max_scale=2.0), Warmup(Cosine(steps=9), steps=3), after=4)
    with jax.enable_x64(wide):
        start = scale_by_policy(policy).init(None)
        _, state = scale_by_policy(policy).update(1.0, start, value=np.asarray(3).astype(dtype))
        assert jax.tree.map(jnp.result_type, state) == jax.tree.map(jnp.result_type, start)
        assert state.scale.dtype == jnp.float32
        assert not any(leaf.weak_type for leaf in jax.tree.leaves((start, state)))


def test_a_fleet_equals_its_runs():
    fleet = jnp.asarray([LOSSES, LOSSES[::-1], [1.0] * 8])
    together = jax.vmap(lambda losses: updates_of(descent(QUICK), losses))(fleet)
    np.testing.assert_array_equal(together, [updates_of(descent(QUICK), losses) for losses in fleet])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.complex64])
def test_updates_keep_their_type(dtype):
    updates, _ = descent(QUICK).update(jnp.ones(2, dtype), descent(QUICK).init(jnp.ones(2, dtype)), value=3.0)
    assert updates.dtype == dtype


def test_no_gradient_flows_through_a_policy():
    def weight(loss):
        return updates_of(descent(QUICK), jnp.stack([loss, loss / 2.0])).sum()

    assert jax.grad(weight)(3.0) == 0.0


def test_a_loss_that_is_not_finite_is_forgotten():
    assert updates_of(descent(QUICK), [3.0, np.nan, 2.0, 2.0])[-1] == updates_of(descent(QUICK), [3.0, 2.0, 2.0])[-1]


def test_further_signals_reach_the_policy():
    moves = updates_of(descent(Hypergradient(step=0.5)), LOSSES[:3], alignment=[1.0, -0.5, 0.0])
    assert (-moves).tolist() == [1.0, 1.5, 1.125]


def scaled(policy, losses):
    return np.negative(plain_scales(policy, losses))


def test_it_works_under_multi_steps_with_the_last_loss():
    moves = updates_of(optax.MultiSteps(descent(QUICK), 2).gradient_transformation(), LOSSES)
    assert moves[1::2].tolist() == scaled(QUICK, LOSSES[1::2]).tolist()


def test_it_works_above_multi_steps_with_the_mean_loss():
    above = optax.chain(optax.MultiSteps(optax.sgd(1.0), 2).gradient_transformation(), scale_by_policy(Every(QUICK, steps=2)))
    means = [(one + other) / 2.0 for one, other in zip(LOSSES[::2], LOSSES[1::2], strict=True)]
    assert updates_of(above, LOSSES)[1::2].tolist() == scaled(QUICK, means).tolist()


def test_it_works_under_apply_if_finite():
    optimizer = optax.apply_if_finite(descent(QUICK), max_consecutive_errors=3)
    assert updates_of(optimizer, LOSSES).tolist() == scaled(QUICK, LOSSES).tolist()


def test_it_works_under_multi_transform():
    optimizer = optax.multi_transform({"a": descent(QUICK), "b": descent(Cosine(steps=4))}, {"x": "a", "y": "b"})
    state = optimizer.init({"x": 1.0, "y": 1.0})
    for loss, a, b in zip(LOSSES, scaled(QUICK, LOSSES), scaled(Cosine(steps=4), LOSSES), strict=True):
        updates, state = optimizer.update({"x": 1.0, "y": 1.0}, state, value=loss)
        np.testing.assert_allclose([updates["x"], updates["y"]], [a, b], atol=1e-6)


def test_it_works_under_masked():
    optimizer = optax.masked(descent(QUICK), {"x": True, "y": False})
    state = optimizer.init({"x": 1.0, "y": 1.0})
    _, state = optimizer.update({"x": 1.0, "y": 1.0}, state, value=3.0)
    updates, _ = optimizer.update({"x": 1.0, "y": 1.0}, state, value=2.0)
    assert updates == {"x": -2.0, "y": 1.0}


def test_it_works_under_inject_hyperparams():
    optimizer = optax.inject_hyperparams(lambda rate: descent(QUICK, rate))(rate=0.5)
    assert updates_of(optimizer, LOSSES).tolist() == (0.5 * scaled(QUICK, LOSSES)).tolist()


def test_greedy_lr_stands_where_scale_by_learning_rate_would():
    optimizer = optax.chain(optax.scale_by_adam(), greedy_lr(0.5, factor=0.5, patience=0, smooth=False, max_lr=1.0))
    same = optax.chain(optax.adam(0.5), scale_by_policy(Greedy(factor=0.5, patience=0, window=1, max_scale=2.0)))
    np.testing.assert_array_equal(updates_of(optimizer, LOSSES), updates_of(same, LOSSES))


def test_greedy_lr_takes_a_schedule_as_its_base():
    optimizer = greedy_lr(optax.linear_schedule(1.0, 0.0, 4), factor=0.5, patience=0, window=1)
    assert updates_of(optimizer, LOSSES[:4]).tolist() == [-1.0, -1.5, -2.0, -0.5]


def test_absolute_limits_about_a_schedule_are_refused():
    with pytest.raises(TypeError, match="min_lr and max_lr need a learning_rate that is a number.*use min_scale"):
        greedy_lr(optax.constant_schedule(1.0), min_lr=0.1)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (None, TypeError, "must be given the loss, got none .*value=loss"),
        ((3.0, {}), TypeError, "must be the loss, as one number, got a tuple .*has_aux=True"),
        (jnp.ones(4), ValueError, "must be one loss, got an array of shape .4,. .*value=loss.mean"),
    ],
)
def test_a_value_that_is_no_loss_is_refused_while_tracing(value, kind, message):
    optimizer = descent(QUICK)
    with pytest.raises(kind, match=message):
        jax.jit(lambda state, value: optimizer.update(1.0, state, value=value))(optimizer.init(1.0), value)


def test_what_is_no_policy_is_refused():
    with pytest.raises(TypeError, match="policy must be a policy.*call it to make one"):
        scale_by_policy(Greedy)


@pytest.mark.parametrize(("state", "count"), [((), "none"), ((PolicyState(1), [PolicyState(2)]), "2")])
def test_a_state_without_one_policy_is_refused(state, count):
    with pytest.raises(ValueError, match=f"must hold one PolicyState to be asked for it, got {count}"):
        policy_state(state)


def test_without_optax_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    monkeypatch.delitem(sys.modules, "surefoot.optax")
    with pytest.raises(ImportError, match=r"surefoot.optax needs optax.*pip install 'surefoot\[jax\]'"):
        __import__("surefoot.optax")


def test_the_module_of_that_name_is_optax_itself():
    assert surefoot.optax.optax is optax


@given(finite_losses)
@settings(max_examples=20)
def test_changes_of_a_scan_are_those_of_a_loop(losses):
    optimizer = descent(QUICK)
    start = state = optimizer.init(1.0)
    states, told = [], []
    for place, loss in enumerate(losses):
        before = state
        _, state = optimizer.update(1.0, state, value=loss)
        states.append(policy_state(state))
        told += changes(QUICK, before, state, losses=loss, step=place + 1)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    assert told == list(changes(QUICK, start, stacked, losses=losses))


def test_a_change_says_what_was_decided_and_why():
    optimizer = descent(QUICK)
    start = optimizer.init(1.0)
    _, state = optimizer.update(1.0, start, value=3.0)
    (change,) = changes(QUICK, start, state, losses=3.0, learning_rate=0.5, step=7)
    assert change == (7, 1.0, 2.0, "raised: 1 better in a row", 3.0, (1.0,))


DIGITS = load_digits()
X, Y = (DIGITS.data / 16.0).astype(np.float32), DIGITS.target
BATCHES = np.random.default_rng(0).integers(0, len(X), (60, 64))
ADAM = optax.chain(optax.adam(1e-2), scale_by_policy(Warmup(Greedy(patience=2, window=4), steps=5)))


def crossentropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


class Flax:
    """A Flax model and its optimizer."""

    def __init__(self):
        self.model = nnx.Sequential(nnx.Linear(64, 32, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(32, 10, rngs=nnx.Rngs(1)))
        self.optimizer = nnx.Optimizer(self.model, ADAM, wrt=nnx.Param)

    @staticmethod
    @nnx.jit
    def _step(model, optimizer, x, y):
        loss, gradients = nnx.value_and_grad(lambda model: crossentropy(model(x), y))(model)
        optimizer.update(model, gradients, value=loss)
        return loss

    def step(self, x, y):
        return self._step(self.model, self.optimizer, x, y), self.optimizer.opt_state

    def save(self):
        return flax.serialization.to_bytes(nnx.to_pure_dict(nnx.state((self.model, self.optimizer))))

    def load(self, saved):
        state = nnx.state((self.model, self.optimizer))
        nnx.replace_by_pure_dict(state, flax.serialization.from_bytes(nnx.to_pure_dict(state), saved))
        nnx.update((self.model, self.optimizer), state)


class Equinox:
    """An Equinox model and its optimizer's state."""

    def __init__(self):
        self.model = eqx.nn.MLP(64, 10, 32, 1, key=jax.random.key(0))
        self.state = ADAM.init(eqx.filter(self.model, eqx.is_array))

    @staticmethod
    @eqx.filter_jit
    def _step(model, state, x, y):
        loss, gradients = eqx.filter_value_and_grad(lambda model: crossentropy(jax.vmap(model)(x), y))(model)
        updates, state = ADAM.update(gradients, state, eqx.filter(model, eqx.is_array), value=loss)
        return eqx.apply_updates(model, updates), state, loss

    def step(self, x, y):
        self.model, self.state, loss = self._step(self.model, self.state, x, y)
        return loss, self.state

    def save(self):
        file = io.BytesIO()
        eqx.tree_serialise_leaves(file, (self.model, self.state))
        return file.getvalue()

    def load(self, saved):
        self.model, self.state = eqx.tree_deserialise_leaves(io.BytesIO(saved), (self.model, self.state))


def losses_and_scales(training, batches):
    path = []
    for batch in batches:
        loss, state = training.step(X[batch], Y[batch])
        path.append((float(loss), float(policy_state(state).scale)))
    return path


@pytest.mark.parametrize("kind", [Flax, Equinox])
def test_a_model_learns_and_goes_on_exactly_after_a_checkpoint(kind):
    training, resumed = kind(), kind()
    losses_and_scales(training, BATCHES[:30])
    resumed.load(training.save())
    whole = losses_and_scales(training, BATCHES[30:])
    assert losses_and_scales(resumed, BATCHES[30:]) == whole
    assert whole[-1][0] < 1.0
    assert len({scale for _, scale in whole}) > 3
