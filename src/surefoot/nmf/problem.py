"""Nonnegative matrix factorisation by stochastic projected gradient, as a problem.

The learning rate is in units of the stability bound, so that "stable" is one number: a rate of at most 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from surefoot import checks
from surefoot.fleet import as_pairs, as_rates, as_seeds
from surefoot.nmf.edges import block_edge
from surefoot.nmf.factors import Factors, Streams
from surefoot.nmf.sampling import expected_smoothness, limited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

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
    array: Callable[[NDArray[Any]], Any] | None = None

    def __post_init__(self) -> None:
        if (self.load is None) == (self.draw is None):
            raise ValueError("give exactly one of load, for a matrix that all runs share, and draw, for one of its own per run")
        checks.number("base", self.base, low=0.0)
        for name in ("steps", "rank", *(() if self.batch_size is None else ("batch_size",))):
            checks.whole(name, getattr(self, name), low=1)
        checks.number("noise", self.noise, low=0.0)
        checks.one_of("rates", self.rates, ("bound", "clipped", "plain"))
        checks.number("ceiling", self.ceiling, low=0.0, high=1.0)
        if self.cap != inf:
            checks.number("cap", self.cap, low=0.0)
        if not (self.ceiling > 0.0 and self.cap > 0.0):
            raise ValueError("ceiling and cap must be above 0: with either at 0 nothing would ever move")

    @property
    def optimizer(self) -> str:
        """Projected stochastic gradient descent, the only one."""
        return "sgd"

    def fleet(self) -> FactorisationFleet:
        """The same problem for many runs at once."""
        return FactorisationFleet(self)

    def init(self, seed: int) -> Factors:
        """Uniform random factors whose product has the matrix's mean."""
        return _begin(self, [seed], np.array(0))

    def step(self, run: Factors, rate: float) -> tuple[Factors, Mapping[str, float]]:
        """One step, and what was measured: see `FactorisationFleet.step`."""
        signals = _advance(self, run, rate)
        return run, {name: float(value) for name, value in signals.items()}

    def held_out(self, run: Factors) -> float:
        """The mean squared error per entry of the held-out rows, with codes fitted to the parts by 200 gradient steps."""
        return float(_fitted_loss(run))


@dataclass(frozen=True)
class FactorisationFleet:
    """Many runs of a `Factorisation` as batched matrix products, each equal to the run of its seed alone up to rounding.

    Runs that begin together from one seed share what is random, the order of rows and the noise: a grid of rates costs hardly
    more random numbers than a single run.

    Attributes:
        problem: The problem.
    """

    problem: Factorisation

    @property
    def name(self) -> str:
        """The problem's name."""
        return self.problem.name

    @property
    def optimizer(self) -> str:
        """The problem's optimizer."""
        return self.problem.optimizer

    @property
    def base(self) -> float:
        """The problem's base rate."""
        return self.problem.base

    @property
    def steps(self) -> int:
        """The problem's budget in optimizer steps."""
        return self.problem.steps

    @property
    def revision(self) -> int:
        """The revision of the problem's definition."""
        return self.problem.revision

    def init(self, seeds: Sequence[int]) -> Factors:
        """One run per seed; a seed may come more than once, as in a grid of rates."""
        distinct, place = np.unique(as_seeds(seeds), return_inverse=True)
        return _begin(self.problem, distinct.tolist(), place)

    def step(self, runs: Factors, rates: Any, awake: Any = None) -> tuple[Factors, Mapping[str, Any]]:
        """One step of every run that is awake, at its own rate.

        A run whose loss is not finite is frozen: from the next step on all its signals are NaN.

        Returns:
            The runs, and per run, in float64: `loss`, the batch's mean squared error per entry before the step; `bound`, the
            larger of both factors' steps in units of their stability edges; `clipped`, 1 where ceiling or cap acted on either
            factor, else 0; `alignment`, between -1 and 1, the cosine of the angle between the parts' (noisy) downhill
            direction and their last move, 0 where there is none; and `relative_step`, the norm of this move over that of the
            parts.
        """
        return runs, _advance(self.problem, runs, as_rates(rates, len(runs.codes)), awake)

    def held_out(self, runs: Factors) -> Any:
        """The mean squared error per entry of the held-out rows of every run, NaN for those that are frozen."""
        return _fitted_loss(runs)

    def restart(self, runs: Factors, places: Sequence[int], seeds: Sequence[int]) -> Factors:
        """The runs, those at these places begun afresh from these seeds; all others as they are."""
        places, seeds = as_pairs(places, seeds)
        if places:
            runs.replace(places, self.init(seeds))
        return runs


def _begin(problem: Factorisation, seeds: Sequence[int], place: NDArray[np.intp]) -> Factors:
    """Runs that have not begun: each of the seed at its place, in the shape of `place`, () for a single run."""
    if problem.draw:
        matrices = [problem.draw(seed) for seed in seeds]
        rows, held_out = (np.stack(part)[place] for part in zip(*matrices, strict=True))
    elif problem.load:
        matrices = [problem.load()] * len(seeds)
        rows, held_out = matrices[0]
    array = problem.array or np.asarray
    starts = [_start(seed, matrix, problem.rank) for seed, (matrix, _) in zip(seeds, matrices, strict=True)]
    codes, parts = (array(np.stack(factor)[place]) for factor in zip(*starts, strict=True))
    xp, m = array_namespace(codes), codes.shape[-2]
    size = min(problem.batch_size or m, m)
    nothing = xp.zeros(place.shape, dtype=codes.dtype, device=codes.device)
    run = Factors(
        codes=codes,
        parts=parts,
        rows=array(rows),
        held_out=array(held_out),
        alive=nothing == 0.0,
        codes_edge=block_edge(parts @ parts.mT),
        parts_edge=_edge_of_parts(codes, size),
        codes_noise=nothing,
        parts_noise=nothing,
        move=xp.zeros_like(parts),
        streams=Streams.start(seeds, place, rows=m, size=size),
    )
    if problem.noise > 0.0:
        residual = run.codes @ run.parts - run.rows
        run.codes_noise = problem.noise * xp.sqrt(_mean_square(xp, residual @ run.parts.mT))
        run.parts_noise = problem.noise * xp.sqrt(_mean_square(xp, run.codes.mT @ residual))
    return run


def _start(seed: int, matrix: NDArray[Any], rank: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Codes and parts whose product has the matrix's mean."""
    random = np.random.default_rng((seed, 1))  # Another stream than that of the batches.
    top = 2.0 * np.sqrt(matrix.mean() / rank)
    codes = random.uniform(0.0, top, (len(matrix), rank)).astype(matrix.dtype)
    return codes, random.uniform(0.0, top, (rank, matrix.shape[1])).astype(matrix.dtype)


def _advance(problem: Factorisation, run: Factors, rate: Any, awake: Any = None) -> dict[str, Any]:
    """One step of a run, or of those of a fleet that are awake at a vector of rates, in place; and what was measured."""
    xp, m = array_namespace(run.codes), run.codes.shape[-2]
    rate = xp.asarray(rate, dtype=run.codes.dtype, device=run.codes.device)
    of_rows, of_codes = run.draw(awake)
    moving = True if awake is None else xp.asarray(awake, device=run.codes.device)
    rows, codes = run.rows[of_rows], run.codes[of_codes]
    b = codes.shape[-2]
    with np.errstate(over="ignore", invalid="ignore"):  # A run that grows beyond all numbers is marked, not warned of.
        residual = codes @ run.parts - rows
        loss = xp.where(run.alive, _mean_square(xp, residual), xp.nan)
        run.alive = run.alive & (xp.isfinite(loss) | (awake is not None and ~moving))
        moving = run.alive & moving
        # First the parts, with codes from before the batch was drawn: a bound that depended on the batch would bias the
        # direction, and codes fitted to the batch beforehand were seen to throw the loss up a hundredfold at rate 1.
        gradient = m / b * (codes.mT @ residual) + _noise(problem, xp, run, run.parts, run.parts_noise, awake=awake)
        alignment = -_cosine(xp, gradient, run.move)
        first = _limited(problem, xp, rate, _edge_of_parts(run.codes, b), run.parts_edge)
        before, run.parts = run.parts, _moved(xp, moving, run.parts, gradient, first.size)
        run.move = xp.where(moving[..., None, None], run.parts - before, run.move)
        size = _mean_square(xp, before)
        relative_step = xp.sqrt(_mean_square(xp, run.move) / xp.where(size > 0.0, size, 1.0))
        gram = run.parts @ run.parts.mT
        gradient = codes @ gram - _products(rows, run.parts) + _noise(problem, xp, run, codes, run.codes_noise, awake=awake)
        second = _limited(problem, xp, rate, block_edge(gram), run.codes_edge)
        run.codes[of_codes] = _moved(xp, moving, codes, gradient, second.size)
        bound = xp.where(first.bound > second.bound, first.bound, second.bound)
    others = {"bound": bound, "clipped": first.is_clipped | second.is_clipped, "alignment": alignment}
    others["relative_step"] = relative_step
    signals = {"loss": loss} | {name: xp.where(run.alive, value, xp.nan) for name, value in others.items()}
    return {name: xp.astype(xp.asarray(value), xp.float64) for name, value in signals.items()}


def _fitted_loss(run: Factors) -> Any:
    xp = array_namespace(run.codes)
    with np.errstate(over="ignore", invalid="ignore"):
        gram, products = run.parts @ run.parts.mT, _products(run.held_out, run.parts)
        size, codes = limited(0.5, block_edge(gram), inf)[..., None, None], xp.zeros_like(products)
        for _ in range(_HELD_OUT_STEPS):
            codes = (codes - size * (codes @ gram - products)).clip(min=0.0)
        loss = xp.where(run.alive, _mean_square(xp, codes @ run.parts - run.held_out), xp.nan)
    return xp.astype(xp.asarray(loss), xp.float64)


class _Step(NamedTuple):
    """The size of a step; the same in units of the edge; and whether ceiling or cap made it smaller."""

    size: Any
    bound: Any
    is_clipped: Any


def _limited(problem: Factorisation, xp: Any, rate: Any, edge: Any, first_edge: Any) -> _Step:
    """The step that the rate asks for, within ceiling and cap."""
    unit = edge if problem.rates == "bound" else first_edge
    wanted = size = rate * xp.where(unit < inf, unit, 0.0)  # Without curvature there is no slope either, and no step.
    if problem.rates != "plain":
        size = xp.minimum(wanted, limited(problem.ceiling, edge, problem.cap * first_edge))
    return _Step(size, size / edge, wanted > size)


def _edge_of_parts(codes: Any, size: int) -> Any:
    """The edge of H, from codes that have not seen the batch; infinite without curvature."""
    with np.errstate(divide="ignore"):
        return 2.0 / expected_smoothness(codes, size)


def _moved(xp: Any, moving: Any, factor: Any, gradient: Any, size: Any) -> Any:
    """A projected gradient step, but none where the run is frozen or asleep."""
    moved = (factor - size[..., None, None] * gradient).clip(min=0.0)
    return xp.where(moving[..., None, None], moved, factor)


def _noise(problem: Factorisation, xp: Any, run: Factors, factor: Any, deviation: Any, *, awake: Any) -> Any:
    """Noise for the gradient of this factor, or of some of its rows."""
    if problem.noise == 0.0:
        return 0.0
    normal = run.streams.normal(tuple(factor.shape[-2:]), awake)
    return deviation[..., None, None] * xp.asarray(normal, dtype=factor.dtype, device=factor.device)


def _products(rows: Any, parts: Any) -> Any:
    """V H^T; where a fleet shares the rows, as one product of matrices."""
    if rows.ndim == parts.ndim:
        return rows @ parts.mT
    runs, rank, columns = parts.shape
    return (parts.reshape(runs * rank, columns) @ rows.mT).reshape(runs, rank, -1).mT


def _mean_square(xp: Any, matrix: Any) -> Any:
    return _inner(xp, matrix, matrix) / (matrix.shape[-2] * matrix.shape[-1])


def _inner(xp: Any, left: Any, right: Any) -> Any:
    """The sum of products, without an array of them."""
    flat = (*left.shape[:-2], left.shape[-2] * left.shape[-1])
    return xp.vecdot(left.reshape(flat), right.reshape(flat))


def _cosine(xp: Any, left: Any, right: Any) -> Any:
    """The cosine of the angle between two matrices, 0 where one of them is zero."""
    norms = xp.sqrt(_inner(xp, left, left)) * xp.sqrt(_inner(xp, right, right))
    return xp.where(norms > 0.0, _inner(xp, left, right) / xp.where(norms > 0.0, norms, 1.0), 0.0)
