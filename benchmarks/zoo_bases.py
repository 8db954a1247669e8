"""Find the base rates of the zoo: for each problem, the best of a grid for a warmup-stable-decay schedule.

A grid of half decades, three seeds, one fleet: the best rate has the smallest mean of the final held-out losses. `--write` puts
the rates into `src/surefoot/zoo/bases.py`; names restrict the search to these problems. Columns: problem, rate, by how much the
held-out loss at that rate ends above its minimum on the way, time of the processor, final losses from the lowest rate up.

    python benchmarks/zoo_bases.py --write
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from surefoot import WarmupStableDecay, zoo
from surefoot.loop import train
from surefoot.zoo.bases import BASES

if TYPE_CHECKING:
    from surefoot.networks import Network

SEEDS, LOOKS = range(3), 8
LOW, HIGH = {"plain-sgd": -2, "sgd": -3, "adagrad": -2}, {"plain-sgd": 1, "sgd": 0, "adagrad": 0.5}
FILE = Path(__file__).parent.parent / "src" / "surefoot" / "zoo" / "bases.py"


def grid(optimizer: str) -> list[float]:
    """Half decades, where this optimizer's rates are."""
    exponents = np.arange(LOW.get(optimizer, -4), HIGH.get(optimizer, -1) + 0.1, 0.5)
    return [float(f"{10.0**exponent:.1g}") for exponent in exponents]


def tuned(problem: Network) -> tuple[float, Any, float]:
    """The best rate, the mean final losses of the grid, and the rise of the best one's loss above its minimum."""
    rates, seen = grid(problem.optimizer), []
    looks = frozenset(round(problem.steps * (look + 1) / LOOKS) for look in range(LOOKS))
    for _ in train(
        problem,
        WarmupStableDecay(steps=problem.steps),
        base=rates,
        seeds=SEEDS,
        evaluate=lambda _, losses: seen.append(losses.mean(1)),
        evaluate_at=looks,
    ):
        pass
    finals = np.where(np.isfinite(seen[-1]), seen[-1], np.inf)
    best = int(finals.argmin())
    return rates[best], finals, float(finals[best] / np.nanmin([losses[best] for losses in seen]) - 1.0)


def main() -> None:
    """Print a line for each problem, and write the file if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="problems; all if none is named")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    told = parser.parse_args()
    bases = dict(BASES)
    problems = [*zoo.training(), *(judged.problem for judged in zoo.judging())]
    for problem in problems:
        if not told.names or problem.name in told.names:
            began = time.process_time()
            bases[problem.name], finals, rise = tuned(problem)
            losses = " ".join(f"{loss:.4g}" for loss in finals)
            print(f"{problem.name:32} {bases[problem.name]:<6g} {rise:6.1%} {time.process_time() - began:5.1f} s  {losses}")
    if told.write:
        lines = [f'    "{problem.name}": {bases[problem.name]:g},\n' for problem in problems if problem.name in bases]
        head = FILE.read_text().partition("{\n")[0].removesuffix("{}\n").removesuffix("{")
        FILE.write_text(f"{head}{{\n{''.join(lines)}}}\n")


if __name__ == "__main__":
    main()
