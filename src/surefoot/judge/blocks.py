"""Runs that belong together: one policy, some starting rates, some seeds, trained as fleets."""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.judge import entrants
from surefoot.judge.arenas import Arena, split
from surefoot.judge.rows import Key, Row, rounded
from surefoot.loop import drive
from surefoot.runs import evaluation_steps
from surefoot.stats import LAST_EVALUATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from surefoot.fleet import Fleet

EVALUATIONS = 20
POINTS = 26
"""Steps of a watched run whose rates are kept, evenly spaced, the first and the last among them."""


class Block(NamedTuple):
    """What a worker is given.

    Attributes:
        arena: Where.
        limits: What rates count.
        entry: The policy, for `surefoot.judge.entrants.policy`.
        label: What its rows are kept under.
        rates: Base rates.
        seeds: Every rate is tried from each.
        watched: Whether rates on the way are kept, and held-out losses where the arena says so.
    """

    arena: Arena
    limits: str
    entry: str
    label: str
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    watched: bool = False

    @property
    def keys(self) -> list[Key]:
        """Its runs, rate by rate."""
        return [Key(self.arena.name, self.limits, self.label, rate, seed) for rate in self.rates for seed in self.seeds]


def run(block: Block) -> list[Row]:
    """Train the runs of a block."""
    some = max(1, block.arena.together // len(block.rates))
    parts = [_together(block._replace(seeds=seeds)) for seeds in split(block.seeds, some)]
    rows = {row.key: row for part in parts for row in part}
    return [rows[key] for key in block.keys]


def _together(block: Block) -> list[Row]:
    """The same as one fleet."""
    arena, count = block.arena, len(block.rates) * len(block.seeds)
    runs = arena.fleet(block.limits, gradients=not entrants.is_blind(block.entry, arena.steps))
    measure, evaluations, rates = _measure(arena, runs), list[tuple[int, Any]](), list[Any]()
    with np.errstate(all="ignore"):
        before = np.tile(np.asarray(measure(runs.init(block.seeds)))[0], len(block.rates))
        for row in drive(
            runs,
            [(entrants.policy(block.entry, arena.steps), count)],
            np.repeat(block.rates, len(block.seeds)),
            list(block.seeds) * len(block.rates),
            arena.steps,
            evaluate=lambda step, found: evaluations.append((step, np.asarray(found))),
            evaluate_at=_when(block),
            measure=measure,
        ):
            if block.watched and row.step in _points(arena.steps):
                rates.append(np.asarray(row.rate))
    ends = _ends(arena, evaluations, count)
    curves = [found[0] for _, found in evaluations] if block.watched and arena.watches else []
    rows = []
    for place, key in enumerate(block.keys):
        first, final, held_out = (rounded(float(value)) for value in (before[place], ends[0][place], ends[1][place]))
        rows.append(Row(key, first, final, held_out, _path(curves, place), _path(rates, place)))
    return rows


def _measure(arena: Arena, runs: Fleet[Any]) -> Callable[[Any], NDArray[np.float64]]:
    """What counts, and the held-out loss; each of shape (runs,)."""
    if arena.measure == "held-out":
        return lambda every: np.stack([np.asarray(runs.held_out(every))] * 2)
    power = 0.5 if arena.measure == "relative error" else 1.0
    factorisations: Any = runs
    return lambda every: np.stack([factorisations.relative_loss(every) ** power, factorisations.held_out(every)])


def _when(block: Block) -> frozenset[int]:
    """After which steps to measure: all evaluations of a watched run, the last few that count, or the very end."""
    steps = block.arena.steps
    if block.arena.measure != "held-out":
        return frozenset([steps])
    every = evaluation_steps(steps, EVALUATIONS)
    return frozenset(every if block.watched and block.arena.watches else every[-LAST_EVALUATIONS:])


def _ends(arena: Arena, evaluations: list[tuple[int, Any]], count: int) -> Any:
    """What counts at the end, and the held-out loss; infinite where a run did not get there."""
    if not evaluations or evaluations[-1][0] < arena.steps:
        return np.full((2, count), inf)
    last = [found for _, found in evaluations[-LAST_EVALUATIONS:]] if arena.measure == "held-out" else [evaluations[-1][1]]
    return np.stack([np.mean([found[0] for found in last], axis=0), evaluations[-1][1][1]])


def _points(steps: int) -> frozenset[int]:
    return frozenset(np.linspace(0, steps - 1, POINTS).round().astype(int).tolist())


def _path(values: list[Any], place: int) -> tuple[float, ...]:
    """One run's numbers, as far as it went."""
    own = [float(value[place]) for value in values]
    end = next((number for number, value in enumerate(own) if not isfinite(value)), len(own))
    return tuple(float(f"{value:.4g}") for value in own[:end])
