"""On how many tasks a schedule is equal to another or better, and whether that proves a claim."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

from surefoot import stats
from surefoot.contest.verdicts import MARGIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from surefoot.contest.verdicts import TaskVerdict

CLAIM = 0.9
"""The share of tasks that a claim is about."""
CLAIM_SEEDS = 10
"""With fewer seeds, nothing is claimed."""


@dataclass(frozen=True)
class Headline:
    """On how many tasks a candidate is equal to an opponent or better.

    Attributes:
        candidate, regime, opponent: What the sentence calls them.
        seeds: How many seeds every verdict rests on.
        better, equal, inconclusive, worse: Numbers of tasks.
        strict: Tasks in which every cell is equal or better.
        check: Tasks that are equal or better by Student's t.
        behind: Tasks that are equal, and proved to be worse by less than the margin.
        diverged: Tasks that are equal or better, and in which both diverged in some pair.
    """

    candidate: str
    regime: str
    opponent: str
    seeds: int
    better: int
    equal: int
    inconclusive: int
    worse: int
    strict: int
    check: int
    behind: int
    diverged: int

    @property
    def tasks(self) -> int:
        """All of them."""
        return self.hits + self.inconclusive + self.worse

    @property
    def hits(self) -> int:
        """Tasks that are equal or better."""
        return self.better + self.equal

    @property
    def share(self) -> float:
        """Of hits among the tasks, from 0 to 1."""
        return self.hits / self.tasks

    @property
    def bound(self) -> float:
        """The one-sided 95% lower bound of the share, by Clopper and Pearson."""
        return stats.clopper_pearson_lower(self.hits, self.tasks)

    @property
    def is_proved(self) -> bool:
        """Whether the claim of more than 90% of the tasks holds, from 10 seeds or more."""
        return self.bound > CLAIM and self.seeds >= CLAIM_SEEDS

    @property
    def lower(self) -> str:
        """The bound as it is printed, rounded down."""
        return f"{floor(1000.0 * self.bound) / 10.0:.1f}%"

    @property
    def figure(self) -> str:
        """`k/n = x% (95% lower bound y%)`."""
        return f"{self.hits}/{self.tasks} = {self.share:.1%} (95% lower bound {self.lower})"

    @property
    def said(self) -> str:
        """On which share of tasks, and whether that proves the claim."""
        return f"more than {CLAIM:.0%} of tasks: {self.figure}" if self.is_proved else f"{self.figure} of tasks"

    @property
    def sentence(self) -> str:
        """The headline as it is printed."""
        counted = f"{self.better} better, {self.equal} equal, {self.inconclusive} inconclusive, {self.worse} worse"
        beside = [f"{self.check}/{self.tasks} by Student's t", f"{self.strict}/{self.tasks} in every cell"]
        if self.behind:
            beside.append(f"{self.behind} of the equal behind by less than {MARGIN:.0%}")
        if self.diverged:
            beside.append(f"{self.diverged} with pairs in which both diverged")
        if self.seeds < CLAIM_SEEDS:
            beside.append(f"a quick look, which makes no claim: {CLAIM_SEEDS} seeds would")
        return (
            f"{self.regime}: {self.candidate} vs {self.opponent}, {self.seeds} seeds: equal or better on {self.said}; "
            f"{counted}; {'; '.join(beside)}."
        )


def in_brief(headlines: Sequence[Headline]) -> str:
    """One short sentence for headlines of one candidate in one regime, one or more: the counts and the bounds, by opponent."""
    first = headlines[0]
    said = [f"{each.said} vs {each.opponent}" for each in headlines]
    return f"{first.regime}: {first.candidate} is equal or better on {', and on '.join(said)}."


def headline(verdicts: Iterable[TaskVerdict], *, candidate: str, regime: str, opponent: str) -> Headline:
    """Count the tasks on which a candidate is equal to an opponent or better.

    >>> import numpy as np
    >>> from surefoot.contest.verdicts import task_verdict
    >>> equal = task_verdict(np.ones((1, 10)), np.ones((1, 10)))
    >>> print(headline([equal] * 29, candidate="greedy", regime="A, tuned against tuned", opponent="cosine").sentence)
    A, tuned against tuned: greedy vs cosine, 10 seeds: equal or better on more than 90% of tasks: 29/29 = 100.0% (95% lower
    bound 90.1%); 0 better, 29 equal, 0 inconclusive, 0 worse; 29/29 by Student's t; 29/29 in every cell.

    Args:
        verdicts: One per task, one or more, all from the same number of seeds.
        candidate: What was judged.
        regime: Under which circumstances.
        opponent: Against whom.

    Raises:
        ValueError: There is no task, or they have different numbers of seeds.
    """
    tasks = list(verdicts)
    seeds = sorted({task.whole.seeds for task in tasks})
    if len(seeds) != 1:
        came = " and ".join(map(str, seeds)) or "none"
        raise ValueError(f"a headline must count one task or more, all with the same number of seeds, got {came}")
    good = ("better", "equal")
    labels = [task.label for task in tasks]
    return Headline(
        candidate,
        regime,
        opponent,
        seeds[0],
        better=labels.count("better"),
        equal=labels.count("equal"),
        inconclusive=labels.count("inconclusive"),
        worse=labels.count("worse"),
        strict=sum(task.strict in good for task in tasks),
        check=sum(task.whole.check in good for task in tasks),
        behind=sum(task.whole.is_behind for task in tasks),
        diverged=sum(task.whole.both > 0 for task in tasks if task.label in good),
    )
