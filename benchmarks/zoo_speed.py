"""How many decisions, of ten steps each, fleets of the networks that policies learn on take in per second of the processor.

The last line is that of all of them together, each with the same share of the decisions.

    python benchmarks/zoo_speed.py --runs 24
"""

from __future__ import annotations

import argparse
import os
from statistics import harmonic_mean
from time import process_time
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from surefoot import zoo

if TYPE_CHECKING:
    from surefoot.networks import Network

WINDOW = 10


def speed(problem: Network, runs: int, seconds: float, *, gradients: bool) -> float:
    """Decisions per second of the processor."""
    fleet, rates = problem.fleet(gradients=gradients), np.full(runs, 0.1 * problem.base)
    state, _ = fleet.step(fleet.init(range(runs)), rates)
    began, decisions = process_time(), 0
    while process_time() - began < seconds:
        for _ in range(WINDOW):
            state, _ = fleet.step(state, rates)
        decisions += runs
    return decisions / (process_time() - began)


def main() -> None:
    """Print a line for each problem, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=24, help="in a fleet (24)")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each problem and tier (0.4)")
    told = parser.parse_args()
    speeds = []
    print(f"{'problem':32} {'loss':>6} {'gradient':>8}")
    for problem in zoo.training():
        speeds.append([speed(problem, told.runs, told.seconds, gradients=gradients) for gradients in (False, True)])
        print(f"{problem.name:32} {speeds[-1][0]:6.0f} {speeds[-1][1]:8.0f}")
    loss, gradient = (harmonic_mean(tier) for tier in zip(*speeds, strict=True))
    print(f"{'all':32} {loss:6.0f} {gradient:8.0f}")


if __name__ == "__main__":
    main()
