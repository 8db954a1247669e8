"""Random matrices to factorise, one per seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import checks

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Matrices:
    r"""A distribution of nonnegative matrices of one shape: products of random factors, with noise.

    $V = c \max(WH + s\,\sigma E,\ 0)$ with entries of $W$ and $H$ that are gamma-distributed with shape 1/2, or zero; standard
    normal $E$; $\sigma$ the standard deviation of the entries of $WH$; and $c$ such that the mean of $V$ is the scale. What is
    given as a pair is drawn anew for each seed between its two numbers: the rank and the noise $s$ evenly, the scale and the
    density evenly in their logarithms.

    >>> train, held_out = Matrices(rows=30, columns=20, held_out=10, scale=(2.0, 2.0))(seed=0)
    >>> train.shape, held_out.shape, round(float(np.concatenate([train, held_out]).mean()), 6)
    ((30, 20), (10, 20), 2.0)

    Attributes:
        rows, columns: Shape of the rows to train on, each 1 or more.
        held_out: Rows of the same parts that are held out, 1 or more.
        rank: Number of parts, whole, 1 or more.
        scale: Mean of the entries, above 0.
        noise: Standard deviation of the noise, as a fraction of that of the entries of the product, 0 or more.
        density: Expected share of the factors' entries that are not zero, above 0 and at most 1.
    """

    rows: int = 60
    columns: int = 50
    held_out: int = 20
    rank: tuple[int, int] = (6, 6)
    scale: tuple[float, float] = (1.0, 1.0)
    noise: tuple[float, float] = (0.05, 0.05)
    density: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "held_out"):
            checks.whole(name, getattr(self, name), low=1)
        for name, high in (("rank", np.inf), ("scale", np.inf), ("noise", np.inf), ("density", 1.0)):
            first, second = getattr(self, name)
            checks.number(name, first, low=0.0, high=high)
            checks.number(name, second, low=first, high=high, advice="the second number must not be below the first")
            if name != "noise" and first <= 0.0:
                raise ValueError(f"{name} must be above 0, got {first}")
        for rank in self.rank:
            checks.whole("rank", rank, low=1)

    def __call__(self, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The rows to train on and the rows held out of this seed, in float64."""
        random = np.random.default_rng((seed, 3))  # Another stream than those of a run from the same seed.
        rank = int(random.integers(self.rank[0], self.rank[1] + 1))
        noise = random.uniform(*self.noise)
        scale, density = (np.exp(random.uniform(*np.log(pair))) for pair in (self.scale, self.density))
        shapes = (self.rows + self.held_out, rank), (rank, self.columns)
        codes, parts = (random.gamma(0.5, size=shape) * (random.random(shape) <= density) for shape in shapes)
        matrix = codes @ parts
        matrix = np.maximum(matrix + noise * matrix.std() * random.standard_normal(matrix.shape), 0.0)
        matrix *= scale / (matrix.mean() or 1.0)
        return matrix[: self.rows], matrix[self.rows :]
