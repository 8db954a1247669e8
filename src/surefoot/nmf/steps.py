"""One step of a factorisation, or of a whole fleet of them, by the same text."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from surefoot.fleet import on_host
from surefoot.nmf.arrays import gram_of, narrow, wide
from surefoot.nmf.edges import block_edge
from surefoot.nmf.eigenvalues import largest_eigenvalue
from surefoot.nmf.sampling import smoothness

if TYPE_CHECKING:
    from surefoot.nmf.factors import Factors
    from surefoot.nmf.problem import Factorisation


def advance(problem: Factorisation, run: Factors, rate: Any, awake: Any = None) -> dict[str, Any]:
    """One step of a run, or of those of a fleet that are awake at a vector of rates, in place; and what was measured."""
    xp, m = array_namespace(run.codes), run.codes.shape[-2]
    rate = xp.asarray(rate, dtype=run.codes.dtype, device=run.codes.device)
    rows, codes, place = run.draw(awake)
    moving = True if awake is None else xp.asarray(awake, device=run.codes.device)
    b = codes.shape[-2]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # A run beyond all numbers is marked, not warned of.
        residual = codes @ run.parts
        residual -= rows
        loss = xp.where(run.alive, mean_square(xp, residual), xp.nan)
        run.alive = run.alive & (xp.isfinite(loss) | (awake is not None and ~moving))
        moving = _unless_all(run.alive & moving)
        # First the parts, with codes from before the batch was drawn: a bound that depended on the batch would bias the
        # direction, and codes fitted to the batch beforehand were seen to throw the loss up a hundredfold at rate 1.
        gradient = codes.mT @ residual
        gradient *= m / b
        gradient += _noise(problem, xp, run, run.parts, run.parts_noise, awake=awake)
        first = _limited(problem, xp, rate, _edge_of_parts(problem, run, b), run.parts_edge)
        others = {"alignment": _alignment(xp, run, gradient)} if problem.gradients else {}
        before, run.parts = run.parts, _moved(xp, moving, run.parts, gradient, first.size)
        if problem.gradients:
            others["relative_step"] = _relative_step(xp, run, moving, before)
        # The copy keeps NumPy from a routine for symmetric products, which takes twice as long for small ones.
        gram = run.parts @ (+run.parts).mT
        gradient = codes @ gram
        gradient -= products(rows, run.parts)
        gradient += _noise(problem, xp, run, codes, run.codes_noise, awake=awake)
        second = _limited(problem, xp, rate, block_edge(gram, method=problem.eigenvalues), run.codes_edge)
        run.put(place, codes, _moved(xp, moving, codes, gradient, second.size))
        bound = xp.where(first.bound > second.bound, first.bound, second.bound)
    others = {"bound": bound, "clipped": first.is_clipped | second.is_clipped} | others
    signals = {"loss": loss} | {name: xp.where(run.alive, value, xp.nan) for name, value in others.items()}
    return {name: xp.astype(xp.asarray(value), xp.float64) for name, value in signals.items()}


def edge_of(curvature: Any) -> Any:
    """The edge of H; infinite without curvature."""
    with np.errstate(divide="ignore"):
        return 2.0 / curvature


def products(rows: Any, parts: Any) -> Any:
    """V H^T; where a fleet shares the rows, as one product of matrices."""
    if rows.ndim == parts.ndim:
        return rows @ parts.mT
    runs, rank, columns = parts.shape
    return (parts.reshape(runs * rank, columns) @ rows.mT).reshape(runs, rank, -1).mT


def mean_square(xp: Any, matrix: Any) -> Any:
    """The mean of the squared entries."""
    return _inner(xp, matrix, matrix) / (matrix.shape[-2] * matrix.shape[-1])


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
        # As `surefoot.nmf.limited`, but these are arrays of one precision already, and its looking into that takes a while.
        limit = xp.minimum(problem.ceiling * edge, problem.cap * first_edge)
        size = xp.minimum(wanted, xp.where(limit < inf, limit, 0.0 * wanted))
    return _Step(size, size / edge, wanted > size)


def _edge_of_parts(problem: Factorisation, run: Factors, size: int) -> Any:
    """The edge of H, from codes that have not seen the batch; infinite without curvature."""
    if run.gram is None:
        xp, codes = wide(run.codes)
        gram, longest = gram_of(xp, codes), 0.0
    else:
        xp, gram = array_namespace(run.gram), run.gram
        longest = xp.max(run.lengths, axis=-1)
    largest = largest_eigenvalue(gram, method=problem.eigenvalues)
    return 2.0 / narrow(xp, smoothness(largest, longest, tuple(run.codes.shape[-2:]), size), run.codes, up=True)


def _unless_all(moving: Any) -> Any:
    """Which runs move; None for all, where looking costs nothing."""
    return None if on_host(moving) and bool(moving.all()) else moving


def _moved(xp: Any, moving: Any, factor: Any, gradient: Any, size: Any) -> Any:
    """A projected gradient step, but none where the run is frozen or asleep; the gradient is used up."""
    gradient *= -size[..., None, None]
    gradient += factor
    moved = gradient.clip(min=0.0)
    return moved if moving is None else xp.where(moving[..., None, None], moved, factor)


def _alignment(xp: Any, run: Factors, gradient: Any) -> Any:
    """The cosine of the angle between downhill and the last move, 0 where one of them is zero."""
    norms = xp.sqrt(_inner(xp, gradient, gradient)) * xp.sqrt(run.move_square)
    return xp.where(norms > 0.0, -_inner(xp, gradient, run.move) / xp.where(norms > 0.0, norms, 1.0), 0.0)


def _relative_step(xp: Any, run: Factors, moving: Any, before: Any) -> Any:
    """How far the parts went, over how large they were; the run's last move from now on."""
    move = run.parts - before
    run.move = move if moving is None else xp.where(moving[..., None, None], move, run.move)
    run.move_square, size = _inner(xp, run.move, run.move), _inner(xp, before, before)
    return xp.sqrt(run.move_square / xp.where(size > 0.0, size, 1.0))


def _noise(problem: Factorisation, xp: Any, run: Factors, factor: Any, deviation: Any, *, awake: Any) -> Any:
    """Noise for the gradient of this factor, or of some of its rows."""
    if problem.noise == 0.0:
        return 0.0
    normal = run.streams.normal(tuple(factor.shape[-2:]), awake)
    return deviation[..., None, None] * xp.asarray(normal, dtype=factor.dtype, device=factor.device)


def _inner(xp: Any, left: Any, right: Any) -> Any:
    """The sum of products, without an array of them."""
    flat = (*left.shape[:-2], left.shape[-2] * left.shape[-1])
    return xp.vecdot(left.reshape(flat), right.reshape(flat))
