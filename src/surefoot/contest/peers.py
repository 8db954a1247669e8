"""GreedyLR as `transformers` ships it, where a policy is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PeerState(NamedTuple):
    """The schedulers themselves, one per run once the first losses have come."""

    scale: Any = 1.0
    schedulers: tuple[Any, ...] = ()


@dataclass(frozen=True)
class TransformersGreedy:
    """`transformers.optimization.GreedyLR` itself, one per run, stepped with every training loss.

    Its limits are rates, not multiples of the base rate: 0.001 and 1 unless they are set. So it has to know the base rate. Its
    state is changed in place: unlike that of a policy of this library, it can be folded once only.

    Attributes:
        base: The base rate of all runs, above 0.
        bounded: Whether to follow its paper's advice in place of its defaults: losses smoothed over 50 steps, and limits that
            count from the base rate, a tenth of it and ten times it.

    Reference: Subramanian, Krishnamoorthy and Murthy, 2025, arXiv:2512.14527.
    """

    base: float
    bounded: bool = False

    def init(self) -> PeerState:
        """No schedulers yet: how many runs there are, the first losses show."""
        return PeerState()

    def update(self, state: PeerState, loss: Any, **_: Any) -> PeerState:
        """Step every scheduler with the loss of its run; a loss that is no number is what the class makes of it."""
        losses: NDArray[np.float64] = np.atleast_1d(np.asarray(loss, np.float64))
        schedulers = state.schedulers or tuple(self._scheduler() for _ in losses)
        for scheduler, one in zip(schedulers, losses.tolist(), strict=True):
            if isfinite(one):  # The run is over otherwise.
                scheduler.step(one)
        rates = np.array([scheduler.optimizer.param_groups[0]["lr"] for scheduler in schedulers])
        return PeerState((rates / self.base).reshape(np.shape(loss)), schedulers)

    def _scheduler(self) -> Any:
        from torch import nn, optim, zeros
        from transformers.optimization import GreedyLR

        settings: dict[str, Any] = (
            {"smooth": True, "min_lr": 0.1 * self.base, "max_lr": 10.0 * self.base} if self.bounded else {}
        )
        return GreedyLR(optim.SGD([nn.Parameter(zeros(1))], lr=self.base), **settings)
