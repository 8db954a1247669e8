"""Random factorisations to check the stability bounds on, in fleets of equal shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Array = NDArray[Any]

FLEET = 25
"""Problems next to each other that share their shape and the rows of every batch, so that they can be run as one array."""

KINDS = ("exact", "noisy", "uniform", "counts", "uneven", "spare")
"""Of exact low rank; the same with noise; uniform and of full rank; Poisson counts, mostly 0; rows and columns whose sizes
differ by orders of magnitude; and of half the rank that is fitted."""

SHORTEST, LONGEST, RANKS = 8, 150, 16


@dataclass(frozen=True, eq=False)
class Problems:
    r"""Problems of equal shape, each with a start: fit $V$ by $WH$. What has no unit is a multiple of what it is compared to.

    Attributes:
        seeds: One for each problem, all of one fleet: equal when divided by `FLEET`.
        kinds: Which of `KINDS` each matrix is.
        batch_size: Rows in a batch, 1 to m / 2.
        matrix: V, nonnegative; shape (problems, m, n).
        codes: W at the start, nonnegative; shape (problems, m, r).
        parts: H at the start, nonnegative; shape (problems, r, n).
        weights: Weights of the entries for masked problems, 0 to 1; shape (problems, m, n).
        mean: Mean of WH at the start over that of V, 0.1 to 10; shape (problems,), as are the rest.
        schedule: Multiple of the edge that a schedule asks for: 0 always more than allowed, 1 random, 2 small with spikes.
        noise: Norm of the noise over that of the gradient at the start, 0.01 to 10.
        rate: A rate over the stability edge at the start, 0.1 to 100.
        joint_rate: A rate for joint steps over the edge of the curvature at the start, 0.5 to 4.
    """

    seeds: tuple[int, ...]
    kinds: tuple[str, ...]
    batch_size: int
    matrix: Array
    codes: Array
    parts: Array
    weights: Array
    mean: Array
    schedule: Array
    noise: Array
    rate: Array
    joint_rate: Array

    @cached_property
    def norm(self) -> Array:
        """The Frobenius norm of every matrix."""
        found: Array = np.sqrt(np.sum(self.matrix**2, axis=(-2, -1)))
        return found

    def random(self, purpose: int) -> list[np.random.Generator]:
        """A stream of random numbers for each problem; what it draws does not depend on the others."""
        return [np.random.default_rng((seed, purpose)) for seed in self.seeds]

    def shared_random(self) -> np.random.Generator:
        """A stream for what the problems of a fleet share."""
        return np.random.default_rng((self.seeds[0] // FLEET, 0, 1))


def split(seeds: Iterable[int]) -> list[tuple[int, ...]]:
    """Seeds by the fleet they belong to.

    >>> split(range(23, 28))
    [(23, 24), (25, 26, 27)]
    """
    found: dict[int, list[int]] = {}
    for seed in seeds:
        found.setdefault(seed // FLEET, []).append(seed)
    return [tuple(group) for group in found.values()]


def draw(seeds: Sequence[int]) -> Problems:
    """The problems of these seeds, all of one fleet. A seed is a problem, whichever others it is drawn with."""
    shape = np.random.default_rng((seeds[0] // FLEET, 0, 0))
    m, n = (int(size) for size in np.exp(shape.uniform(np.log(SHORTEST), np.log(LONGEST + 1), 2)))
    rank = int(shape.integers(1, min(m, n, RANKS) + 1))
    batch_size = int(np.exp(shape.uniform(0.0, np.log(m // 2 + 1))))
    drawn = [_problem(np.random.default_rng((seed, 0)), m, n, rank) for seed in seeds]
    kinds, matrix, codes, parts, weights, *numbers = zip(*drawn, strict=True)
    factors = (np.array(each) for each in (matrix, codes, parts, weights))
    return Problems(tuple(seeds), kinds, batch_size, *factors, *(np.array(each) for each in numbers))


def _problem(random: np.random.Generator, m: int, n: int, rank: int) -> tuple[object, ...]:
    kind = KINDS[random.integers(len(KINDS))]
    matrix = _matrix(random, kind, m, n, max(1, rank // 2) if kind == "spare" else rank)
    matrix *= 10.0 ** random.uniform(-3.0, 3.0) / matrix.mean()
    mean = 10.0 ** random.uniform(-1.0, 1.0)
    codes, parts = random.random((m, rank)), random.random((rank, n))
    codes *= mean * matrix.mean() / np.mean(codes @ parts)
    imbalance = 10.0 ** random.uniform(-1.5, 1.5) * np.sqrt(np.linalg.norm(parts) / np.linalg.norm(codes))
    weights = np.where(random.random((m, n)) < random.choice([0.05, 0.3, 0.8]), 1.0, 0.0)
    if random.integers(2):
        weights = weights * random.random((m, n))
    numbers = (random.integers(3), 10.0 ** random.uniform(-2.0, 1.0), 10.0 ** random.uniform(-1.0, 2.0))
    return kind, matrix, codes * imbalance, parts / imbalance, weights, mean, *numbers, random.uniform(0.5, 4.0)


def _matrix(random: np.random.Generator, kind: str, m: int, n: int, rank: int) -> Array:
    """A matrix of a kind whose parts differ in size by up to a factor of 1,000."""
    if kind == "uniform":
        return random.random((m, n))
    sizes = np.geomspace(1.0, 10.0 ** -random.uniform(0.0, 3.0), rank)
    matrix: Array = random.gamma(0.5, 1.0, (m, rank)) * sizes @ random.gamma(0.5, 1.0, (rank, n))
    if kind == "noisy":
        matrix = np.maximum(matrix + 0.3 * matrix.std() * random.standard_normal((m, n)), 0.0)
    if kind == "counts":
        matrix = random.poisson(0.3 * matrix / matrix.mean()).astype(np.float64)
    if kind == "uneven":
        matrix = matrix * np.exp(1.5 * random.standard_normal(n)) * np.exp(1.5 * random.standard_normal((m, 1)))
    matrix[0, 0] += matrix.max() == 0.0  # Nothing to fit is another subject.
    return matrix
