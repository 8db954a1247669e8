"""One run, folded again: what a learned policy saw at every step, what it decided, and which sights moved it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot import policy_file
from surefoot.insight.words import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surefoot.control import Control
    from surefoot.learned import Learned
    from surefoot.perceptron import Perceptron

GUARDS = {
    "first": "a short first window, so that the next decision comes soon",
    "limit": "the network asked for more than one decision may change",
    "alarm": "the loss exploded, or was no number: the scale was cut at once",
}
"""What keeps a policy from harm, by the name it has in rows."""

_POINTS = (np.arange(16) + 0.5) / 16.0
_SHIFT = 1e-4


class Moment(NamedTuple):
    """One step.

    Attributes:
        step: Steps made before it.
        loss: What it met.
        rate: The rate it was made at.
        features: What was in view before it, by name.
        action: What was decided before it, between -1 and 1; None if no decision was due.
        factor: What that multiplied the scale by; None likewise.
        guard: Which of `GUARDS` came into play, with commas between; an alarm is its own loss's.
        moved: How much of the action each feature is to be credited with, by name; empty if there is none.
        why: The decision in words; empty if there is none.
    """

    step: int
    loss: float
    rate: float
    features: dict[str, float]
    action: float | None
    factor: float | None
    guard: str
    moved: dict[str, float]
    why: str


@dataclass(frozen=True)
class Trace:
    """All steps of one run.

    Attributes:
        policy: The policy's name.
        rows: One for each step.
        advised: Whether the rates are those of a log, which the policy did not set: its actions are advice then, and the next
            ones come from a run that did not follow it.
    """

    policy: str
    rows: list[Moment]
    advised: bool = False

    @property
    def decisions(self) -> list[Moment]:
        """The rows of steps before which something was decided."""
        return [row for row in self.rows if row.action is not None]


def trace(
    policy: Learned,
    losses: Sequence[float],
    *,
    base: float = 1.0,
    rates: Sequence[float] | None = None,
    signals: Mapping[str, Sequence[float]] | None = None,
) -> Trace:
    r"""Fold losses as a learned policy does when it drives, and write down what it sees and decides.

    An action $a(x)$ is credited to what is in view by integrated gradients from a view in which everything is 0, at rest:
    feature $i$ gets $x_i \int_0^1 \partial_i a(u x)\,du$. All of these and the action at rest add up to what the network said.

    Args:
        policy: The policy.
        losses: The loss of every step.
        base: The base rate, above 0.
        rates: The rate of every step, where the policy did not set it: what it then sees are these. None if it did.
        signals: What else it sees, by name, one value for every step.

    Raises:
        ValueError: There are not as many rates or signals as losses, or a signal that the policy sees is missing.

    Reference: for integrated gradients, Sundararajan, Taly and Yan, 2017, arXiv:1703.01365.
    """
    network, card = policy_file.read(policy.name)
    control, told = card.control(1 if policy.timed else policy.steps), dict(signals or {})
    needed = control.features.signals + ("progress",) * policy.timed
    if missing := [name for name in needed if name not in told]:
        raise ValueError(
            f"{policy.name} sees {', '.join(missing)} as well, which must be given for every step (or take a policy that sees "
            "losses alone)"
        )
    for name, values in {**told, "rates": losses if rates is None else rates}.items():
        if len(values) != len(losses):
            raise ValueError(f"{name} must be one for each of {len(losses)} losses, got {len(values)}")
    if rates is not None:
        told["scale"] = [float(rate) / base for rate in rates]
    return Trace(policy.name, _fold(control, network, [float(loss) for loss in losses], base, told), rates is not None)


def _fold(
    control: Control, network: Perceptron, losses: Sequence[float], base: float, told: Mapping[str, Sequence[float]]
) -> list[Moment]:
    names, state, rows = control.features.names, control.init(), []
    for step, loss in enumerate(losses):
        view, before = control.view(state), state
        asked = network(view) if control.due(state) else None
        guards: list[str] = []
        if asked is not None:
            guards = ["first"] * (state.decision < len(control.first)) + ["limit"] * (abs(asked) > 1.0)
            state = control.act(state, asked)
        now = {name: float(values[step]) for name, values in told.items()}
        scale = now.get("scale", state.scale)
        seen = dict(zip(names, map(float, view), strict=True))
        decided = _decided(network, seen, asked, state.correction - before.correction)
        alarms, state = state.alarms, control.update(state, loss, **now)
        guards += ["alarm"] * int(state.alarms > alarms)
        rows.append(Moment(step, loss, base * scale, seen, *decided[:2], ",".join(guards), *decided[2:]))
    return rows


def _decided(
    network: Perceptron, seen: Mapping[str, float], asked: float | None, turn: float
) -> tuple[float | None, float | None, dict[str, float], str]:
    """Action, factor, credits and words of a decision that turned the scale by so many doublings."""
    if asked is None:
        return None, None, {}, ""
    moved = dict(zip(seen, credits_of(network, tuple(seen.values())).tolist(), strict=True))
    factor = float(2.0**turn)
    return min(max(asked, -1.0), 1.0), factor, moved, sentence(factor, seen, moved)


def credits_of(network: Perceptron, view: Any) -> Any:
    """What each entry of a view adds to the action, by integrated gradients from a view of zeros; shape (features,).

    >>> from surefoot.perceptron import Perceptron
    >>> mean = Perceptron(((np.float32([[0.5, 0.5]]), np.float32([0.0])),))
    >>> credits_of(mean, (1.0, 3.0)).round(6).tolist()
    [0.5, 1.5]
    """
    at = np.asarray(view, np.float64)
    path = at[:, None] * _POINTS
    shifts = _SHIFT * np.eye(len(at))[:, :, None]
    ahead, behind = (network((path[:, None, :] + sign * shifts).reshape(len(at), -1)) for sign in (1.0, -1.0))
    slopes = (ahead - behind).reshape(len(at), -1) / (2.0 * _SHIFT)
    return at * slopes.mean(axis=1)
