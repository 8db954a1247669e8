"""Schedules on nonnegative factorisations with noisy gradients: tuned on some matrices, judged on others, and set wrong.

    pip install 'surefoot[report]'
    python benchmarks/nmf_schedules.py        # goes on where it was stopped; rows go to benchmarks/results/nmf_schedules.jsonl
    python benchmarks/nmf_schedules_page.py   # the tables and pictures of docs/nmf/schedules.md, from these rows

A cell is a kind of gradient x what limits the steps x a schedule. In each, the base rate is tuned on 12 random matrices: from a
grid of quarter decades, which is extended while the best is at its edge, the rate with the lowest median error, among those at
which no run failed. It is then judged on 40 others, at that rate and at 1/100, 1/10, 10 and 100 times it, and on 40 of other
shape, scale, sparsity and rank. All cells see the same matrices, first factors, noise and batches, seed by seed.

Measured is the relative error |V - WH| / |V| after the last step. A run has failed if that is not finite, or above 0.98: a
product that has collapsed to zero has an error of 1.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import Constant, Cosine, Exponential, Greedy, Hypergradient, InverseTime, Linear, Step
from surefoot.engine import perform
from surefoot.nmf import Factorisation, Matrices
from surefoot.running import ENGINES, Running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from surefoot.engine import Engine

ROWS = Path(__file__).parent / "results" / "nmf_schedules.jsonl"
STEPS, RANK, POINTS = 300, 6, 60
TUNING, JUDGING = range(12), range(100, 140)
FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)
GRID = tuple(range(-10, 5))  # In quarter decades.
EXTENSIONS = 3
COLLAPSED = 0.98
TOGETHER = 96  # Runs in a fleet: what fits in a cache.

SQUARE, TALL = Matrices(rows=60, columns=50), Matrices(rows=240, columns=50)
OTHERS = {"rank": (3, 9), "scale": (0.01, 100.0), "noise": (0.0, 0.3), "density": (0.3, 1.0)}
SETTINGS: dict[str, dict[str, Any]] = {
    "exact": {"draw": SQUARE, "batch_size": None, "ceiling": 0.95, "cap": inf},
    **{
        f"noise {noise:g}": {"draw": SQUARE, "batch_size": None, "noise": noise, "ceiling": 0.5, "cap": 0.5}
        for noise in (0.1, 0.5, 2.0)
    },
    **{f"batch {size}": {"draw": TALL, "batch_size": size, "ceiling": 0.5, "cap": 0.5} for size in (60, 12)},
}
"""By name, what the gradients are like, and how far the steps may go where they are limited."""

LIMITS = ("plain", "clipped", "bound")
"""What a rate counts and how it is limited: see `Factorisation.rates`."""

POLICIES: dict[str, Any] = {
    "constant": Constant(),
    "step": Step(milestones=(STEPS // 2, STEPS * 3 // 4)),
    "cosine": Cosine(steps=STEPS),
    "linear": Linear(steps=STEPS),
    "1/t": InverseTime(steps=STEPS // 10),
    "exponential": Exponential(factor=0.01 ** (1.0 / STEPS)),
    "greedy": Greedy(),
    "greedy, short": Greedy(window=10, patience=3),
    "hypergradient": Hypergradient(),
    "hypergradient +": Hypergradient(rule="additive"),
}

Key = tuple[str, str, str]


@dataclass
class Outcome:
    """What became of a grid of runs.

    Attributes:
        errors: Relative errors at the end, infinite for runs that failed; shape (rates, seeds).
        held_out: Relative errors of rows held out, with codes fitted to the parts; shape (rates, seeds).
        curve: Median over seeds of the relative error on the way, at `POINTS` steps; shape (rates, points).
        clipped: The share of the steps that were limited; shape (rates,).
    """

    errors: NDArray[np.float64]
    held_out: NDArray[np.float64]
    curve: NDArray[np.float64]
    clipped: NDArray[np.float64]


@dataclass
class Fleet:
    """Runs of one policy, at every rate from each of some seeds, advanced together."""

    problem: Factorisation
    policy: Any
    seeds: Sequence[int]
    rates: Sequence[float]
    paths: list[NDArray[np.float64]] = field(default_factory=list)

    def train(self) -> tuple[NDArray[np.float64], ...]:
        """Errors, held-out errors, errors on the way and whether steps were limited; all end in (rates, seeds)."""
        fleet, shape = self.problem.fleet(), (len(self.rates), len(self.seeds))
        runs, state = fleet.init([seed for _ in self.rates for seed in self.seeds]), self.policy.init()
        bases, clipped = np.repeat(self.rates, len(self.seeds)), np.zeros(shape[0] * shape[1])
        scale = np.sqrt(np.mean(runs.rows**2, axis=(-2, -1)))
        losses = []
        for _ in range(STEPS):
            runs, signals = fleet.step(runs, bases * state.scale)
            state = self.policy.update(state, **signals)
            losses.append(signals["loss"])
            clipped += np.nan_to_num(signals["clipped"])
        with np.errstate(over="ignore", invalid="ignore"):
            end = np.sqrt(np.mean((runs.codes @ runs.parts - runs.rows) ** 2, axis=(-2, -1))) / scale
            path = np.sqrt(losses) / scale
            held_out = np.sqrt(fleet.held_out(runs) / np.mean(runs.held_out**2, axis=(-2, -1)))
            failed = ~(end < COLLAPSED)
        errors, held_out = np.where(failed, inf, end), np.where(failed, inf, held_out)
        return errors.reshape(shape), held_out.reshape(shape), path.reshape(-1, *shape), clipped.reshape(shape) / STEPS


def train(problem: Factorisation, policy: Any, seeds: Sequence[int], rates: Sequence[float]) -> Outcome:
    """Every rate from every seed, some seeds at a time."""
    some = max(1, TOGETHER // len(rates))
    parts = [Fleet(problem, policy, seeds[at : at + some], rates).train() for at in range(0, len(seeds), some)]
    errors, held_out, paths, clipped = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    at = np.linspace(0, STEPS - 1, POINTS).round().astype(int)
    curve = np.median(np.where(np.isfinite(paths[at]), paths[at], inf), axis=-1).T
    return Outcome(errors, held_out, curve, clipped.mean(axis=-1))


def tune(problem: Factorisation, policy: Any) -> dict[float, list[float]]:
    """Errors by rate: the grid, and its extensions towards the best."""
    grid, tried = list(GRID), dict[int, list[float]]()
    for _ in range(EXTENSIONS + 1):
        errors = train(problem, policy, TUNING, [10.0 ** (place / 4.0) for place in grid]).errors
        tried |= dict(zip(grid, errors.tolist(), strict=True))
        best = min(sorted(tried), key=lambda place: _rank(tried[place]))
        if best not in {min(tried), max(tried)}:
            break
        grid = [best + move for move in ((-4, -3, -2, -1) if best == min(tried) else (1, 2, 3, 4))]
    return {10.0 ** (place / 4.0): tried[place] for place in sorted(tried)}


def _rank(errors: list[float]) -> float:
    return inf if inf in errors else float(np.median(errors))


def cell(key: Key) -> dict[str, Any]:
    """Tune and judge one schedule; the row that is kept."""
    setting, limits, name = key
    began, policy = perf_counter(), POLICIES[name]
    settings = {"rank": RANK, "rates": limits, **SETTINGS[setting]}
    problem = Factorisation("nmf", **settings)
    tuning = tune(problem, policy)
    rate = min(tuning, key=lambda rate: _rank(tuning[rate]))
    judged = train(problem, policy, JUDGING, [rate * factor for factor in FACTORS])
    shape = {"rows": 2 * settings["draw"].rows, "columns": 40}
    elsewhere = Factorisation("nmf", **{**settings, "draw": Matrices(**shape, **OTHERS)})
    tuned = FACTORS.index(1.0)
    return {
        "key": key,
        "tuning": [[_short(rate), *_shorts(errors)] for rate, errors in tuning.items()],
        "rate": _short(rate),
        "judged": [_shorts(errors) for errors in judged.errors],
        "held_out": _shorts(judged.held_out[tuned]),
        "elsewhere": _shorts(train(elsewhere, policy, JUDGING, [rate]).errors[0]),
        "curve": _shorts(judged.curve[tuned]),
        "clipped": _shorts(judged.clipped),
        "seconds": round(perf_counter() - began, 1),
    }


def _short(value: float) -> float | None:
    """Five digits are enough; None for infinity, which JSON does not have."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def _shorts(values: Any) -> list[float | None]:
    return [_short(value) for value in values]


def definition() -> dict[str, Any]:
    """What the rows depend on."""
    return {
        "steps": STEPS,
        "rank": RANK,
        "tuning": len(TUNING),
        "judging": len(JUDGING),
        "settings": repr(SETTINGS),
        "elsewhere": repr(OTHERS),
        "policies": repr(POLICIES),
        "revision": Factorisation.revision,
    }


def read() -> dict[Key, dict[str, Any]]:
    """The rows that are there already, by cell."""
    if not ROWS.exists():
        return {}
    first, *rows = map(json.loads, ROWS.read_text("utf-8").splitlines())
    if first != definition():
        raise SystemExit(f"{ROWS} holds the rows of another study; move it away, or undo what was changed in the definition")
    return {tuple(row["key"]): row for row in rows}


def fill(engine: Engine) -> None:
    """Train what is missing, and keep each cell as it is finished."""
    there = read()
    ROWS.parent.mkdir(exist_ok=True)
    missing = [
        key for setting in SETTINGS for limits in LIMITS for name in POLICIES if (key := (setting, limits, name)) not in there
    ]
    with ROWS.open("a", encoding="utf-8") as file:
        if not there:
            print(json.dumps(definition()), file=file, flush=True)
        for done, (key, row) in enumerate(perform(engine, cell, missing), start=1):
            print(json.dumps(row, separators=(",", ":")), file=file, flush=True)
            print(f"{done}/{len(missing)} {', '.join(key)}: {row['seconds']} s", flush=True)


def main() -> None:
    """Fill in the rows."""
    parser = argparse.ArgumentParser(description="Tune and judge schedules on noisy factorisations.")
    parser.add_argument("--engine", choices=ENGINES, default="local")
    parser.add_argument("--workers", type=int, default=0, help="processes, one thread each; 0 for one per core")
    told = parser.parse_args()
    with Running(kind=told.engine, workers=told.workers).engine() as engine:
        fill(engine)


if __name__ == "__main__":
    main()
