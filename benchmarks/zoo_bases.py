"""Find the base rates of the zoo: for each problem, the best of a grid for a warmup-stable-decay schedule.

A grid of half decades, three seeds, one fleet: the best rate has the smallest mean of the final held-out losses. `--write` puts
the rates into `src/surefoot/zoo/bases.py`; names restrict the search to these problems. Columns: problem, rate, by how much the
held-out loss at that rate ends above its minimum on the way, time of the processor, final losses from the lowest rate up.

Every problem's grid is kept as it is finished, in benchmarks/results/zoo_bases.jsonl, under a digest of all that it depends on:
the same command goes on where it was stopped, and finds anew only what has changed.

    python benchmarks/zoo_bases.py --write
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from surefoot import WarmupStableDecay, compare, zoo
from surefoot.engine import perform
from surefoot.loop import train
from surefoot.running import ENGINES, Running
from surefoot.verify.journal import Journal
from surefoot.zoo.bases import BASES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.engine import Engine
    from surefoot.networks import Network
    from surefoot.verify.journal import Line

SEEDS, LOOKS = range(3), 8
LOW, HIGH = {"plain-sgd": -2, "sgd": -3, "adagrad": -2}, {"plain-sgd": 1, "sgd": 0, "adagrad": 0.5}
FILE = Path(__file__).parent.parent / "src" / "surefoot" / "zoo" / "bases.py"
ROWS = Path(__file__).parent / "results" / "zoo_bases.jsonl"


def problems() -> dict[str, Network]:
    """Every problem of the zoo, by name."""
    return {problem.name: problem for problem in (*zoo.training(), *(judged.problem for judged in zoo.judging()))}


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


def key(problem: Network) -> str:
    """What a grid depends on, in 16 hexadecimal digits."""
    return sha256(repr((problem, grid(problem.optimizer), SEEDS, LOOKS, compare.versions())).encode()).hexdigest()[:16]


def search(name: str) -> Line:
    """The row of a problem."""
    problem, began = problems()[name], time.process_time()
    rate, finals, rise = tuned(problem)
    seconds = time.process_time() - began
    losses = [float(loss) if np.isfinite(loss) else None for loss in finals]
    return {"key": key(problem), "problem": name, "rate": rate, "rise": rise, "seconds": round(seconds, 1), "losses": losses}


def fill(engine: Engine, names: Sequence[str]) -> dict[str, Line]:
    """Search what is missing, keep every row as it is found, print it, and return the rows of today by problem."""
    every = problems()
    with Journal(ROWS) as journal:
        kept = {line["key"]: line for line in journal.lines}
        rows = {name: kept[key(every[name])] for name in names if key(every[name]) in kept}
        for row in rows.values():
            say(row)
        with closing(perform(engine, search, [name for name in names if name not in rows])) as finished:
            for name, row in finished:
                journal.add([row])
                rows[name] = row
                say(row)
    return rows


def say(row: Line) -> None:
    """Print a row."""
    losses = " ".join("inf" if loss is None else f"{loss:.4g}" for loss in row["losses"])
    print(f"{row['problem']:32} {row['rate']:<6g} {row['rise']:6.1%} {row['seconds']:5.1f} s  {losses}", flush=True)


def main() -> None:
    """Print a line for each problem, and write the file if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="problems; all if none is named")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument("--workers", type=int, default=0, help="processes, one thread each; 0 for one per core")
    told = parser.parse_args()
    every = list(problems())
    with Running(kind=told.engine, workers=told.workers).engine() as engine:
        found = fill(engine, [name for name in every if not told.names or name in told.names])
    if told.write:
        bases = BASES | {name: row["rate"] for name, row in found.items()}
        lines = [f'    "{name}": {bases[name]:g},\n' for name in every if name in bases]
        head = FILE.read_text().partition("{\n")[0].removesuffix("{}\n").removesuffix("{")
        FILE.write_text(f"{head}{{\n{''.join(lines)}}}\n")


if __name__ == "__main__":
    main()
