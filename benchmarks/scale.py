"""What the machinery around a study costs: trials that do nothing, through the real engine into a real store.

Each trial is told by its configuration, is sent to a worker, comes back as a run of `--rows` steps and is kept by itself, as
`surefoot compare` keeps it. Columns, after each tenth: trials, processor and wall-clock time per trial, memory of this process;
then what the engine and the store take by themselves, and how long it takes to see that everything is there already.

    python benchmarks/scale.py                     # 100,000 trials in processes of this machine
    python benchmarks/scale.py --engine ray --trials 20000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from surefoot.engine import perform
from surefoot.running import ENGINES, Running
from surefoot.runs import Run, Store, Trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surefoot.engine import Engine

RESULTS = Path(__file__).parent / "results" / "scale.json"
TENTHS = 10
POLICY = {"is": "Greedy", "factor": 0.95, "patience": 10, "min_scale": 0.01, "max_scale": 10.0, "window": 20}


def trials(number: int, rows: int) -> Iterator[Trial]:
    """So many trials, one after another: they are never all in memory."""
    for seed in range(number):
        yield Trial("nothing", 1, "sgd", POLICY, 0.1, rows, 1, seed, "scale")


def nothing(trial: Trial) -> Run:
    """The run of a trial that trains nothing."""
    steps = np.full(trial.steps, 0.5, np.float32)
    return Run(trial, steps, steps, steps[:1], steps[:1], "finished", 0.0)


def through(engine: Engine, store: Store | None, number: int, rows: int) -> list[dict[str, float]]:
    """Do all trials, and measure after each tenth."""
    measured, began, worked, done = [], perf_counter(), process_time(), count(1)
    with closing(perform(engine, nothing, trials(number, rows), preload=[__name__])) as finished:
        for _, run in finished:
            if store is not None:
                store.add(run)
            at = next(done)
            if at % max(1, number // TENTHS) == 0:
                measured.append(
                    {
                        "trials": at,
                        "seconds": round(perf_counter() - began, 2),
                        "driver_ms": round(1e3 * (process_time() - worked) / at, 4),
                        "wall_ms": round(1e3 * (perf_counter() - began) / at, 4),
                        "resident_mb": round(psutil.Process().memory_info().rss / 1e6, 1),
                    }
                )
    assert next(done) == number + 1
    return measured


def storing(store: Store, number: int, rows: int) -> float:
    """Milliseconds per run that the store takes by itself."""
    began = perf_counter()
    for trial in trials(number, rows):
        store.add(nothing(trial))
    return round(1e3 * (perf_counter() - began) / number, 4)


def skipping(store: Store, number: int, rows: int) -> float:
    """Milliseconds per trial to see that it is there."""
    began = perf_counter()
    assert all(trial in store for trial in trials(number, rows))
    return round(1e3 * (perf_counter() - began) / number, 4)


def measure(engine: Engine, number: int, rows: int) -> dict[str, Any]:
    """Everything that is measured."""
    with TemporaryDirectory() as folder, engine:
        with Store(Path(folder) / "runs.sqlite") as store:
            course = through(engine, store, number, rows)
            for line in course:
                print("{trials:>8,} {driver_ms:8.3f} ms {wall_ms:8.3f} ms {resident_mb:8.1f} MB".format(**line))
            assert len(store) == number
            skipped = skipping(store, number, rows)
        size = (Path(folder) / "runs.sqlite").stat().st_size
        with Store(Path(folder) / "alone.sqlite") as store:
            stored = storing(store, number // TENTHS, rows)
        bare = through(engine, None, number // TENTHS, rows)[-1]
    print(f"engine alone {bare['wall_ms']} ms, store alone {stored} ms, skipping what is there {skipped} ms per trial")
    return {
        "engine": engine.name,
        "trials": number,
        "rows": rows,
        "course": course,
        "engine_alone_ms": bare["wall_ms"],
        "store_alone_ms": stored,
        "skipping_ms": skipped,
        "bytes_per_run": round(size / number),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def main() -> None:
    """Print the figures, and keep them with `--write`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=100, help="steps of each run")
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument("--workers", type=int, default=0, help="processes, one thread each; 0 for one per core")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    told = parser.parse_args()
    found = measure(Running(kind=told.engine, workers=told.workers).engine(), told.trials, told.rows)
    if told.write:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**kept, told.engine: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
