"""This library's own optimizers in a fleet: each run as one alone."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from surefoot import data  # noqa: E402
from surefoot.hypergradient_descent import DIRECTIONS, GRANULARITIES, RULES, HypergradientDescent  # noqa: E402
from surefoot.models import perceptron  # noqa: E402
from surefoot.momo import MoMo  # noqa: E402
from surefoot.networks import Network  # noqa: E402

STEPS = {"multiplicative": 0.1, "additive": 1e-4}
RATES = {"adam": 3e-3, "adamw": 3e-3, "momentum": 0.02, "nesterov": 0.02, "sgd": 0.1}
HYPERGRADIENTS = {
    f"{direction}, {rule}, {per}": (RATES[direction], partial(HypergradientDescent, direction=direction, rule=rule, per=per))
    for direction, rule, per in product(DIRECTIONS, RULES, GRANULARITIES)
}
MOMOS = {
    f"MoMo, {direction}, {decay}, {least}, {estimate}": (
        rate,
        partial(MoMo, direction=direction, weight_decay=decay, lower_bound=least, estimate=estimate),
    )
    for (direction, rate), decay, least, estimate in product(
        [("sgd", 0.5), ("adam", 0.02)], [0.0, 0.01], [0.0, 0.1], [False, True]
    )
}
OWN = HYPERGRADIENTS | MOMOS
SOME = {name: OWN[name] for name in (*list(HYPERGRADIENTS)[::7], *list(MOMOS)[1::5])}


def made(rate, make, steps=30):
    if make.func is HypergradientDescent:
        make = partial(make, hyper_rate=STEPS[make.keywords["rule"]], weight_decay=0.01)
    return Network("mlp", "sgd", rate, steps, 16, data.digits, partial(perceptron, 64, (16,), 10), made=make)


def run(together, rates, steps, runs=None):
    runs, seen = together.init(range(len(rates))) if runs is None else runs, []
    for _ in range(steps):
        runs, signals = together.step(runs, rates)
        seen.append(signals["loss"].copy())
    return runs, np.array(seen)


@pytest.mark.parametrize("name", OWN)
def test_a_fleet_trains_each_run_as_one_alone(name):
    problem = made(*OWN[name])
    rates = problem.base * np.array([0.5, 1.0, 30.0 if "MoMo" in name else 1.5])
    _, seen = run(problem.fleet(), rates, 30)
    for seed, rate in enumerate(rates):
        alone, expected = problem.init(seed), []
        for _ in range(30):
            alone, signals = problem.step(alone, rate)
            expected.append(signals["loss"])
        np.testing.assert_allclose(seen[:, seed], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HYPERGRADIENTS)
def test_a_fleet_learns_its_rates(name):
    problem = made(*OWN[name])
    still = replace(problem, made=partial(problem.made, hyper_rate=0.0))
    rates = np.full(2, problem.base)
    assert not np.array_equal(run(problem.fleet(), rates, 10)[1], run(still.fleet(), rates, 10)[1])


@pytest.mark.parametrize("name", SOME)
def test_a_run_that_sits_out_is_left_as_it_is(name):
    problem = made(*SOME[name])
    together, rates = problem.fleet(), np.full(3, problem.base)
    runs, _ = run(together, rates, 3)
    _, expected = run(together, rates, 1, pickle.loads(pickle.dumps(runs)))  # noqa: S301 - our own
    runs, _ = together.step(runs, rates, awake=[True, False, True])
    _, found = run(together, rates, 1, runs)
    assert found[0, 1] == expected[0, 1]
    part = runs.parts[0]
    assert part.steps.tolist() == [5.0, 4.0, 5.0]


@pytest.mark.parametrize("name", SOME)
def test_a_run_begun_afresh_is_a_new_one(name):
    problem = made(*SOME[name])
    together, rates = problem.fleet(), np.full(3, problem.base)
    runs, _ = run(together, rates, 5)
    _, found = run(together, rates, 5, together.restart(runs, [1], [7]))
    _, expected = run(together, rates, 5, together.init([0, 7, 2]))
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-6)


def test_a_diverged_run_changes_no_bit_of_the_others():
    for own in SOME.values():
        problem = made(*own)
        together = problem.fleet()
        rates = np.full(3, problem.base)
        _, expected = run(together, rates, 8)
        runs = together.init(range(3))
        together._layouts[0].views(runs.parts[0].weights, 3)["0.weight"][1] = np.nan
        _, found = run(together, rates, 8, runs)
        assert np.isnan(found[:, 1]).all()
        assert np.array_equal(found[:, [0, 2]], expected[:, [0, 2]])
