"""A policy in motion, for loops that go on from one loss to the next and keep no old states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from surefoot.changes import Because, reason
from surefoot.greedy import Greedy
from surefoot.greedy_runner import GreedyRunner

if TYPE_CHECKING:
    from surefoot.policy import Policy


class Runner(Protocol):
    """A policy together with its current state."""

    @property
    def state(self) -> Any:
        """The policy's state; runners made from it go on as this one does."""
        ...

    def advance(self, loss: Any, **signals: Any) -> Any:
        """Take in one loss and return the next scale."""
        ...

    def why(self) -> str:
        """Why the last loss changed the scale, in a few words; empty if it did not, or if nothing was decided."""
        ...

    def because(self) -> Because | None:
        """What says so when it is called with what comes along, for those who may never ask; None if `why` were empty."""
        ...


class Fold:
    """The plain runner: it folds `policy.update` over the losses."""

    def __init__(self, policy: Policy[Any], state: Any) -> None:
        self.policy = policy
        self.state = self._before = state

    def advance(self, loss: Any, **signals: Any) -> Any:
        """Take in one loss and return the next scale."""
        self._before = self.state
        self.state = self.policy.update(self.state, loss, **signals)
        return self.state.scale

    def why(self) -> str:
        """Why the last loss changed the scale, in a few words; empty if it did not, or if nothing was decided."""
        return reason(self.policy, self._before, self.state)

    def because(self) -> Because | None:
        """The same, in words at once: the states would have to be kept otherwise."""
        said = self.why()
        return (str, (said,)) if said else None


def runner(policy: Policy[Any], state: Any = None) -> Runner:
    """The fastest runner there is for a policy.

    >>> from surefoot import Greedy
    >>> greedy = runner(Greedy(factor=0.5, patience=0))
    >>> [greedy.advance(loss) for loss in [3.0, 2.0, 4.0]]
    [2.0, 4.0, 2.0]
    >>> greedy.why()
    'lowered: 1 not better in a row'

    Args:
        policy: The policy.
        state: Where to start, in plain numbers; None for the beginning.
    """
    state = policy.init() if state is None else state
    return GreedyRunner(policy, state) if type(policy) is Greedy else Fold(policy, state)
