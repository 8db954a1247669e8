"""Where policies are judged: a problem, and the seeds and rates that are tried on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from surefoot.fleet import fleet
from surefoot.judge.entrants import CLOSED, SCHEDULES, Contestant
from surefoot.nmf import Factorisation

if TYPE_CHECKING:
    from surefoot.fleet import Fleet

MULTIPLES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Starting rates, as multiples of the tuned one."""

SEARCHED = ("constant", "linear", "cosine", "step", "exponential", "wsd")
"""Schedules of a search."""

TRIED = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Rates of a search on a matrix, as multiples of the one at which a constant does best on those that policies are learned on:
with the schedules they make 36 runs."""


@dataclass(frozen=True)
class Arena:
    """A problem to be judged on.

    Attributes:
        name: Lower-case words with hyphens.
        says: What it is, in a phrase.
        problem: The problem; one that draws its own matrix for every seed is a distribution of problems.
        judging: Seeds that count; empty for an arena that rates are only tuned on.
        tuning: Seeds that rates are tuned from; none of the others.
        measure: What counts at the end: `"relative loss"`, of all rows to train on, or its root, `"relative error"`, for
            factorisations; or `"held-out"`, the mean of the last three of 20 held-out losses.
        tuned_on: Names of the arenas that stand for what a policy is learned on: with the rates that are best there, rivals
            know as much as it does. This arena itself if empty.
        searches: What a search tries its runs on: `"judging"`, the judged run itself, as there is one matrix for each seed, at
            the rates `TRIED`; `"tuning"`, the seeds and the grid of tuning, where rivals' rates are tuned on this very problem
            as well; or `""`, there is none.
        grid: The first and the last place of the grid of rates that tuning begins with, 0 being the problem's base rate, with
            `fineness` places to a decade.
        rivals: Who else takes part.
        wrong: Those of them that are also started at wrong rates; all if None.
        limits: What the judged policy's rates count, each judged apart: see `surefoot.nmf.Factorisation.rates`.
        starts: Starting rates, as multiples of the tuned one.
        axis: In what it differs from all that a policy has been learned on.
        together: Runs in a fleet.
        watches: Whether held-out losses on the way are kept, for the steps to a target.
    """

    name: str
    says: str
    problem: Any
    judging: tuple[int, ...]
    tuning: tuple[int, ...]
    measure: str = "held-out"
    tuned_on: tuple[str, ...] = ()
    searches: str = ""
    grid: tuple[int, int] = (-4, 4)
    fineness: int = 2
    rivals: tuple[Contestant, ...] = tuple(Contestant(entry) for entry in SCHEDULES + CLOSED)
    wrong: tuple[Contestant, ...] | None = None
    limits: tuple[str, ...] = ("plain",)
    starts: tuple[float, ...] = MULTIPLES
    axis: str = ""
    together: int = 192
    watches: bool = False

    @property
    def steps(self) -> int:
        """The budget."""
        return int(self.problem.steps)

    def place(self, number: int) -> float:
        """The rate at a place of the grid."""
        return rate(self.problem.base * 10.0 ** (number / self.fineness))

    def fleet(self, limits: str, *, gradients: bool) -> Fleet[Any]:
        """The problem for many runs, with these limits on rates."""
        if isinstance(self.problem, Factorisation):
            return replace(self.problem, rates=limits, gradients=gradients).fleet()  # type: ignore[arg-type]
        if hasattr(self.problem, "model"):
            return fleet(self.problem.fleet(gradients=gradients))
        return fleet(self.problem)


def rate(value: float) -> float:
    """A rate with so few digits that it survives being written down."""
    return float(f"{value:.6g}")


def split(seeds: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    """Seeds in groups of at most so many.

    >>> split((1, 2, 3), 2)
    [(1, 2), (3,)]
    """
    return [seeds[first : first + size] for first in range(0, len(seeds), size)]
