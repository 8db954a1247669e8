"""A factorisation of batches that come one after another and are not kept."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.nmf.watch import trouble

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.nmf.descent import Descent
    from surefoot.nmf.rows import Block


@dataclass
class Stream:
    """A descent that is handed its batches, and the best parts so far.

    Attributes:
        descent: The descent.
        shift: The power of two that data are multiplied by before they come here.
        trouble: What went wrong with the last batch, in a sentence; empty if nothing did.
    """

    descent: Descent
    shift: int
    trouble: str = ""
    _first: float | None = None
    _lowest: float = inf
    _best: NDArray[Any] | None = None

    def take(self, block: Block) -> NDArray[Any]:
        """Move the parts along the gradient of a batch; return those that its loss was measured with, from before."""
        before = self.descent.parts
        loss = self.descent.stream(block)
        self._first = max(loss, 1.0) if self._first is None else self._first
        if loss < self._lowest or self._best is None:
            self._lowest, self._best = loss, before
        is_empty = not block.squares
        loss = loss if np.isfinite(self.descent.parts).all() else inf
        self.trouble = "" if is_empty else trouble(self.descent, loss, self._first)
        if self.trouble:
            self.descent.parts = self._best
        return before
