"""A schedule is a fold over losses: `state = policy.update(state, loss)`, and every state has a `scale`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

S = TypeVar("S", bound="State")


class State(Protocol):
    """What a policy remembers: plain numbers (or arrays of them), as a NamedTuple."""

    @property
    def scale(self) -> Any:
        """The multiple of the base learning rate to use next; dimensionless, 0 or more."""
        ...


@runtime_checkable
class Policy(Protocol[S]):
    """A rule for the learning rate: a frozen dataclass with these two pure methods.

    One `update` serves every arithmetic: where losses are floats, so is the scale; where they are NumPy arrays, PyTorch
    tensors or JAX arrays of any shape, so is the scale, one entry per loss. A vector of losses is a fleet of runs.

    >>> from surefoot import Cosine
    >>> isinstance(Cosine(steps=100), Policy)
    True
    """

    def init(self) -> S:
        """The state before any loss was seen; its `scale` is the one to start with."""
        ...

    def update(self, state: S, loss: Any, **signals: Any) -> S:
        """The state after a step that was made at `state.scale` and met `loss`.

        Args:
            state: What `init` or the last `update` returned.
            loss: The step's training loss (or any other value to watch), in its own units.
            **signals: Further measurements by name, such as a gradient's norm; a policy ignores those it does not know.
        """
        ...


def schedule(policy: Policy[S], losses: Iterable[Any]) -> Iterator[S]:
    """Every state on the way through `losses`: first the initial one, then one per loss.

    This is the simulator, the replayer and the plotter in one: nothing is trained.

    >>> from surefoot import Step
    >>> [state.scale for state in schedule(Step(milestones=(2,), factor=0.5), [3.0, 2.0, 1.0])]
    [1.0, 1.0, 0.5, 0.5]
    """
    return accumulate(losses, policy.update, initial=policy.init())


def parts(policy: Any) -> Iterator[Any]:
    """A policy and all those that it is made of.

    >>> from surefoot import Cosine, Warmup
    >>> [type(part).__name__ for part in parts(Warmup(Cosine(steps=90), steps=10))]
    ['Warmup', 'Cosine']
    """
    yield policy
    for setting in fields(policy) if is_dataclass(policy) else ():
        inner = getattr(policy, setting.name)
        if isinstance(inner, Policy):
            yield from parts(inner)
