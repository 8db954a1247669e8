"""A policy that was learned: a schedule, corrected now and then by a small network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import checks
from surefoot.arithmetic import choose
from surefoot.changes import moved

if TYPE_CHECKING:
    from surefoot.control import Control, ControlState
    from surefoot.perceptron import Perceptron
    from surefoot.policy_file import Card

_read: dict[str, tuple[Perceptron, Card]] = {}
_made: dict[Any, tuple[Control, Perceptron]] = {}


@dataclass(frozen=True)
class Learned:
    """Do what was learned in other trainings: correct a schedule by what the losses look like.

    Every few steps a small network looks at the `surefoot.features.Features` of the losses so far and multiplies the scale by
    up to its largest factor, or divides it. In between, and where the network says nothing, the scale is that of the schedule
    on the policy's card if there is a budget, and constant if there is none. A loss that explodes cuts the scale at once.

    A file is read once in a process, when the first policy of its name is made.

    Attributes:
        name: That of a policy that comes with surefoot (`surefoot policies` lists them), or the path of a policy's file.
        steps: The budget in steps, 1 or more; None if it is not known.
        timed: Whether the budget is counted in something else, such as seconds. Then every update must be given the signal
            `progress`, the fraction of it that is used up by now. `PolicyLR(..., total_seconds=...)` sees to both.

    Raises:
        TypeError: A setting is not of its kind.
        ValueError: There are a number of steps and another budget, or the number is outside its range.
        PolicyFileError: There is no such policy, or its file is not one.
    """

    name: str
    steps: int | None = None
    timed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be the name of a learned policy or the path of a file, as text, got {self.name!r}")
        if self.steps is not None:
            checks.whole("steps", self.steps, low=1)
            if self.timed:
                raise ValueError(f"a budget must be counted in one way, got steps={self.steps} and timed=True (leave one out)")
        self._parts()

    @property
    def card(self) -> Card:
        """What the policy's file says of it."""
        return _file(self.name)[1]

    @property
    def signals(self) -> tuple[str, ...]:
        """What has to be measured of every step beside its loss, by the names that `update` takes it by."""
        return self._parts()[0].features.signals

    def init(self) -> ControlState:
        """The state before any loss; the network has already decided on the first scale."""
        control, network = self._parts()
        state = control.init()
        return control.act(state, network(control.view(state)))

    def update(self, state: ControlState, loss: Any, **signals: Any) -> ControlState:
        """The state after a step at `state.scale` that met this loss; the network is asked where a decision is due.

        Args:
            state: What `init` or the last `update` returned.
            loss: The step's loss.
            **signals: Those in view, if the policy sees more than losses, and `progress`: as for `Features.update`.

        Raises:
            ValueError: A signal that the policy was made to see is missing.
        """
        control, network = self._parts()
        needed = self.signals + ("progress",) * self.timed
        if needed and not signals.keys() >= set(needed):
            raise ValueError(_missing(self, needed, signals))
        state = control.update(state, loss, **signals)
        due = control.due(state)
        if isinstance(due, np.ndarray) and not due.any():
            return state  # A fleet mostly decides in step, so that most of its steps end here.
        return choose(due, lambda: control.act(state, network(control.view(state))), state)

    def why(self, before: ControlState, after: ControlState) -> str:
        """That the loss exploded, or which decision it was, in words; empty where the schedule goes on."""
        if after.alarms > before.alarms:
            return f"{moved(before.scale, after.scale)}: the loss exploded"
        if after.decision == before.decision:
            return ""
        return f"{moved(before.scale, after.scale)} to {after.scale / before.scale:.0%}: decision {after.decision:g}"

    def _parts(self) -> tuple[Control, Perceptron]:
        key = (self.name, self.steps, self.timed)
        if key not in _made:
            network, card = _file(self.name)
            _made[key] = card.control(1 if self.timed else self.steps), network
        return _made[key]


def _file(name: str) -> tuple[Perceptron, Card]:
    from surefoot import policy_file

    if name not in _read:
        _read[name] = policy_file.read(name)
    return _read[name]


def _missing(policy: Learned, needed: tuple[str, ...], signals: dict[str, Any]) -> str:
    missing = ", ".join(name for name in needed if name not in signals)
    return (
        f"{policy.name} must be told {missing} at every step, got {', '.join(signals) or 'only the loss'} (hand it to step or "
        "update by name, or take a policy that sees losses alone)"
    )
