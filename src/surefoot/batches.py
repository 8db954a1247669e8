"""The order in which examples are trained on."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass
class Batches:
    """Numbers of rows, drawn without replacement, epoch by epoch.

    The same seed gives the same order, whatever else is random in the process. Rows that do not fill a last batch are left
    out of that epoch.

    >>> batches = Batches(rows=4, size=2, seed=0)
    >>> sorted([*batches.draw(), *batches.draw()]) == [0, 1, 2, 3]
    True

    Attributes:
        rows: Examples there are, 1 or more.
        size: Examples in a batch, 1 or more; all of them if there are fewer.
        seed: Where the order starts from, 0 or more.
    """

    rows: int
    size: int
    seed: int
    _random: np.random.Generator = field(init=False, repr=False)
    _left: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.size = min(self.size, self.rows)
        self._random = np.random.default_rng(self.seed)
        self._left = np.empty(0, np.int64)

    def draw(self) -> NDArray[np.int64]:
        """The next batch."""
        if len(self._left) < self.size:
            self._left = self._random.permutation(self.rows)
        batch, self._left = self._left[: self.size], self._left[self.size :]
        return batch

    def take(self, count: int) -> NDArray[np.int64]:
        """The next `count` batches, shape (count, size): as many draws, only faster.

        >>> Batches(rows=4, size=2, seed=0).take(3).shape
        (3, 2)
        """
        pieces = []
        while count:
            if len(self._left) < self.size:
                self._left = self._random.permutation(self.rows)
            whole = min(count, len(self._left) // self.size)
            pieces.append(self._left[: whole * self.size].reshape(whole, self.size))
            self._left = self._left[whole * self.size :]
            count -= whole
        return np.concatenate(pieces)

    def put_back(self, batch: NDArray[np.int64]) -> None:
        """Make the last batch that was drawn the next one again.

        >>> batches = Batches(rows=4, size=2, seed=0)
        >>> batch = batches.draw()
        >>> batches.put_back(batch)
        >>> bool((batches.draw() == batch).all())
        True
        """
        self._left = np.concatenate([batch, self._left])

    def save(self) -> dict[str, Any]:
        """Where the order is: see `surefoot.problems.Resumable`."""
        return {"random": self._random.bit_generator.state, "left": self._left}

    def resume(self, saved: Mapping[str, Any]) -> Batches:
        """These batches, from where the order was on; a generator of another kind is refused by NumPy, with a ValueError."""
        self._random.bit_generator.state = saved["random"]
        self._left = saved["left"]
        return self

    def copy(self) -> Batches:
        """Another one that goes on from here by itself."""
        return deepcopy(self)
