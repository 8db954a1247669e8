"""An eye on a descent: when to stop, and what to go back to if it went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.nmf.descent import Descent

_DIVERGED = 10.0
"""A loss this many times the first one will not come back."""
_ROUNDING = 1e-12
_LULL = 5
"""Iterations over which progress is averaged: a single slow one proves nothing."""


@dataclass
class Watch:
    """What was best so far, and what went wrong.

    Attributes:
        tolerance: An iteration that lowers the loss by less than this fraction of it ends the descent, and so does a loss
            below its square, a relative error below it; 0 for never.
        keeps: Whether to keep the best factors, as is needed where the loss can rise.
        trouble: What went wrong, in a sentence; empty if nothing did.
        is_settled: Whether the descent ended because hardly anything changed any more.
    """

    tolerance: float = 0.0
    keeps: bool = False
    trouble: str = ""
    is_settled: bool = False
    _losses: tuple[float, ...] = ()
    _first: float = inf
    _lowest: float = inf
    _best: tuple[NDArray[Any], NDArray[Any]] | None = None

    def begin(self, descent: Descent, loss: float) -> None:
        """Take note of the start and its loss, in case nothing better comes."""
        self._first = loss
        self._keep(descent, loss)

    def is_over(self, descent: Descent, loss: float) -> bool:
        """Whether to end here; after trouble the descent has the best factors again.

        Args:
            descent: What is watched.
            loss: Its loss after the last iteration.
        """
        self.trouble = trouble(descent, loss, self._first)
        if self.trouble:
            if self._best is not None:
                descent.codes, descent.parts = self._best
            return True
        if loss < self._lowest:
            self._keep(descent, loss)
        before = self._losses[0] if len(self._losses) == _LULL else inf
        self._losses = (*self._losses, loss)[-_LULL:]
        is_slow = before - loss <= _LULL * self.tolerance * loss
        self.is_settled = self.tolerance > 0.0 and (is_slow or loss <= self.tolerance**2)
        return self.is_settled

    def _keep(self, descent: Descent, loss: float) -> None:
        self._lowest = loss
        if self.keeps:
            self._best = descent.codes.copy(), descent.parts.copy()


def trouble(descent: Descent, loss: float, first: float) -> str:
    """What is wrong with a descent, in a sentence; empty if nothing is.

    Args:
        descent: A descent after at least one step.
        loss: Its loss.
        first: The loss that it began with; infinity if no loss is too large.
    """
    if not isfinite(loss) or loss > _DIVERGED * max(first, 1.0):
        return f"the factorisation diverged, from a loss of {first:.3g} to {loss:.3g}; the best factors on the way were kept"
    if loss > _ROUNDING and not (descent.codes.any() and descent.parts.any()):
        return "the factorisation collapsed, all parts or all codes are zero; the best factors on the way were kept"
    return ""
