"""How often the verdicts of the comparison are wrong, and what they overlook.

    pip install 'surefoot[contest]'
    python benchmarks/verdicts.py

Differences between two schedules are made up, so that the truth is known. The first table is about bounds: how often the upper
bound of a mean that is 0 lies below 0, which should be 5%. The second is about tasks of two cells: how often a schedule that is
worse by just the margin, 1%, passes as equal or better, which should be 5% at most: when whole seeds are drawn, as the rule is,
when each cell is drawn on its own, and when each must pass on its own. The third is about power: what is said of a schedule by
how much worse it is. The last line is the time that the verdicts of a whole study take.
"""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from surefoot.contest.pairs import bounds, resamples, t_bounds
from surefoot.contest.verdicts import LABELS, MARGIN, task_verdict, verdict

REPETITIONS, TIMES = 10_000, 1_000
SEEDS = (3, 5, 10, 20)
SHAPES = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "heavy tails (t, 3 degrees)": lambda random, shape: random.standard_t(3, shape),
    "rarely much better": lambda random, shape: 1.0 - random.exponential(size=shape),
    "rarely much worse": lambda random, shape: random.exponential(size=shape) - 1.0,
}
STUDY = {"tasks": 40, "rivals": 30, "regimes": 5}


def errors() -> None:
    """Print the first table."""
    print("| log ratios are | seeds | bootstrap | Student's t |\n|---|---|---|---|")
    for shape, draw in SHAPES.items():
        for seeds in SEEDS:
            drawn = draw(np.random.default_rng(seeds), (REPETITIONS, seeds))
            rates = [(found.upper < 0.0).mean() for found in (bounds(drawn), t_bounds(drawn))]
            print(f"| {shape} | {seeds} | {rates[0]:.1%} | {rates[1]:.1%} |")


def cells(seeds: int = 10, deviation: float = 0.01) -> None:
    """Print the second table."""
    print("\n| cells correlate by | whole seeds drawn | each cell drawn on its own | every cell must pass |\n|---|---|---|---|")
    counts = resamples(seeds, strata=2) / seeds
    for correlation in (0.0, 0.5, 0.9):
        random, margin = np.random.default_rng(0), np.log1p(MARGIN)
        shared, own = random.standard_normal((REPETITIONS, 1, seeds)), random.standard_normal((REPETITIONS, 2, seeds))
        drawn = margin + deviation * (correlation**0.5 * shared + (1.0 - correlation) ** 0.5 * own)
        whole = bounds(drawn.mean(axis=1)).upper < margin
        apart = [np.quantile(np.einsum("dcs,cs->d", counts, each) / 2, 0.95) < margin for each in drawn[:TIMES]]
        every = (bounds(drawn).upper < margin).all(axis=1)
        print(f"| {correlation} | {whole.mean():.1%} | {np.mean(apart):.1%} | {every.mean():.1%} |")


def power() -> None:
    """Print the third table."""
    print(f"\n| worse by | paired deviation | seeds | {' | '.join(LABELS)} |\n|---|---|---|{'---|' * len(LABELS)}")
    for deviation, seeds in ((0.007, 10), (0.01, 10), (0.01, 5), (0.015, 10), (0.04, 10)):
        for worse in (-0.01, 0.0, 0.01, 0.02, 0.03):
            drawn = np.log1p(worse) + deviation * np.random.default_rng(0).standard_normal((TIMES, seeds))
            found = Counter(verdict(np.exp(each), np.ones(seeds)).label for each in drawn)
            print(
                f"| {worse:.0%} | {deviation:.1%} | {seeds} | {' | '.join(f'{found[label] / TIMES:.0%}' for label in LABELS)} |"
            )


def duration() -> None:
    """Print how long the verdicts of a study take."""
    count = int(np.prod(list(STUDY.values())))
    losses = np.exp(0.01 * np.random.default_rng(0).standard_normal((count, 2, 2, 10)))
    start = time.process_time()
    for ours, theirs in losses:
        task_verdict(ours, theirs)
    print(f"\n{count:,} verdicts on tasks of 2 cells and 10 seeds: {time.process_time() - start:.1f} s")


if __name__ == "__main__":
    errors()
    cells()
    power()
    duration()
