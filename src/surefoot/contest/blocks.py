"""Runs of a cell that are trained together, as one fleet where the optimizer has one."""

from __future__ import annotations

import json
from itertools import groupby
from math import nan
from pathlib import Path  # noqa: TC003 - Python 3.11 evaluates what a named tuple is made of.
from time import process_time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray  # noqa: TC002 - Python 3.11 evaluates what a named tuple is made of.

from surefoot import under_way
from surefoot.contest import range_test
from surefoot.contest.rivals import FOUND, Rival
from surefoot.contest.rows import CellName, ContestRow, rounded
from surefoot.fleet import OneByOne
from surefoot.loop import drive
from surefoot.nmf import Factorisation
from surefoot.runs import evaluation_steps
from surefoot.stats import LAST_EVALUATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.contest.cells import Wanted
    from surefoot.fleet import Fleet
    from surefoot.keeping import Keeper
    from surefoot.policy import Policy

EVALUATIONS = 20
"""Held-out losses that are taken on the way to the budget, evenly spaced."""


class Block(NamedTuple):
    """What a worker is given.

    Attributes:
        cell: Where its rows belong.
        problem: What is trained, for its budget.
        stacks: Whether the optimizer has a fleet, so that all runs advance together.
        runs: The runs, with their rivals; all of them equally long.
    """

    cell: CellName
    problem: Any
    stacks: bool
    runs: tuple[tuple[Rival, Wanted], ...]

    @property
    def is_long(self) -> bool:
        """Whether its runs go on to twice the budget."""
        return self.runs[0][1].is_long

    @property
    def steps(self) -> int:
        """How long its runs are."""
        return int(self.problem.steps) * (2 if self.is_long else 1)


class Place(NamedTuple):
    """Where blocks that are under way keep how far they are.

    Attributes:
        folder: The folder; nowhere if None.
        about: All that their rows depend on besides the runs themselves.
    """

    folder: Path | None
    about: str

    def keeper(self, block: Block) -> Keeper | None:
        """The keeper of a block, whose time is the processor's."""
        runs = [(*each.key, each.is_long, each.is_watched) for _, each in block.runs]
        return under_way.keeper(self.folder, json.dumps([self.about, *block.cell, runs]), clock=process_time)

    def clear(self, block: Block) -> None:
        """Remove what a block kept: its rows are safe."""
        if keeper := self.keeper(block):
            keeper.remove()


def run(block: Block, place: Place | None = None) -> list[ContestRow]:
    """Train the runs of a block, from where they were if they were begun before. One that diverges is a row like any other."""
    began, keeper = process_time(), place and place.keeper(block)
    runs = [each for _, each in block.runs]
    bases = np.array([each.key.rate for each in runs])
    found = np.flatnonzero(bases == FOUND)
    fleet, seeds = _fleet(block), [each.key.seed for each in runs]
    if len(found):
        bases[found] = _ranged(fleet, [seeds[place] for place in found])
    evaluations: dict[int, NDArray[np.float64]] = {}
    at = _when(block)
    with np.errstate(all="ignore"):
        every = drive(
            fleet,
            _crews(block),
            bases,
            seeds,
            block.steps,
            evaluate=lambda step, measured: evaluations.__setitem__(step, np.asarray(measured)),
            evaluate_at=frozenset(at),
            measure=_measure(fleet),
            keeper=keeper,
        )
        rates = [np.asarray(row.rate) for row in every if row.step + 1 in at]
    absent = np.full((2, len(runs)), nan)
    losses, forwards = np.stack([evaluations.get(step, absent) for step in at]).swapaxes(0, 1)
    measured = _Measured(tuple(at), losses, np.stack([*rates, *[absent[0]] * (len(at) - len(rates))]), forwards)
    rows = [_row(each, measured.of(place), int(block.problem.steps)) for place, each in enumerate(runs)]
    share = float(f"{(process_time() - began + (keeper.before if keeper else 0.0)) / len(rows):.4g}")
    return [row._replace(seconds=share) for row in rows]


class _Measured(NamedTuple):
    """What was measured after some steps; arrays of shape (steps, runs), or of one run (steps,)."""

    at: tuple[int, ...]
    losses: NDArray[np.float64]
    rates: NDArray[np.float64]
    forwards: NDArray[np.float64]

    def of(self, place: int) -> _Measured:
        """The same of one run."""
        return _Measured(self.at, self.losses[:, place], self.rates[:, place], self.forwards[:, place])

    def last(self, end: int, spaced: int) -> float:
        """The mean of the last losses until a step, of those that are taken in a budget of so many steps."""
        steps = [step for step in evaluation_steps(spaced, EVALUATIONS) if step <= end][-LAST_EVALUATIONS:]
        return rounded(float(np.mean([self.losses[self.at.index(step)] for step in steps])))


def _row(each: Wanted, found: _Measured, budget: int) -> ContestRow:
    known = found.forwards[np.isfinite(found.forwards)]
    way = [place for place, step in enumerate(found.at) if step <= budget] if each.is_watched else []
    return ContestRow(
        each.key,
        final=found.last(budget, budget),
        half=found.last(budget // 2, budget) if each.is_long else nan,
        double=found.last(2 * budget, 2 * budget) if each.is_long else nan,
        curve=tuple(found.losses[way].tolist()),
        rates=tuple(found.rates[way].tolist()),
        forwards=float(f"{known[-1]:.4g}") if len(known) else 1.0,
    )


def _when(block: Block) -> list[int]:
    """After which steps to measure."""
    budget = int(block.problem.steps)
    every = evaluation_steps(budget, EVALUATIONS)
    if not (block.is_long or any(each.is_watched for _, each in block.runs)):
        return every[-LAST_EVALUATIONS:]
    beyond = evaluation_steps(2 * budget, EVALUATIONS)[-LAST_EVALUATIONS:] if block.is_long else []
    return sorted({*every, *beyond})


def _crews(block: Block) -> list[tuple[Policy[Any], int]]:
    """Policies, each with the number of neighbouring runs that it drives."""
    steps = int(block.problem.steps)
    kinds = groupby(block.runs, key=lambda pair: (pair[0], 1.0 if pair[0].is_general else pair[1].key.rate))
    return [(rival.policy(steps, rate), len(list(some))) for (rival, rate), some in kinds]


def _fleet(block: Block) -> Fleet[Any]:
    problem = block.problem
    if isinstance(problem, Factorisation):
        return problem.fleet()
    if not block.stacks:
        return OneByOne(problem)
    gradients = any(not rival.is_blind for rival, _ in block.runs)
    fleet: Fleet[Any] = problem.fleet(gradients=gradients)
    return fleet


def _measure(fleet: Fleet[Any]) -> Any:
    """Held-out losses, and forward passes per step, of shape (2, runs)."""

    def measure(runs: Any) -> NDArray[np.float64]:
        losses = np.asarray(fleet.held_out(runs))
        trials = [_trials(one) for one in runs] if isinstance(fleet, OneByOne) else np.ones(len(losses))
        return np.stack([losses, np.asarray(trials, np.float64)])

    return measure


def _trials(run: Any) -> float:
    """Forward passes per step of one run, for its step and in search of its rate."""
    optimizer = getattr(run, "optimizer", None)
    steps = getattr(optimizer, "steps", 0)
    return 1.0 + optimizer.trials / steps if optimizer is not None and steps else 1.0


def _ranged(fleet: Fleet[Any], seeds: Sequence[int]) -> NDArray[np.float64]:
    """The rates that a range test recommends, one for each seed."""
    with np.errstate(all="ignore"):
        rows = list(
            drive(
                fleet,
                [(range_test.RangeTest(), len(seeds))],
                np.full(len(seeds), range_test.LOWEST),
                seeds,
                range_test.STEPS,
            )
        )
    losses, rates = (np.stack([np.asarray(getattr(row, name)) for row in rows], 1) for name in ("loss", "rate"))
    return np.array([range_test.steepest(*pair) for pair in zip(losses.tolist(), rates.tolist(), strict=True)])
