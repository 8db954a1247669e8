"""A fleet of factorisations, held against its runs."""

from __future__ import annotations

import copy
import functools
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from surefoot import Greedy
from surefoot.catalogue import problem
from surefoot.fleet import OneByOne
from surefoot.nmf import Factorisation, Matrices, Pieces, largest_eigenvalue
from surefoot.nmf.memory import per_run

OWN: dict[str, Any] = {"draw": Matrices(rows=30, columns=20, noise=(0.0, 0.3), rank=(2, 6)), "rank": 5}
MADE = {
    "exact": Factorisation("test", batch_size=None, **OWN),
    "minibatch": Factorisation("test", batch_size=7, **OWN),
    "oracle": Factorisation("test", batch_size=None, noise=0.5, rates="clipped", ceiling=0.5, **OWN),
    "both": Factorisation("test", batch_size=7, noise=0.5, **OWN),
    "plain": Factorisation("test", batch_size=None, noise=0.1, rates="plain", **OWN),
    "collatz": Factorisation("test", batch_size=7, eigenvalues="collatz", gradients=False, **OWN),
    "shared": problem("digits-nmf", array=functools.partial(np.asarray, dtype=np.float64)),
    "shared-exact": problem("digits-nmf", batch_size=None, array=functools.partial(np.asarray, dtype=np.float64)),
}
every_kind = pytest.mark.parametrize("made", MADE.values(), ids=list(MADE))
SEEDS, RATES = [3, 0, 3, 8], np.array([0.1, 0.5, 0.9, 0.3])


def steps(fleet: Any, runs: Any, rates: Any, count: int) -> list[Any]:
    return [fleet.step(runs, rates)[1] for _ in range(count)]


@every_kind
def test_a_fleet_equals_its_runs(made: Any) -> None:
    fleet, loop = made.fleet(), OneByOne(made)
    runs, others = fleet.init(SEEDS), loop.init(SEEDS)
    for _ in range(20):
        runs, signals = fleet.step(runs, RATES)
        others, expected = loop.step(others, RATES)
        assert list(signals) == list(expected)
        for name, values in signals.items():
            assert values.dtype == np.float64
            assert_allclose(values, expected[name], rtol=1e-12, atol=1e-12)
    assert_allclose(fleet.held_out(runs), loop.held_out(others), rtol=1e-12)


@every_kind
@pytest.mark.parametrize("array", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_a_run_that_is_not_finite_changes_no_bit_of_the_others(made: Any, array: Any) -> None:
    settings = {**vars(made), "array": functools.partial(array, dtype=(torch if array is torch.as_tensor else np).float64)}
    fleet = Factorisation(**settings).fleet()
    sound, spoilt = fleet.init(SEEDS), fleet.init(SEEDS)
    spoilt.parts[1, 0, 0] = np.nan
    spoilt.codes[2, 0, 0] = np.inf
    for _ in range(5):
        _, expected = fleet.step(sound, RATES)
        _, signals = fleet.step(spoilt, RATES)
        for name, values in signals.items():
            assert_array_equal(values[[0, 3]], expected[name][[0, 3]])
    assert_array_equal(spoilt.codes[0], sound.codes[0])
    assert_array_equal(spoilt.parts[3], sound.parts[3])
    assert spoilt.alive.tolist() == [True, False, False, True]
    assert np.isnan(np.asarray(signals["loss"])).tolist() == [False, True, True, False]
    assert np.isnan(np.asarray(fleet.held_out(spoilt))).tolist() == [False, True, True, False]


def test_a_run_that_diverges_is_frozen_and_marked() -> None:
    fleet = MADE["plain"].fleet()
    runs = fleet.init([0, 0])
    losses = np.array([signals["loss"] for signals in steps(fleet, runs, np.array([0.1, 50.0]), 60)])
    assert np.isfinite(losses[:, 0]).all()
    assert np.isnan(losses[-1, 1])
    assert runs.alive.tolist() == [True, False]
    before = copy.deepcopy(runs)
    fleet.step(runs, np.array([0.1, 0.1]))
    assert_array_equal(runs.parts[1], before.parts[1])


@every_kind
def test_restarted_runs_are_fresh_and_all_others_as_they_were(made: Any) -> None:
    fleet = made.fleet()
    runs, undisturbed, fresh = fleet.init(SEEDS), fleet.init(SEEDS), fleet.init([5, 3])
    steps(fleet, runs, RATES, 3), steps(fleet, undisturbed, RATES, 3)
    runs = fleet.restart(runs, places=[3, 0], seeds=[5, 3])
    for _ in range(4):
        _, signals = fleet.step(runs, RATES)
        _, expected = fleet.step(undisturbed, RATES)
        _, started = fleet.step(fresh, RATES[[3, 0]])
        for name, values in signals.items():
            assert_array_equal(values[[1, 2]], expected[name][[1, 2]])
            assert_allclose(values[[3, 0]], started[name], rtol=1e-12, atol=1e-12)


@every_kind
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)], ids=str)
def test_torch_equals_numpy(made: Any, dtype: Any, tolerance: float) -> None:
    there = Factorisation(**{**vars(made), "array": functools.partial(torch.as_tensor, dtype=dtype)}).fleet()
    fleet = made.fleet()
    runs, others = fleet.init(SEEDS), there.init(SEEDS)
    for expected, signals in zip(steps(fleet, runs, RATES, 10), steps(there, others, torch.tensor(RATES), 10), strict=True):
        assert signals["loss"].dtype == torch.float64
        for name in ("loss", "bound"):
            assert_allclose(signals[name], expected[name], rtol=tolerance)


@pytest.mark.parametrize("gradient", [{"batch_size": None}, {"batch_size": 16}, {"batch_size": None, "noise": 1.0}], ids=str)
@pytest.mark.parametrize("rates", ["bound", "clipped"])
def test_a_rate_set_a_thousandfold_wrong_makes_nothing_diverge(rates: Any, gradient: dict[str, Any]) -> None:
    made = Factorisation("test", draw=Matrices(noise=(0.0, 0.5)), rank=6, rates=rates, ceiling=0.5, **gradient).fleet()
    wrong = np.geomspace(1e-3, 1e3, 13)
    runs = made.init([seed for seed in range(10) for _ in wrong])
    losses = np.array([signals["loss"] for signals in steps(made, runs, np.tile(wrong, 10), 150)])
    assert runs.alive.all()
    assert (losses < 3.0 * losses[0]).all()


def test_with_exact_gradients_no_run_of_a_fleet_ever_goes_up() -> None:
    fleet, rates = MADE["exact"].fleet(), np.linspace(0.0, 1.0, 50)
    losses = np.array([signals["loss"] for signals in steps(fleet, fleet.init(range(50)), rates, 60)])
    assert (losses[1:] <= losses[:-1] * (1.0 + 1e-12)).all()


def test_greedy_drives_a_fleet() -> None:
    fleet, policy = MADE["oracle"].fleet(), Greedy(patience=2, window=5)
    runs, state = fleet.init(range(6)), policy.init()
    rates = np.full(6, fleet.base)
    for _ in range(40):
        runs, signals = fleet.step(runs, rates)
        state = policy.update(state, **signals)
        rates = fleet.base * state.scale
    assert len(set(rates.tolist())) > 1


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([0.1], "rates must be a vector with one entry for each of 2 runs"),
        ([0.1, -0.1], "rates must be finite and 0 or more, got -0.1 for run 1"),
        ([np.nan, 0.1], "rates must be finite and 0 or more, got nan for run 0"),
    ],
)
def test_wrong_rates_are_refused_in_a_sentence(rates: list[float], message: str) -> None:
    fleet = MADE["exact"].fleet()
    with pytest.raises(ValueError, match=message):
        fleet.step(fleet.init([0, 1]), rates)


def test_the_gram_kept_up_to_date_is_that_of_the_codes() -> None:
    fleet = MADE["minibatch"].fleet()
    runs = fleet.init(SEEDS)
    for _ in range(51):
        fleet.step(runs, RATES)
        assert_allclose(runs.gram, runs.codes.mT @ runs.codes, rtol=1e-12, atol=1e-12)
        assert_allclose(runs.lengths, np.sum(runs.codes**2, axis=-1), rtol=1e-12)


def test_collatz_takes_no_longer_steps_than_eigenvalues() -> None:
    edges = [made.init(0).codes_edge for made in (MADE["collatz"], MADE["minibatch"])]
    assert 0.9 < edges[0] / edges[1] <= 1.0 + 1e-12
    run = MADE["collatz"].init(0)
    _, signals = MADE["collatz"].step(run, 1.0)
    assert set(signals) == {"loss", "bound", "clipped"}
    assert run.parts_edge <= 2.0 / largest_eigenvalue(run.codes.T @ run.codes)


@every_kind
def test_a_fleet_that_does_not_fit_is_split_and_says_so(made: Any) -> None:
    kept, working = per_run(made)
    small, whole = made.fleet(capacity=int((4 * kept + 2.5 * working) / 0.7)), made.fleet()
    with pytest.warns(UserWarning, match="4 runs of .* do not fit on cpu at once: worked on 2 by 2"):
        runs = small.init(SEEDS)
    assert isinstance(runs, Pieces)
    with warnings.catch_warnings():
        others = whole.init(SEEDS)
    for restart in range(3):
        runs, others = (fleet.restart(some, [2, 0], [5, restart]) for fleet, some in ((small, runs), (whole, others)))
        awake = np.array([True, restart == 1, False, True])
        _, signals = small.step(runs, RATES, awake)
        _, expected = whole.step(others, RATES, awake)
        for name, values in signals.items():
            assert_allclose(values[awake], expected[name][awake], rtol=1e-12, atol=1e-12)
        _, signals = small.step(runs, RATES)
        assert_allclose(signals["loss"], whole.step(others, RATES)[1]["loss"], rtol=1e-12)
    assert_allclose(small.held_out(runs), whole.held_out(others), rtol=1e-12)


def test_a_fleet_whose_factors_do_not_fit_is_refused_with_the_number_that_would() -> None:
    message = r"1000 runs of test must find .* of memory, and there are .* on cpu \(train at most \d+ at once"
    with pytest.raises(MemoryError, match=message):
        MADE["minibatch"].fleet(capacity=2_000_000).init(range(1000))
    with pytest.raises(ValueError, match="capacity must be a whole number, 1 or more, got 0"):
        MADE["minibatch"].fleet(capacity=0)


@pytest.mark.parametrize("settings", [{"batch_size": None}, {"batch_size": 16}, {"batch_size": None, "noise": 0.1}], ids=str)
def test_memory_is_counted_as_it_is_taken(settings: dict[str, Any]) -> None:
    made = Factorisation("test", draw=Matrices(rows=200, columns=100), rank=10, **settings)
    made.step(made.init(0), 0.5)
    tracemalloc.start()
    fleet = made.fleet()
    runs = fleet.init(range(64))
    fleet.step(runs, np.full(64, 0.5))
    fleet.held_out(runs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.5 < peak / (64 * sum(per_run(made))) < 1.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_kind
def test_on_a_gpu_it_is_the_same(made: Any) -> None:
    there = Factorisation(**{**vars(made), "array": functools.partial(torch.as_tensor, dtype=torch.float64, device="cuda")})
    fleet, moved = made.fleet(), there.fleet()
    runs, others = fleet.init(SEEDS), moved.init(SEEDS)
    for expected, signals in zip(steps(fleet, runs, RATES, 10), steps(moved, others, RATES, 10), strict=True):
        for name, values in signals.items():
            assert_allclose(values.cpu(), expected[name], rtol=1e-8, atol=1e-9)


def test_what_counts_can_be_the_matrix_itself():
    problem = Factorisation("own", draw=Matrices(), rank=6, steps=20, measure="matrix")
    runs = problem.fleet().init([0, 1])
    residuals = runs.rows - runs.codes @ runs.parts
    expected = (residuals**2).sum((1, 2)) / (runs.rows**2).sum((1, 2))
    np.testing.assert_allclose(problem.fleet().held_out(runs), expected)
    assert problem.held_out(problem.init(1)) == pytest.approx(expected[1])
