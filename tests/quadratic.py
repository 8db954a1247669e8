"""A test problem, and no more than that: a noisy quadratic whose optimum is 0 and whose stability edge is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EDGE = 2.0 / 4.0
"""With a largest curvature of 4, what lies above diverges."""


@dataclass
class Descent:
    x: np.ndarray
    move: np.ndarray
    random: np.random.Generator


@dataclass(frozen=True)
class Quadratic:
    """Half the sum of curvature times square, 1 and 4 being the curvatures; rates count from `base`, a fifth of the edge."""

    name: str = "quadratic"
    optimizer: str = "sgd"
    base: float = EDGE / 5.0
    steps: int = 43
    revision: int = 1
    noise: float = 0.1

    def init(self, seed):
        random = np.random.default_rng(seed)
        return Descent(random.uniform(1.0, 2.0, 2), np.zeros(2), random)

    def step(self, run, rate):
        curvatures = np.array([1.0, 4.0])
        gradient = curvatures * run.x + self.noise * run.random.standard_normal(2)
        with np.errstate(over="ignore", invalid="ignore"):
            loss, move = 0.5 * curvatures @ run.x**2 + 0.01, -rate * gradient
            lengths = np.linalg.norm(move) * np.linalg.norm(run.move) or 1.0
            alignment, relative = move @ run.move / lengths, np.linalg.norm(move) / np.linalg.norm(run.x)
            run.x, run.move = run.x + move, move
        return run, {"loss": loss, "alignment": alignment, "relative_step": relative, "bound": rate / EDGE}

    def held_out(self, run):
        return float(0.5 * np.array([1.0, 4.0]) @ run.x**2 + 0.01)
