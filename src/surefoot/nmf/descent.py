"""Descent on codes and parts in turn, at the rates that a policy asks for and the stability bound allows."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.nmf.cycle import balanced_gram, chebyshev
from surefoot.nmf.eigenvalues import largest_eigenvalue
from surefoot.nmf.exact import Incremental
from surefoot.nmf.quadratic import Quadratic, solve
from surefoot.nmf.rows import Block, Rows, is_reliable, spans

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from surefoot.nmf.pilot import Limit, Noise, Pilot

_INNER_STEPS = 5
"""Steps on a factor for each product with the matrix, beside which they cost little."""
_BATCH_STEPS = 4
"""The same for the parts and a batch: they go that much further towards what is best for the batch, and never uphill on it."""
_STREAM_TOLERANCE = 1e-4
"""How well the codes of a new batch are solved before the parts move on."""


class Penalties(NamedTuple):
    r"""Coefficients of $\|W\|_1$, $\tfrac12\|W\|^2$, $\|H\|_1$ and $\tfrac12\|H\|^2$ in the objective, 0 or more.

    Those of the parts are per row of the matrix, so that a penalty weighs the same in a batch and in the whole.
    """

    codes_l1: float = 0.0
    codes_l2: float = 0.0
    parts_l1: float = 0.0
    parts_l2: float = 0.0

    def of(self, codes: NDArray[Any], parts: NDArray[Any]) -> float:
        """What these codes, and the parts for as many rows, add to the objective."""
        cost, rows = 0.0, len(codes)
        for factor, l1, l2 in ((codes, self.codes_l1, self.codes_l2), (parts, rows * self.parts_l1, rows * self.parts_l2)):
            if l1 or l2:
                cost += l1 * float(factor.sum(dtype=np.float64)) + 0.5 * l2 * float(np.square(factor, dtype=np.float64).sum())
        return cost


_NO_PENALTIES = Penalties()


class Move(NamedTuple):
    """A step as it was made: its rate, the largest rate allowed, and whether the policy had asked for more."""

    rate: Any
    bound: Any
    is_clipped: bool


@dataclass
class Descent:
    """A factorisation on its way.

    Attributes:
        codes: W, (rows, rank); those of the last batch where a stream is factorised.
        parts: H, (rank, columns).
        pilot: Who sets the rates, and the record of those of the parts.
        codes_limit, parts_limit: How far the factors may go in one step.
        penalties: What is added to the objective.
        codes_noise, parts_noise: What an oracle adds to the gradients, if anything.
    """

    codes: NDArray[Any]
    parts: NDArray[Any]
    pilot: Pilot
    codes_limit: Limit
    parts_limit: Limit
    penalties: Penalties = _NO_PENALTIES
    codes_noise: Noise | None = None
    parts_noise: Noise | None = None
    _exact: Incremental | None = None

    @property
    def is_monotone(self) -> bool:
        """Whether no step can raise the objective."""
        return not (self.codes_noise or self.parts_limit.is_capped) and self.parts_limit.safety < 1.0

    def loss(self, rows: Rows) -> float:
        """The objective as a fraction of half the sum of squares of the matrix."""
        left = rows.left(self.codes, self.parts) + self.penalties.of(self.codes, self.parts)
        return 2.0 * left / (rows.squares or 1.0)

    def sweep(self, rows: Rows) -> float:
        """Move all codes and all parts along exact gradients, or those of the oracle; return the loss afterwards."""
        scale = self.pilot.scale()
        left, move = self._both(rows, scale) if rows.may_miss or self.codes_noise else self._incremental(rows, scale)
        if not is_reliable(left, rows.squares, self.parts.dtype):
            left = rows.left(self.codes, self.parts)
        return self._record(left + self.penalties.of(self.codes, self.parts), rows.squares, move)

    def epoch(self, rows: Rows, batch_size: int, random: np.random.Generator) -> float:
        """Visit all batches of rows in random order; return the mean of their losses, each weighted by its squares."""
        batches = list(spans(len(self.codes), batch_size))
        total = weight = 0.0
        for place in random.permutation(len(batches)):
            block, codes = rows.block(*batches[place]), self.codes[slice(*batches[place])]
            problem = self._of_codes(block)
            codes[:] = problem.cycled(codes)
            total += block.squares * self._step(block, codes)
            weight += block.squares
        return total / weight if weight else 0.0

    def stream(self, block: Block) -> float:
        """Solve the codes of a batch that was never seen before, and move the parts; return the loss between the two."""
        self.codes = solve(self._of_codes(block), tolerance=_STREAM_TOLERANCE).astype(self.parts.dtype)
        return self._step(block, self.codes)

    def _incremental(self, rows: Rows, scale: float | None) -> tuple[float, Move]:
        if self._exact is None:
            m, of = len(self.codes), self.penalties
            linear, ridge = (of.codes_l1, m * of.parts_l1), (of.codes_l2, m * of.parts_l2)
            self._exact = Incremental(rows.matrix, self.codes, self.parts, linear=linear, ridge=ridge)
        steps = None if scale is None else (2.0 * self.parts_limit.safety * min(scale, 1.0),) * _INNER_STEPS
        done = self._exact.sweep(steps)
        self.codes, self.parts = self._exact.codes, self._exact.parts
        left = float(done.objective) - self.penalties.of(self.codes, self.parts)
        move = self._allowed(np.asarray(largest_eigenvalue(done.parts_gram)), self.parts_limit, scale)
        if scale is None:
            gram, lengths = balanced_gram(done.parts_gram)
            curvature = float(largest_eigenvalue(gram) * lengths.max() ** 2)
            move = move._replace(rate=np.array(fmean(self._exact.cycles[1]) / curvature if curvature else np.inf))
        return left, move

    def _both(self, rows: Rows, scale: float | None) -> tuple[float, Move]:
        total = None
        # The oracle's first gradient sets the size of its noise, so it is asked for the gradient of all rows at once.
        for where, block in rows.whole() if self.codes_noise else rows.blocks(len(self.parts)):
            codes = self.codes[where]
            codes[:] = self._moved(self._of_codes(block), codes, self.codes_limit, scale, self.codes_noise)[0]
            found = block.for_parts(codes)
            total = found if total is None else total.plus(found)
        assert total is not None, "a matrix has rows"
        problem = self._of_parts(total, len(self.codes))
        moved, move = self._moved(problem, self.parts.T, self.parts_limit, scale, self.parts_noise)
        self.parts = np.ascontiguousarray(moved.T)
        return 0.5 * rows.squares + total.value(moved), move

    def _step(self, block: Block, codes: NDArray[Any]) -> float:
        """Steps of the parts at one rate, along the gradients of a batch; return its loss before."""
        data = block.for_parts(codes)
        left = 0.5 * block.squares + data.value(self.parts.T)
        if not is_reliable(left, block.squares, self.parts.dtype):
            left = block.left(codes, self.parts)
        left += self.penalties.of(codes, self.parts)
        problem = self._of_parts(data, len(codes))
        move = self._allowed(problem.curvature(), self.parts_limit, self.pilot.scale())
        moved = self._stepped(problem, self.parts.T, move.rate, self.parts_noise, _BATCH_STEPS)
        self.parts = np.ascontiguousarray(moved.T)
        return self._record(left, block.squares, move)

    def _moved(
        self, problem: Quadratic, factor: NDArray[Any], limit: Limit, scale: float | None, noise: Noise | None
    ) -> tuple[NDArray[Any], Move]:
        curvature = problem.curvature()
        move = self._allowed(curvature, limit, scale)
        if scale is None:
            return problem.cycled(factor, curvature), move
        return self._stepped(problem, factor, move.rate, noise, _INNER_STEPS), move

    def _stepped(self, problem: Quadratic, factor: NDArray[Any], rate: Any, noise: Noise | None, steps: int) -> NDArray[Any]:
        """So many steps at one rate; but a single one where an oracle has to be asked for every gradient."""
        for _ in range(1 if noise else steps):
            factor = problem.moved(factor, rate, noise.draw(problem.gradient(factor)) if noise else 0.0)
        return factor

    def _allowed(self, curvature: NDArray[Any], limit: Limit, scale: float | None) -> Move:
        """The move at a scale, or the mean one of a cycle, whose steps are multiples of 1/L: half the edge."""
        rate, bound, is_clipped = limit.rates(curvature, 1.0 if scale is None else scale)
        return Move(bound * (fmean(chebyshev()) / (2.0 * limit.safety)) if scale is None else rate, bound, is_clipped)

    def _of_codes(self, block: Block) -> Quadratic:
        return block.for_codes(self.parts).penalised(self.penalties.codes_l1, self.penalties.codes_l2)

    def _of_parts(self, problem: Quadratic, rows: int) -> Quadratic:
        return problem.penalised(rows * self.penalties.parts_l1, rows * self.penalties.parts_l2)

    def _record(self, objective: float, squares: float, move: Move) -> float:
        loss = 2.0 * objective / (squares or 1.0)
        self.pilot.record(loss, _least(move.rate), _least(move.bound), clipped=move.is_clipped)
        return loss


def _least(rates: Iterable[float]) -> float:
    """The smallest of the rates of all columns, but for those without a slope, which have no rate."""
    rates = np.atleast_1d(np.asarray(rates))
    return float(rates[rates > 0.0].min(initial=np.inf)) if (rates > 0.0).any() else 0.0
