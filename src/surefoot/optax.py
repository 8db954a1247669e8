"""Policies as optax transformations."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from surefoot import checks, spelling
from surefoot.arithmetic import lift
from surefoot.changes import Change, reason
from surefoot.snapshot import plain, restored

try:
    import jax
    import jax.numpy as jnp
    import optax
except ModuleNotFoundError as error:
    raise ImportError(f"surefoot.optax needs {error.name}, which is not installed: pip install 'surefoot[jax]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surefoot.policy import Policy
    from surefoot.spelling import GreedySettings

__all__ = ["PolicyState", "changes", "greedy_lr", "policy_state", "scale_by_policy"]


class PolicyState(NamedTuple):
    """What `scale_by_policy` remembers.

    Attributes:
        policy: The policy's own state, its numbers as arrays without dimensions.
    """

    policy: Any

    @property
    def scale(self) -> jax.Array:
        """What the next updates will be multiplied by."""
        scale: jax.Array = self.policy.scale
        return scale


def scale_by_policy(policy: Policy[Any]) -> optax.GradientTransformationExtraArgs:
    """Multiply updates by the scale of a policy, which is told the loss of every step.

    It is one more link of a chain, after the optimizer, and `update` wants the loss under optax's own name for it, `value`. An
    update is made at the scale that the losses before it led to, as in every other training with surefoot; its own loss has
    a say in the next one.

    >>> import optax
    >>> from surefoot import Greedy
    >>> descent = optax.chain(optax.sgd(0.1), scale_by_policy(Greedy(factor=0.5, patience=0, window=1)))
    >>> state = descent.init(2.0)
    >>> for loss in [3.0, 2.0, 4.0]:
    ...     updates, state = descent.update(1.0, state, 2.0, value=loss)
    ...     print(round(float(updates), 2), policy_state(state).scale)
    -0.1 2.0
    -0.2 4.0
    -0.4 2.0

    The state is a tree of arrays whose shapes and types never change: `jax.jit` traces an update once, `jax.lax.scan` can
    carry it, and with `jax.vmap` it is a fleet of runs. It counts in float32, or in integers, whatever the parameters are.

    Args:
        policy: Any policy. One that needs other signals is told them by `update`'s further keyword arguments.

    Raises:
        TypeError: The policy is not one. So does `update` where the loss is missing or not a number.
        ValueError: From `update`: the loss is an array with dimensions.
    """
    checks.policy("policy", policy)

    def init(_params: Any) -> PolicyState:
        return PolicyState(lift(policy.init(), jnp.zeros((), jnp.float32)))

    def update(
        updates: Any, state: PolicyState, _params: Any = None, *, value: Any = None, **signals: Any
    ) -> tuple[Any, PolicyState]:
        new = policy.update(state.policy, _one_number(value), **signals)
        scaled = jax.tree.map(lambda update: (state.scale * update).astype(jnp.result_type(update)), updates)
        # An update with 64-bit signals, say, would have another type than the state it came from, and `scan` refuses that.
        return scaled, PolicyState(jax.tree.map(lambda now, was: jnp.asarray(now, was.dtype), new, state.policy))

    return optax.GradientTransformationExtraArgs(init, update)


def greedy_lr(
    learning_rate: optax.ScalarOrSchedule, **settings: Unpack[GreedySettings]
) -> optax.GradientTransformationExtraArgs:
    """A learning rate that follows the loss, to be put where `optax.scale_by_learning_rate` would be.

    >>> import optax
    >>> adam = optax.chain(optax.scale_by_adam(), greedy_lr(1e-3, window=20))
    >>> state = adam.init(2.0)
    >>> updates, state = adam.update(1.0, state, 2.0, value=0.7)

    Args:
        learning_rate: The base rate, or a schedule of it.
        **settings: Those of `surefoot.Greedy`, or what transformers' GreedyLR calls them; absolute limits, `min_lr` and
            `max_lr`, need a base rate that is a number.

    Raises:
        TypeError: There is no such setting, or one is not a number where one is needed.
        ValueError: A setting is outside its range, or is named in both spellings.
    """
    if callable(learning_rate) and {"min_lr", "max_lr"} & settings.keys():
        raise TypeError("min_lr and max_lr need a learning_rate that is a number, got a schedule (use min_scale and max_scale)")
    bases = () if callable(learning_rate) else (float(learning_rate),)
    chained = optax.chain(scale_by_policy(spelling.greedy(settings, bases)), optax.scale_by_learning_rate(learning_rate))
    return optax.with_extra_args_support(chained)


def policy_state(state: Any) -> PolicyState:
    """The one `PolicyState` in the state of an optimizer, however deep in it.

    Args:
        state: What the optimizer's `init` or `update` returned; stacked, as `jax.lax.scan` does it, or not.

    Raises:
        ValueError: There is none in it, or more than one.
    """
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, PolicyState))
    found = [node for node in leaves if isinstance(node, PolicyState)]
    if len(found) != 1:
        raise ValueError(
            f"an optimizer's state must hold one PolicyState to be asked for it, got {len(found) or 'none'} "
            "(hand over the part of the state that is meant, or chain scale_by_policy once)"
        )
    return found[0]


def changes(
    policy: Policy[Any], before: Any, after: Any, *, losses: Any = nan, learning_rate: float | None = None, step: int = 1
) -> Iterator[Change]:
    """What the policy decided, and why, for logs and trackers: compiled code cannot tell, so the host compares states.

    >>> import jax, optax
    >>> from surefoot import Greedy
    >>> policy = Greedy(factor=0.5, patience=0, window=1)
    >>> descent = optax.chain(optax.sgd(0.1), scale_by_policy(policy))
    >>> def body(state, loss):
    ...     _, state = descent.update(1.0, state, value=loss)
    ...     return state, policy_state(state)
    >>> start, losses = descent.init(2.0), jax.numpy.array([3.0, 2.0, 4.0])
    >>> _, states = jax.lax.scan(body, start, losses)
    >>> for change in changes(policy, start, states, losses=losses):
    ...     print(change.step, change.scale, change.reason)
    1 2.0 raised: 1 better in a row
    2 4.0 raised: 1 better in a row
    3 2.0 lowered: 1 not better in a row

    Args:
        policy: The policy of `scale_by_policy`.
        before: The optimizer's state before a step, or before the first of several.
        after: Its state after it; or all states since, stacked along a new first axis, as `jax.lax.scan` returns them.
        losses: The loss of the step, or of each; NaN if they are not at hand.
        learning_rate: The base rate, for the changes' `rates`; None to leave them empty.
        step: The number of the step, or of the first one.
    """
    last = _on_host(policy, policy_state(before))
    stacked = policy_state(after)
    if jnp.ndim(stacked.scale) == 0:
        stacked = jax.tree.map(lambda leaf: leaf[None], stacked)
    stacked = jax.device_get(stacked)
    known = np.broadcast_to(np.asarray(losses, float), stacked.scale.shape)
    for place, loss in enumerate(known.tolist()):
        new = _on_host(policy, jax.tree.map(lambda leaf, at=place: leaf[at], stacked))
        if why := reason(policy, last, new):
            rates = () if learning_rate is None else (learning_rate * new.scale,)
            yield Change(step + place, last.scale, new.scale, why, loss, rates)
        last = new


def _on_host(policy: Policy[Any], state: PolicyState) -> Any:
    """The policy's state in plain numbers, as `policy.init` has them."""
    return restored(policy.init(), plain(jax.device_get(state.policy)), policy)


def _one_number(value: Any) -> jax.Array:
    """The loss in float32, outside any graph; all that can be wrong with it is seen while tracing."""
    if value is None:
        raise TypeError("update() must be given the loss, got none (say update(gradients, state, params, value=loss))")
    if isinstance(value, (tuple, list, dict)):
        raise TypeError(
            f"value must be the loss, as one number, got a {type(value).__name__} (what jax.value_and_grad returns with "
            "has_aux=True has the loss as its first entry)"
        )
    if jnp.shape(value) != ():
        raise ValueError(
            f"value must be one loss, got an array of shape {jnp.shape(value)} (reduce it first: value=loss.mean())"
        )
    return jax.lax.stop_gradient(jnp.asarray(value, jnp.float32))
