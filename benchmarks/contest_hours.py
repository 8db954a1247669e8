"""How many core-hours the comparison takes, estimated from a sample of its blocks that are trained again.

    pip install 'surefoot[contest]'
    surefoot contest fetch
    python benchmarks/contest_hours.py --minutes 10

The rows of the first studies do not say how long they took. But they say which blocks of runs the plan asked for, round after
round, so that list is made again. Blocks are drawn from it by a fixed seed, each as probably as it has steps of runs, and
trained in one process of one thread; what counts is its processor time, reading the data included. The mean of seconds per step
over what was drawn, times all steps, is an unbiased estimate of the whole (Hansen and Hurwitz, 1943). Blocks that train their
runs one by one are drawn apart from fleets, since their steps cost ten times as much.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

import numpy as np

from surefoot.contest import blocks
from surefoot.contest.rows import Rows
from surefoot.contest.study import of_folder
from surefoot.engine import TRAINING
from surefoot.engine.settling import settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.contest.blocks import Block

STUDY = Path(__file__).parent.parent / "studies" / "contest"
KINDS = {True: "in fleets", False: "one by one"}


def planned(folder: Path) -> list[Block]:
    """The blocks that made the rows of a folder, in the order of the plan's rounds."""
    study, _ = of_folder(folder)
    there = Rows.read(folder, study.definitions)
    shown, every = {cell: {} for cell in there}, []
    while waiting := study.missing(lambda cell: shown[cell]):
        every += waiting
        for block in waiting:
            shown[block.cell].update((run.key, there[block.cell][run.key]) for _, run in block.runs)
    return every


def size(block: Block) -> int:
    """Steps of runs in a block."""
    return len(block.runs) * block.steps


def sampled(some: Sequence[Block], seconds: float, random: np.random.Generator) -> tuple[float, float, int]:
    """Hours of all of these, the standard error, and how many were timed, within so much processor time."""
    sizes = np.array([size(block) for block in some], np.float64)
    costs, began = [], process_time()
    while process_time() - began < seconds or len(costs) < 2:  # noqa: PLR2004 - a deviation needs two.
        block = some[random.choice(len(some), p=sizes / sizes.sum())]
        start = process_time()
        blocks.run(block)
        costs.append((process_time() - start) / size(block))
    hours = np.array(costs) * sizes.sum() / 3600.0
    return float(hours.mean()), float(hours.std(ddof=1) / len(hours) ** 0.5), len(hours)


def main() -> None:
    """Print a line for each kind of block, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="processor time to spend")
    parser.add_argument("--study", type=Path, default=STUDY)
    chosen = parser.parse_args()
    settle(TRAINING)
    every, random = planned(chosen.study), np.random.default_rng(0)
    print("| blocks | number | steps of runs | timed | core-hours |\n|---|--:|--:|--:|--:|")
    total, variance = 0.0, 0.0
    for stacks, kind in KINDS.items():
        some = [block for block in every if block.stacks == stacks]
        hours, error, timed = sampled(some, 30.0 * chosen.minutes, random)
        total, variance = total + hours, variance + error**2
        print(f"| {kind} | {len(some):,} | {sum(map(size, some)):,} | {timed} | {hours:.2f} ± {error:.2f} |", flush=True)
    print(f"| all | {len(every):,} | {sum(map(size, every)):,} | | {total:.2f} ± {variance**0.5:.2f} |")


if __name__ == "__main__":
    main()
