"""A policy at the controls of a factorisation: what it asks for, what the bound allows, and the record of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.nmf.sampling import RunningMaximum, limited

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.policy import Policy


@dataclass
class Pilot:
    """A policy, its state, and the steps that were made.

    Attributes:
        policy: Who sets the scale; None if nobody does, and steps come in cycles.
        unit: What rates are multiplied by before they are written down.
        losses: The loss of every step, as a fraction of the matrix's sum of squares.
        rates: The rate of every step.
        bounds: The largest rate that was allowed at every step.
        clipped: Steps at which the policy asked for more than that.
    """

    policy: Policy[Any] | None
    unit: float = 1.0
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    clipped: int = 0
    _state: Any = None

    def __post_init__(self) -> None:
        self._state = None if self.policy is None else self.policy.init()

    def scale(self) -> float | None:
        """The scale that the policy asks for; None without one.

        Raises:
            ValueError: It is no number, or negative.
        """
        if self.policy is None:
            return None
        scale = float(self._state.scale)
        if not scale >= 0.0:
            raise ValueError(
                f"the scale of a schedule must be 0 or more, got {scale} before step {len(self.losses)} from {self.policy!r} "
                "(a multiple of the stability bound is wanted; whatever is above 1 is clipped)"
            )
        return scale

    def record(self, loss: float, rate: float, bound: float, *, clipped: bool = False) -> None:
        """Take note of a step, and tell the policy of its loss."""
        self.losses.append(loss)
        self.rates.append(self.unit * rate)
        self.bounds.append(self.unit * bound)
        self.clipped += clipped
        if self.policy is None:
            return
        state = self._state
        if state.scale > 1.0:  # As in `Clip`: a policy that builds on its last scale must not wind up beyond the bound.
            state = state._replace(scale=1.0)
        self._state = self.policy.update(state, loss)


@dataclass
class Limit:
    """How far a factor may go in one step: clipped by the edge of the moment, and capped by the first one.

    Attributes:
        safety: The fraction of the edge that scale 1 stands for.
        remembers: Whether the curvature is the largest of late, as it has to be where it changes from batch to batch.
        is_capped: Whether no rate may be larger than what was safe at first.
    """

    safety: float
    remembers: bool = False
    is_capped: bool = False
    _largest: Any = None
    _cap: Any = inf

    def rates(self, curvature: NDArray[Any], scale: float) -> tuple[Any, Any, bool]:
        """The rate, the largest one allowed, and whether less was given than asked for; for each row if there are many.

        Args:
            curvature: The largest eigenvalue of the Gram matrix, or something larger, or one for each row.
            scale: What the policy asks for.
        """
        if self.remembers:
            fold = RunningMaximum()
            # The batch at hand counts at once: one that is larger than all before it must not meet their edge.
            self._largest = fold.init(curvature) if self._largest is None else fold.update(self._largest, curvature)
            curvature = np.asarray(self._largest.value)
        with np.errstate(divide="ignore"):
            edge = 2.0 / curvature
        if self.is_capped:  # Where nothing was curved yet, the first edge is still to come.
            self._cap = np.where(np.isinf(self._cap), self.safety * edge, self._cap)
        bound = limited(self.safety, edge, self._cap)
        asked = self.safety * scale * edge
        is_less = bool(np.any((asked > bound * (1.0 + 1e-12)) & np.isfinite(edge)))
        return limited(min(scale, 1.0) * self.safety, edge, self._cap), bound, is_less


@dataclass
class Noise:
    """An oracle that adds noise to every gradient.

    Attributes:
        std: Its standard deviation, as a multiple of the root mean square entry of the first gradient that it is asked for.
        random: Where chance comes from.
    """

    std: float
    random: np.random.Generator
    _size: float | None = None

    def draw(self, gradient: NDArray[Any]) -> NDArray[Any]:
        """Noise for a gradient."""
        if self._size is None:
            self._size = self.std * float(np.sqrt(np.mean(np.square(gradient, dtype=np.float64))))
        noise: NDArray[Any] = (self._size * self.random.standard_normal(gradient.shape)).astype(gradient.dtype)
        return noise
