"""Nonnegative matrix factorisation by stochastic projected gradient, as a problem.

The learning rate is in units of the stability bound, so that "stable" is one number: a rate of at most 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from array_api_compat import array_namespace

from surefoot import checks, memory
from surefoot.fleet import OfProblem, as_pairs, as_rates, as_seeds, on_host
from surefoot.nmf.edges import block_edge
from surefoot.nmf.eigenvalues import METHODS
from surefoot.nmf.factors import Factors, Pieces, Streams
from surefoot.nmf.memory import per_run
from surefoot.nmf.sampling import expected_smoothness, limited
from surefoot.nmf.steps import advance, edge_of, mean_square, products

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

R = TypeVar("R", Factors, Pieces)
_HELD_OUT_STEPS = 200


@dataclass(frozen=True)
class Factorisation:
    r"""Find nonnegative $W$ and $H$ with $V \approx WH$, minimising $\tfrac12\|V - WH\|_F^2$ from noisy gradients.

    A step moves $H$ along the batch's estimate of its gradient and then the batch's own rows of $W$, and projects them on the
    nonnegative numbers. At a rate of $s$ the steps are

    $$\eta = \min\left(s\,e_t,\ c\,e_t,\ \bar c\,e_0\right), \qquad e = 2/L,$$

    with the ceiling $c$ and the cap $\bar c$; $e_0$ is the stability edge $e_t$ of the first step. $L$ bounds the curvature:
    for the rows of $W$, $\lambda_{\max}(HH^\top)$; for $H$ and a batch of $b$ of the $m$ rows, the expected smoothness

    $$L(b) = \frac{m(b-1)}{b(m-1)}\,\lambda_{\max}(W^\top W) + \frac{m-b}{b(m-1)}\,m\max_i\|w_i\|^2.$$

    With all rows in the batch and no noise the objective never goes up. With fewer, a rate of 1 is the edge in mean square if a
    perfect $H$ exists, and 0.5, the base, is the recommended rate. With noise of a fixed size only ceiling and cap together
    keep a run from growing without limit: should the factors shrink, the edge grows, and the noise with it.

    Attributes:
        name: Lower-case words with hyphens.
        load: Returns the same rows to train on, and rows held out, at every step, all nonnegative; a function of a module, so
            that problems can be sent to other processes.
        base: The base rate where nobody names one, as a fraction of the bound, 0 or more.
        steps: The budget in steps where nobody names one, 1 or more.
        rank: Number of parts, 1 or more.
        batch_size: Rows in a batch, 1 or more; None for all of them, the exact gradient.
        revision: Goes up whenever earlier runs can no longer be compared with new ones.
        noise: Size of the Gaussian noise that is added to both factors' gradients, 0 or more, as a multiple of the norm of the
            first one; its entries all have the same standard deviation throughout.
        draw: In place of `load`, for a matrix of its own per run: returns those rows for a seed; `Matrices` are one such.
        rates: What a rate counts. `"bound"`: edges of now, as in the formula. `"clipped"`: edges of the first step, $s\,e_0$
            in place of $s\,e_t$. `"plain"`: the same, with neither ceiling nor cap; it can diverge.
        ceiling: $c$, above 0 and at most 1.
        cap: $\bar c$, above 0; infinite for none.
        eigenvalues: How the curvature's eigenvalues are bounded from above: `"eigen"` to rounding, `"collatz"` by sums and
            products, somewhat larger, which small factorisations in a fleet are much faster for; see `largest_eigenvalue`.
        measure: What `held_out` returns. `"held-out"`: the mean squared error of the held-out rows. `"matrix"`, where finding
            the factors of this one matrix is all that is wanted: the `relative_loss` of the rows that are trained on.
        gradients: Whether each step measures `alignment` and `relative_step`, too, as `FactorisationFleet.step` describes.
        array: Turns NumPy arrays of floats into the arrays to compute with, such as
            `functools.partial(torch.as_tensor, device="cuda", dtype=torch.float32)`; None computes with NumPy, in the precision
            of the rows.

    Raises:
        TypeError: A setting is not a number where one is needed.
        ValueError: A setting is outside its range, or not exactly one of `load` and `draw` is given.

    Reference: for expected smoothness, Gower et al., 2019, arXiv:1901.09401.
    """

    name: str
    load: Callable[[], tuple[NDArray[Any], NDArray[Any]]] | None = field(default=None, repr=False)
    base: float = 0.5
    steps: int = 600
    rank: int = 16
    batch_size: int | None = 64
    revision: int = 2
    noise: float = 0.0
    draw: Callable[[int], tuple[NDArray[Any], NDArray[Any]]] | None = None
    rates: Literal["bound", "clipped", "plain"] = "bound"
    ceiling: float = 1.0
    cap: float = 1.0
    eigenvalues: Literal["eigen", "collatz"] = "eigen"
    measure: Literal["held-out", "matrix"] = "held-out"
    gradients: bool = True
    array: Callable[[NDArray[Any]], Any] | None = None

    def __post_init__(self) -> None:
        if (self.load is None) == (self.draw is None):
            raise ValueError("give exactly one of load, for a matrix that all runs share, and draw, for one of its own per run")
        checks.number("base", self.base, low=0.0)
        for name in ("steps", "rank", *(() if self.batch_size is None else ("batch_size",))):
            checks.whole(name, getattr(self, name), low=1)
        checks.number("noise", self.noise, low=0.0)
        checks.one_of("rates", self.rates, ("bound", "clipped", "plain"))
        checks.one_of("measure", self.measure, ("held-out", "matrix"))
        checks.one_of("eigenvalues", self.eigenvalues, METHODS)
        checks.number("ceiling", self.ceiling, low=0.0, high=1.0)
        if self.cap != inf:
            checks.number("cap", self.cap, low=0.0)
        if not (self.ceiling > 0.0 and self.cap > 0.0):
            raise ValueError("ceiling and cap must be above 0: with either at 0 nothing would ever move")

    @property
    def optimizer(self) -> str:
        """Projected stochastic gradient descent, the only one."""
        return "sgd"

    def fleet(self, **settings: Any) -> FactorisationFleet:
        """The same problem for many runs at once; settings are those of `FactorisationFleet`."""
        return FactorisationFleet(self, **settings)

    def init(self, seed: int) -> Factors:
        """Uniform random factors whose product has the matrix's mean."""
        return _begin(self, [seed], np.array(0))

    def step(self, run: Factors, rate: float) -> tuple[Factors, Mapping[str, float]]:
        """One step, and what was measured: see `FactorisationFleet.step`."""
        signals = advance(self, run, rate)
        return run, {name: float(value) for name, value in signals.items()}

    def held_out(self, run: Factors) -> float:
        """The mean squared error per entry of the held-out rows, with codes fitted to the parts by 200 gradient steps.

        With `measure="matrix"` it is the relative loss of the rows that are trained on.
        """
        return float(self._measure(run))

    def save(self, run: Factors) -> dict[str, Any]:
        """A run as plain data and arrays, without the matrix: see `surefoot.problems.Resumable`."""
        return run.save()

    def resume(self, seed: int, saved: Mapping[str, Any]) -> Factors:
        """The run that was saved."""
        return self.init(seed).resume(saved)

    @property
    def _measure(self) -> Callable[[Factors], Any]:
        return _relative_loss if self.measure == "matrix" else _fitted_loss


@dataclass(frozen=True)
class FactorisationFleet(OfProblem):
    """Many runs of a `Factorisation` as batched matrix products, each equal to the run of its seed alone up to rounding.

    Runs that begin together from one seed share what is random, the order of rows and the noise: a grid of rates costs hardly
    more random numbers than a single run.

    Attributes:
        problem: The problem.
        capacity: Bytes of memory that the fleet may take; if None, what is free in main memory, and on a device no limit.
    """

    problem: Factorisation
    capacity: int | None = None

    def __post_init__(self) -> None:
        if self.capacity is not None:
            checks.whole("capacity", self.capacity, low=1)

    def init(self, seeds: Sequence[int]) -> Factors | Pieces:
        """One run per seed; a seed may come more than once, as in a grid of rates.

        Memory is counted beforehand. Where not all runs can be worked on at once, they are worked on part by part, and a
        warning says so.

        Raises:
            MemoryError: What has to be kept of so many runs does not fit.
        """
        listed = as_seeds(seeds)
        together = self._together(len(listed))
        pieces = [self._begin(listed[first : first + together]) for first in range(0, len(listed), together)]
        return pieces[0] if len(pieces) == 1 else Pieces(pieces)

    def _together(self, runs: int) -> int:
        """How many runs are worked on at once."""
        if self.capacity is None and not on_host((self.problem.array or np.asarray)(np.empty(0))):
            return runs  # Only its framework could say how much memory a device has left.
        kept, working = per_run(self.problem)
        together = memory.at_once(self.name, runs, kept=kept, working=working, capacity=self.capacity)
        return -(-runs // -(-runs // together))

    def _begin(self, seeds: list[int]) -> Factors:
        distinct, place = np.unique(seeds, return_inverse=True)
        return _begin(self.problem, distinct.tolist(), place)

    def step(self, runs: R, rates: Any, awake: Any = None) -> tuple[R, Mapping[str, Any]]:
        """One step of every run that is awake, at its own rate.

        A run whose loss is not finite is frozen: from the next step on all its signals are NaN.

        Returns:
            The runs, and per run, in float64: `loss`, the batch's mean squared error per entry before the step; `bound`, the
            larger of both factors' steps in units of their stability edges; and `clipped`, 1 where ceiling or cap acted on
            either factor, else 0. With the problem's `gradients` also `alignment`, between -1 and 1, the cosine of the angle
            between the parts' (noisy) downhill direction and their last move, 0 where there is none; and `relative_step`, the
            norm of this move over that of the parts.
        """
        rates = as_rates(rates, len(runs))
        if isinstance(runs, Factors):
            return runs, advance(self.problem, runs, rates, awake)
        every = [
            advance(self.problem, piece, rates[part], None if awake is None else awake[part]) for piece, part in runs.parted()
        ]
        return runs, {name: _joined([signals[name] for signals in every]) for name in every[0]}

    def held_out(self, runs: Factors | Pieces) -> Any:
        """The mean squared error per entry of the held-out rows of every run, NaN for those that are frozen.

        With the problem's `measure="matrix"` it is `relative_loss`.
        """
        measure = self.problem._measure  # noqa: SLF001 - the other half of this module
        return measure(runs) if isinstance(runs, Factors) else _joined([measure(piece) for piece in runs.pieces])

    def relative_loss(self, runs: Factors | Pieces) -> Any:
        r"""$\|V - WH\|_F^2 / \|V\|_F^2$ on all rows to train on, of every run; NaN for those that are frozen.

        It is 1 for a product of zeros, whatever the matrix; its root is the relative error.

        >>> from surefoot.nmf import Matrices
        >>> exact = Factorisation("exact", draw=Matrices(), rank=6, batch_size=None).fleet()
        >>> exact.relative_loss(exact.init([0, 1])).shape
        (2,)
        """
        if isinstance(runs, Factors):
            return _relative_loss(runs)
        return _joined([_relative_loss(piece) for piece in runs.pieces])

    def save(self, runs: Factors | Pieces) -> list[tuple[int, Any]]:
        """The runs as plain data and arrays, piece by piece, each with how many runs it has."""
        return [(len(piece), piece.save()) for piece in ([runs] if isinstance(runs, Factors) else runs.pieces)]

    def resume(self, seeds: Sequence[int], saved: Sequence[tuple[int, Any]]) -> Factors | Pieces:
        """The runs that were saved, worked on in the pieces of then: sums depend on them."""
        left = iter(as_seeds(seeds))
        pieces = [self._begin(list(islice(left, count))).resume(piece) for count, piece in saved]
        return pieces[0] if len(pieces) == 1 else Pieces(pieces)

    def restart(self, runs: R, places: Sequence[int], seeds: Sequence[int]) -> R:
        """The runs, those at these places begun afresh from these seeds; all others as they are."""
        places, seeds = as_pairs(places, seeds)
        for piece, part in [(runs, slice(0, len(runs)))] if isinstance(runs, Factors) else runs.parted():
            inside = [pair for pair in zip(places, seeds, strict=True) if part.start <= pair[0] < part.stop]
            if inside:
                piece.replace([place - part.start for place, _ in inside], self._begin([seed for _, seed in inside]))
        return runs


def _joined(values: list[Any]) -> Any:
    """What was measured of all runs, from the pieces of a fleet."""
    return array_namespace(*values).concat(values)


def _begin(problem: Factorisation, seeds: Sequence[int], place: NDArray[np.intp]) -> Factors:
    """Runs that have not begun: each of the seed at its place, in the shape of `place`, () for a single run."""
    if problem.draw:
        matrices = [problem.draw(seed) for seed in seeds]
        rows, held_out = (_placed(part, place) for part in zip(*matrices, strict=True))
    elif problem.load:
        matrices = [problem.load()] * len(seeds)
        rows, held_out = matrices[0]
    array = problem.array or np.asarray
    starts = [_start(seed, matrix, problem.rank) for seed, (matrix, _) in zip(seeds, matrices, strict=True)]
    codes, parts = (array(_placed(factor, place)) for factor in zip(*starts, strict=True))
    xp, m = array_namespace(codes), codes.shape[-2]
    size = min(problem.batch_size or m, m)
    nothing = xp.zeros(place.shape, dtype=codes.dtype, device=codes.device)
    run = Factors(
        codes=codes,
        parts=parts,
        rows=array(rows),
        held_out=array(held_out),
        alive=nothing == 0.0,
        codes_edge=block_edge(parts @ parts.mT, method=problem.eigenvalues),
        parts_edge=edge_of(expected_smoothness(codes, size, method=problem.eigenvalues)),
        codes_noise=nothing,
        parts_noise=nothing,
        move=xp.zeros_like(parts),
        move_square=nothing,
        streams=Streams.start(seeds, place, rows=m, size=size),
    )
    if problem.noise > 0.0:
        residual = run.codes @ run.parts - run.rows
        run.codes_noise = problem.noise * xp.sqrt(mean_square(xp, residual @ run.parts.mT))
        run.parts_noise = problem.noise * xp.sqrt(mean_square(xp, run.codes.mT @ residual))
    return run


def _placed(arrays: Sequence[NDArray[Any]], place: NDArray[np.intp]) -> NDArray[Any]:
    """Of each run its own array, in the shape of `place`."""
    return np.stack([arrays[number] for number in place.ravel().tolist()]).reshape(*place.shape, *arrays[0].shape)


def _start(seed: int, matrix: NDArray[Any], rank: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Codes and parts whose product has the matrix's mean."""
    random = np.random.default_rng((seed, 1))  # Another stream than that of the batches.
    top = 2.0 * np.sqrt(matrix.mean() / rank)
    codes = random.uniform(0.0, top, (len(matrix), rank)).astype(matrix.dtype)
    return codes, random.uniform(0.0, top, (rank, matrix.shape[1])).astype(matrix.dtype)


def _fitted_loss(run: Factors) -> Any:
    xp = array_namespace(run.codes)
    with np.errstate(over="ignore", invalid="ignore"):
        gram, wanted = run.parts @ run.parts.mT, products(run.held_out, run.parts)
        size, codes = limited(0.5, block_edge(gram), inf)[..., None, None], xp.zeros_like(wanted)
        for _ in range(_HELD_OUT_STEPS):
            codes = (codes - size * (codes @ gram - wanted)).clip(min=0.0)
        loss = xp.where(run.alive, mean_square(xp, codes @ run.parts - run.held_out), xp.nan)
    return xp.astype(xp.asarray(loss), xp.float64)


def _relative_loss(run: Factors) -> Any:
    xp = array_namespace(run.codes)
    with np.errstate(over="ignore", invalid="ignore"):
        size = mean_square(xp, run.rows)
        loss = mean_square(xp, run.codes @ run.parts - run.rows) / xp.where(size > 0.0, size, 1.0)
        loss = xp.where(run.alive, loss, xp.nan)
    return xp.astype(xp.asarray(loss), xp.float64)
