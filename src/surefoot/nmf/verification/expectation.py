r"""What one noisy step does to the loss on average.

From a point on the way to a fit, many pairs of opposite draws of the noise are tried. The change of the loss by a step $E$ of
one factor, with the other one fixed, is $\langle G, E\rangle + \tfrac12\langle E, EK\rangle$ exactly, $G$ its gradient and $K$
the gram of the other. A rule fails where the mean change is above 0 by more than five standard errors, which chance does once
in three million trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from surefoot.nmf import largest_eigenvalue, noisy_edge, snr_edge
from surefoot.nmf.verification.descent import BELOW, along_gradient, block, per_matrix, sweeps, transposed
from surefoot.nmf.verification.watching import Found, joined, norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.nmf.verification.fleets import Array, Problems

ERRORS = 5.0
DRAWS, AT_ONCE = 120, 20
_PURPOSE, _LATEST = 3, 30
_STILL = 1e-10
_SLIGHT = 1e-4


class State(NamedTuple):
    """Where each problem stands when the noisy step is made.

    Attributes:
        factor: W; shape (problems, m, r).
        gradient: G; shape (problems, m, r).
        gram: HH^T; shape (problems, r, r).
        largest: Its largest eigenvalue; shape (problems,).
        slope: Squared norm of the gradient; shape (problems,).
        mapping: Squared norm of the gradient mapping (W - P(W - G / L)) L, 0 at a stationary point; shape (problems,).
        variance: Expected squared norm of the noise, 0.01 to 100 times that of the mapping; shape (problems,).
    """

    factor: Array
    gradient: Array
    gram: Array
    largest: Array
    slope: Array
    mapping: Array
    variance: Array


def reach(fleet: Problems) -> State:
    """Go up to thirty sweeps at 1 / L, by a number of its own for each problem."""
    random = np.array([(each.integers(_LATEST + 1), each.uniform(-2.0, 2.0)) for each in fleet.random(_PURPOSE)])
    here, there, steps = fleet.codes, fleet.parts, np.full((_LATEST, len(fleet.seeds)), 0.5)
    moves = sweeps(fleet.matrix, here, there, steps, along_gradient(block()))
    for number, (codes, parts) in enumerate(moves):
        is_there = np.equal(2 * random[:, 0], number)[:, None, None]
        here, there = np.where(is_there, codes, here), np.where(is_there, parts, there)
    gram = there @ transposed(there)
    return _state(here, here @ gram - fleet.matrix @ transposed(there), gram, 10.0 ** random[:, 1])


def hold(fleet: Problems) -> State:
    r"""Stand where some codes are held at zero by a slope that is small beside the noise, which can only push them up.

    Any small gradient $G$ at positive $WH$ belongs to a nonnegative matrix: $V = WH - GK^{-1}H$.
    """
    drawn = [_held(each, *fleet.codes.shape[1:]) for each in fleet.random(_PURPOSE + 2)]
    factor, gradient, level = (np.array(each) for each in zip(*drawn, strict=True))
    gram = fleet.parts @ transposed(fleet.parts)
    return _state(factor, _SLIGHT * per_matrix(largest_eigenvalue(gram)) * gradient, gram, 10.0**level)


def _held(random: np.random.Generator, m: int, rank: int) -> tuple[Array, Array, float]:
    """Codes, a third of them zero, a gradient, and how often the noise's square is that of the mapping, 10 to 100 times."""
    held, drawn = random.integers(3, size=(m, rank)) == 0, random.standard_normal((m, rank))
    held[np.arange(m), random.integers(rank, size=m)] = False  # Every row of WH is positive.
    factor = np.where(held, 0.0, random.uniform(0.5, 1.0, (m, rank)))
    return factor, np.where(held, np.abs(drawn), 0.3 * drawn), random.uniform(1.0, 2.0)


def _state(factor: Array, gradient: Array, gram: Array, level: Array) -> State:
    largest = largest_eigenvalue(gram)
    long = largest[:, None, None]
    mapping = norm((factor - np.maximum(factor - gradient / long, 0.0)) * long) ** 2
    return State(factor, gradient, gram, largest, norm(gradient) ** 2, mapping, level * mapping)


def exact_edge(state: State) -> Array:
    """The edge from the noise's own curvature, E‖ξH‖² for noise of equal variance in every entry."""
    rank = state.gram.shape[-1]
    curvature = state.variance * np.trace(state.gram, axis1=-2, axis2=-1) / rank
    found: Array = noisy_edge(state.gradient, state.gram, curvature)
    return found


def by_signal(state: State) -> Array:
    """The edge from the largest eigenvalue and the gradient's signal-to-noise ratio."""
    found: Array = snr_edge(state.largest, state.slope, state.variance)
    return found


def by_mapping(state: State) -> Array:
    """The same with the gradient mapping for the signal."""
    found: Array = snr_edge(state.largest, state.mapping, state.variance)
    return found


def on_average(state: State, streams: list[np.random.Generator], rate: Array, *, is_projected: bool = False) -> Found:
    """Whether the loss rises on average, at rates of shape (problems,)."""
    rate = rate[:, None, None, None]
    spread = np.sqrt(state.variance / state.factor[0].size)
    changes = []

    def changed(step: Array) -> Array:
        if is_projected:
            step = np.maximum(state.factor[:, None] + step, 0.0) - state.factor[:, None]
        found: Array = np.sum(step * (state.gradient[:, None] + 0.5 * step @ state.gram[:, None]), axis=(-2, -1))
        return found

    for _ in range(DRAWS // AT_ONCE):
        drawn = np.stack([each.standard_normal((AT_ONCE, *state.factor.shape[1:])) for each in streams])
        noisy = rate * spread[:, None, None, None] * drawn
        exact = rate * state.gradient[:, None]
        # In pairs of opposite noise, whose first-order parts cancel: they say nothing about the mean, and drown it.
        changes.append(0.5 * (changed(-exact - noisy) + changed(-exact + noisy)))
    change = np.concatenate(changes, axis=1)
    error = change.std(1) / np.sqrt(DRAWS)
    is_moving = state.mapping > (_STILL * state.largest * norm(state.factor)) ** 2
    score = np.where(is_moving, change.mean(1) / np.maximum(error, np.finfo(np.float64).tiny), 0.0)
    ratio = np.sqrt(state.variance / np.maximum(state.mapping, np.finfo(np.float64).tiny))
    failures = (score > ERRORS).astype(np.int64)
    return Found(is_moving.astype(np.int64), failures, {"worst": score, "noise": ratio})


def unprojected(fleet: Problems, edge: Callable[[State], Array], multiple: float = BELOW) -> Found:
    """One step without projection, at a multiple of an edge, on the way to a fit."""
    state = reach(fleet)
    return on_average(state, fleet.random(_PURPOSE + 1), multiple * edge(state))


def projected(fleet: Problems) -> Found:
    """One projected step below the edge by the gradient mapping, on the way to a fit and beside one."""
    states = reach(fleet), hold(fleet)
    found = [on_average(state, fleet.random(_PURPOSE + 1), BELOW * by_mapping(state), is_projected=True) for state in states]
    return joined(*found)
