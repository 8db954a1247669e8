"""A run that sits out a step is left as it is, and goes on as if there had been none."""

from __future__ import annotations

import numpy as np
import pytest

from quadratic import Quadratic
from surefoot.fleet import fleet
from surefoot.tasks import random_factorisations

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from surefoot.networks import network  # noqa: E402

STEPS = 9
PROBLEMS = {
    "one-by-one": Quadratic,
    "nmf": random_factorisations,
    "nmf-noise": lambda: random_factorisations(noise=0.3, batch_size=None),
    "sgd": lambda: network("wine-mlp"),
    "adamw": lambda: network("wine-mlp", "adamw", batch_size=100),
    "watched": lambda: network("wine-mlp", "adam").fleet(gradients=True, at_once=2),
    "batch-norm": lambda: network("wine-mlp", model=normalised),
}
every_fleet = pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)


def normalised():
    nn = torch.nn
    return nn.Sequential(nn.Linear(13, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def losses(problem, seeds, awake):
    """What is measured in those steps that each run makes, and its held-out loss at the end."""
    made = fleet(problem)
    runs, seen, rates = made.init(seeds), [[] for _ in seeds], np.full(len(seeds), made.base)
    for some in awake:
        runs, signals = made.step(runs, rates, None if all(some) else np.array(some))
        for place in np.flatnonzero(some):
            seen[place].append([float(signal[place]) for signal in signals.values()])
    return [[*own, last] for own, last in zip(seen, made.held_out(runs).tolist(), strict=True)]


def naps(runs, seed):
    """For each run, in which of twice as many steps it makes its own."""
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(np.arange(2 * STEPS) < STEPS) for _ in range(runs)], axis=1)


@every_fleet
def test_naps_change_no_loss(make):
    seeds = [3, 4, 5]
    expected = losses(make(), seeds, [[True] * 3] * STEPS)
    assert losses(make(), seeds, naps(3, seed=0)) == expected


@every_fleet
def test_runs_of_one_seed_can_nap_at_different_times(make):
    seeds = [3, 3, 3]
    expected = losses(make(), seeds, [[True] * 3] * STEPS)
    assert losses(make(), seeds, naps(3, seed=1)) == expected


@every_fleet
def test_a_run_can_begin_afresh_between_naps(make):
    made = fleet(make())
    runs, awake = made.init([3, 4]), np.array([True, False])
    rates = np.full(2, made.base)
    for _ in range(5):
        runs, _ = made.step(runs, rates, awake)
    runs = made.restart(runs, [0], [6])
    later = [np.transpose(list(made.step(runs, rates)[1].values())).tolist() for _ in range(STEPS)]
    fresh = losses(make(), [6, 4], [[True] * 2] * STEPS)
    assert [list(own) for own in zip(*later, strict=True)] == [own[:-1] for own in fresh]
