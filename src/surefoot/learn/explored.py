"""A learned policy that does not quite do what it would, so that its runs show what else could be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import policy_file
from surefoot.arithmetic import choose
from surefoot.numbers import numbers

if TYPE_CHECKING:
    from surefoot.control import Control, ControlState
    from surefoot.perceptron import Perceptron

QUARTERS = 4


@dataclass(frozen=True)
class Explored:
    """A learned policy whose every action is shifted: by one number at the first decision, and by one for each quarter.

    A shift that lasts for a quarter of the budget moves the rate far enough to be felt at the end, as independent noise of its
    size would not. Two runs of one seed with opposite signs differ in nothing else.

    Attributes:
        name: The policy's file.
        steps: The budget in steps.
        seed: What the shifts are drawn from.
        sign: 1 or -1, which they are multiplied by.
        opening: Standard deviation of the first decision's shift, in units of an action.
        drift: That of the others.
    """

    name: str
    steps: int
    seed: int
    sign: float = 1.0
    opening: float = 0.5
    drift: float = 0.12

    def init(self) -> ControlState:
        """The state before any loss, the first decision made."""
        control, network = self._parts()
        state = control.init()
        return control.act(state, network(control.view(state)) + self.shifts()[0])

    def update(self, state: ControlState, loss: Any, **signals: Any) -> ControlState:
        """The state after one more step: see `surefoot.Learned.update`."""
        control, network = self._parts()
        state = control.update(state, loss, **signals)
        due = control.due(state)
        if isinstance(due, np.ndarray) and not due.any():
            return state
        return choose(due, lambda: control.act(state, network(control.view(state)) + self._shift(state)), state)

    def shifts(self) -> list[float]:
        """That of the first decision, and those of the quarters."""
        drawn = np.random.default_rng((self.seed, 7)).standard_normal(QUARTERS + 1)
        sizes = np.array([self.opening] + [self.drift] * QUARTERS)
        return [float(shift) for shift in self.sign * sizes * drawn]

    def _shift(self, state: ControlState) -> Any:
        xp, shift = numbers(state.scale), 0.0 * state.scale
        for quarter, drift in enumerate(self.shifts()[1:]):
            shift = xp.where(QUARTERS * state.step >= quarter * self.steps, drift + 0.0 * shift, shift)
        return shift

    def _parts(self) -> tuple[Control, Perceptron]:
        network, card = _file(self.name)
        return card.control(self.steps), network


_read: dict[str, tuple[Perceptron, policy_file.Card]] = {}


def _file(name: str) -> tuple[Perceptron, policy_file.Card]:
    """A policy's file, read once in a process."""
    if name not in _read:
        _read[name] = policy_file.read(name)
    return _read[name]
