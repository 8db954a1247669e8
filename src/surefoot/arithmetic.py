"""The loss brings its own arithmetic: Python floats, NumPy arrays, PyTorch tensors or JAX arrays.

No framework is imported here. Who hands over a tensor has imported torch already, so it is found in `sys.modules`.
"""

from __future__ import annotations

import math
import sys
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

S = TypeVar("S")

FRAMEWORKS = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "jaxlib": "jax.numpy"}


class Floats:
    """What the array frameworks offer under these names, for plain numbers (and tuples of them as stacks)."""

    cos = staticmethod(math.cos)
    cumsum = staticmethod(lambda stack, _axis: tuple(accumulate(stack)))
    floor = staticmethod(math.floor)
    isfinite = staticmethod(math.isfinite)
    log2 = staticmethod(math.log2)
    multiply = staticmethod(lambda stack, other: tuple(map(mul, stack, other)))
    sqrt = staticmethod(math.sqrt)
    stack = staticmethod(tuple)
    subtract = staticmethod(lambda stack, number: tuple(item - number for item in stack))
    sum = staticmethod(sum)  # `xp.sum(stack, 0)`: the first axis of an array, or the start of the built-in sum.

    @staticmethod
    def where(condition: Any, x: Any, y: Any) -> Any:
        """One of two values; both have been computed."""
        return x if condition else y


_known: dict[type, Any] = {}


def _arithmetic_of(kind: type) -> Any:
    # Not functools.cache, of which torch.compile warns.
    if kind not in _known:
        _known[kind] = _find(kind)
    return _known[kind]


def _find(kind: type) -> Any:
    if issubclass(kind, (int, float)):
        return Floats
    for parent in kind.__mro__:  # A tensor subclass may live in any package.
        if module := FRAMEWORKS.get(parent.__module__.partition(".")[0]):
            return sys.modules[module]
    raise TypeError(f"a loss must be a number, a NumPy or JAX array or a PyTorch tensor, got {kind.__name__}")


def arithmetic(*values: Any) -> Any:
    """The namespace whose `where`, `cos`, ... act on these values: that of the first which is not a plain number.

    >>> arithmetic(1, 2.0).where(True, "left", "right")
    'left'
    """
    for value in values:
        namespace = _arithmetic_of(type(value))
        if namespace is not Floats:
            return namespace
    return Floats


def meet(state: S, loss: Any) -> tuple[Any, S, Any]:
    """Bring a state and a loss to one arithmetic: `(namespace, state, loss)`, the numbers of the state like the loss."""
    xp = arithmetic(loss, state.scale)  # type: ignore[attr-defined]
    if xp is Floats:
        return xp, state, float(loss)
    loss = xp.full_like(state.scale, float(loss)) if isinstance(loss, (int, float)) else widen(loss)  # type: ignore[attr-defined]
    return xp, lift(state, loss), loss


def widen(loss: Any) -> Any:
    """The loss as a float, or as an array of float32 or wider, outside any autograd graph.

    A scale in half precision could not even hold a change of 1%.
    """
    xp = arithmetic(loss)
    if xp is Floats:
        return float(loss)
    if hasattr(loss, "detach"):
        loss = loss.detach()
    dtype = xp.promote_types(loss.dtype, xp.float32)
    return loss if loss.dtype == dtype else xp.asarray(loss, dtype=dtype)


def lift(state: S, like: Any) -> S:
    """The same state with every plain number turned into an array of the shape and arithmetic of `like`.

    `update` does this by itself when it meets the first array. Call it where the structure of the state has to be fixed
    beforehand, as for `jax.lax.scan`: `jax.lax.scan(step, lift(policy.init(), losses[0]), losses)`.

    Args:
        state: Any policy's state.
        like: A floating-point array; floats take its dtype, counts become integers and flags booleans.

    >>> import numpy as np
    >>> from surefoot import Greedy
    >>> lift(Greedy().init(), np.zeros(3)).scale
    array([1., 1., 1.])
    """
    xp = arithmetic(like)
    return state if xp is Floats else _lift(state, like, xp)


def _lift(value: Any, like: Any, xp: Any) -> Any:
    if isinstance(value, tuple):
        lifted = [_lift(item, like, xp) for item in value]
        if hasattr(value, "_fields"):
            return type(value)(*lifted)
        return xp.stack(tuple(lifted)) if lifted else ()
    if isinstance(value, float):
        return xp.full_like(like, value)
    if isinstance(value, int):
        return xp.full_like(like, value, dtype=xp.bool if isinstance(value, bool) else xp.int32)
    return value


def choose(condition: Any, new: Callable[[], S], old: S) -> S:
    """`new()` where the condition holds and `old` elsewhere, through all the fields of a state.

    Where the condition is one plain truth value, the other side is not even computed.
    """
    xp = arithmetic(condition)
    if xp is Floats:
        return new() if condition else old
    return _choose(condition, new(), old, xp)  # type: ignore[no-any-return]


def _choose(condition: Any, new: Any, old: Any, xp: Any) -> Any:
    if isinstance(new, tuple):
        chosen = [_choose(condition, a, b, xp) for a, b in zip(new, old, strict=True)]
        return type(new)(*chosen) if hasattr(new, "_fields") else tuple(chosen)
    return xp.where(condition, new, old)
