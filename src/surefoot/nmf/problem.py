"""Nonnegative matrix factorisation by stochastic projected gradient, as a problem.

The learning rate is in units of the stability bound, so that "stable" is one number: a rate of at most 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import checks
from surefoot.batches import Batches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_HELD_OUT_STEPS = 200


@dataclass
class Factors:
    """A factorisation on its way: what `Factorisation.step` changes.

    Attributes:
        codes: W, how much of each part is in each row.
        parts: H, what each part looks like.
        batches: The order of the rows.
    """

    codes: NDArray[Any]
    parts: NDArray[Any]
    batches: Batches


@dataclass(frozen=True)
class Factorisation:
    r"""Find nonnegative $W$ and $H$ with $V \approx WH$, minimising $\tfrac12\|V - WH\|_F^2$ from batches of rows of $V$.

    A step moves $H$ along the batch's estimate of its gradient and then the batch's own rows of $W$, each by rate $\times\ 2/L$
    and projected on the nonnegative numbers. $L$ is what bounds the curvature: for the rows of $W$, $\lambda_{\max}(HH^\top)$;
    for $H$ and a batch of $b$ of the $m$ rows, the expected smoothness

    $$L(b) = \frac{m(b-1)}{b(m-1)}\,\lambda_{\max}(W^\top W) + \frac{m-b}{b(m-1)}\,m\max_i\|w_i\|^2.$$

    Rates above 1 are taken for 1. With all rows in the batch the objective then never goes up. With fewer a rate of 1 is the
    edge in mean square if a perfect $H$ exists, and 0.5, the base, is the recommended rate.

    Attributes:
        name: Lower-case words with hyphens.
        load: Returns the same rows to train on, and rows held out, at every step, all nonnegative; a function of a module, so
            that problems can be sent to other processes.
        base: The base rate where nobody names one, as a fraction of the bound, 0 or more.
        steps: The budget in steps where nobody names one, 1 or more.
        rank: Number of parts, 1 or more.
        batch_size: Rows in a batch, 1 or more.
        revision: Goes up whenever earlier runs can no longer be compared with new ones.

    Reference: for expected smoothness, Gower et al., 2019, arXiv:1901.09401.
    """

    name: str
    load: Callable[[], tuple[NDArray[Any], NDArray[Any]]] = field(repr=False)
    base: float = 0.5
    steps: int = 600
    rank: int = 16
    batch_size: int = 64
    revision: int = 1

    def __post_init__(self) -> None:
        checks.number("base", self.base, low=0.0)
        for name in ("steps", "rank", "batch_size"):
            checks.whole(name, getattr(self, name), low=1)

    @property
    def optimizer(self) -> str:
        """Projected stochastic gradient descent, the only one."""
        return "sgd"

    def init(self, seed: int) -> Factors:
        """Uniform random factors whose product has the matrix's mean."""
        rows, random = self.load()[0], np.random.default_rng((seed, 1))  # Another stream than that of the batches.
        top = 2.0 * np.sqrt(rows.mean() / self.rank)
        codes = random.uniform(0.0, top, (len(rows), self.rank)).astype(rows.dtype)
        parts = random.uniform(0.0, top, (self.rank, rows.shape[1])).astype(rows.dtype)
        return Factors(codes, parts, Batches(len(rows), self.batch_size, seed))

    def step(self, run: Factors, rate: float) -> tuple[Factors, Mapping[str, float]]:
        """One step at `rate` times the stability bound; the loss is the batch's mean squared error per entry before it."""
        rate = min(rate, 1.0)
        matrix, batch = self.load()[0], run.batches.draw()
        rows, codes = matrix[batch], run.codes[batch]
        residual = codes @ run.parts - rows
        # First the parts, with codes from before the batch was drawn: a bound that depended on the batch would bias the
        # direction, and codes fitted to the batch beforehand were seen to throw the loss up a hundredfold at rate 1.
        gradient = len(matrix) / len(batch) * (codes.T @ residual)
        run.parts = _moved(run.parts, gradient, rate, _expected_smoothness(run.codes, len(batch)))
        gram = run.parts @ run.parts.T
        run.codes[batch] = _moved(codes, codes @ gram - rows @ run.parts.T, rate, _largest_eigenvalue(gram))
        return run, {"loss": float(np.mean(residual**2))}

    def held_out(self, run: Factors) -> float:
        """The mean squared error per entry of the held-out rows, with codes fitted to the parts by 200 gradient steps."""
        rows = self.load()[1]
        gram, products = run.parts @ run.parts.T, rows @ run.parts.T
        largest, codes = _largest_eigenvalue(gram), np.zeros_like(products)
        for _ in range(_HELD_OUT_STEPS):
            codes = _moved(codes, codes @ gram - products, 0.5, largest)
        return float(np.mean((codes @ run.parts - rows) ** 2))


def _moved(factor: NDArray[Any], gradient: NDArray[Any], rate: float, curvature: float) -> NDArray[Any]:
    """A projected gradient step of `rate` times the edge 2 / L; without curvature there is no slope either, and no step."""
    edge = 2.0 / curvature if curvature > 0.0 else 0.0
    moved: NDArray[Any] = np.maximum(factor - rate * edge * gradient, 0.0)
    return moved


def _expected_smoothness(codes: NDArray[Any], batch_size: int) -> float:
    """L(b) of `Factorisation`: how curved the batch's estimate of the objective is in H, in mean square."""
    m, b = len(codes), batch_size
    if b == m:
        return _largest_eigenvalue(codes.T @ codes)
    longest = float(np.max(np.sum(codes**2, axis=1)))
    return m * ((b - 1) * _largest_eigenvalue(codes.T @ codes) + (m - b) * longest) / (b * (m - 1))


def _largest_eigenvalue(gram: NDArray[Any]) -> float:
    return float(np.linalg.eigvalsh(gram)[-1])
