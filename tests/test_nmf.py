"""The bound of the factorisation, held against runs."""

from __future__ import annotations

from functools import cache
from math import inf, isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import Clip, Greedy, train
from surefoot.lineup import LINEUP
from surefoot.nmf import Factorisation, Matrices, expected_smoothness, largest_eigenvalue


@cache
def rows(seed: int = 0, m: int = 60, n: int = 20, rank: int = 4, noise: float = 0.1) -> tuple[Any, Any]:
    """A noisy nonnegative matrix of low rank, with rows of very different lengths."""
    random = np.random.default_rng(seed)
    codes, parts = random.lognormal(0.0, 1.0, (m, rank)), random.gamma(0.5, size=(rank, n))
    matrix = codes @ parts + noise * random.random((m, n))
    return matrix[: m * 3 // 4], matrix[m * 3 // 4 :]


def objective(run: Any, matrix: Any) -> float:
    return float(np.sum((run.codes @ run.parts - matrix) ** 2))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rate=st.floats(0.0, 1.0),
    rank=st.integers(1, 8),
    power=st.integers(-8, 8),
    noise=st.sampled_from([0.0, 3.0]),
    cap=st.sampled_from([0.1, 1.0, inf]),
)
def test_with_exact_gradients_the_objective_never_goes_up(
    seed: int, rate: float, *, rank: int, power: int, noise: float, cap: float
) -> None:
    matrix = rows(seed, noise=noise)[0] * 10.0**power
    made = Factorisation("test", lambda: (matrix, matrix), rank=rank, batch_size=None, cap=cap)
    run = made.init(seed)
    for _ in range(40):
        before = objective(run, matrix)
        run, _ = made.step(run, rate)
        assert objective(run, matrix) <= before * (1.0 + 1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), rates=st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=5), size=st.integers(1, 45))
def test_no_rate_makes_it_diverge(seed: int, rates: list[float], size: int) -> None:
    matrix, others = rows(seed)
    made = Factorisation("test", lambda: (matrix, others), rank=4, batch_size=size)
    run = made.init(seed)
    start = objective(run, matrix)
    for step in range(150):
        run, signals = made.step(run, rates[step % len(rates)])
        assert isfinite(signals["loss"])
    assert objective(run, matrix) < 10.0 * start
    assert isfinite(made.held_out(run))


def test_rates_above_the_bound_are_taken_for_the_bound() -> None:
    made = Factorisation("test", rows, rank=4, batch_size=8)
    clipped, stable = made.init(0), made.init(0)
    for _ in range(20):
        assert made.step(clipped, 1000.0)[1] == made.step(stable, 1.0)[1] | {"clipped": 1.0}


@pytest.mark.parametrize("gradient", [{"batch_size": None}, {"batch_size": 8}, {"batch_size": None, "noise": 1.0}])
@pytest.mark.parametrize("name", LINEUP)
def test_any_policy_trains_it_unchanged(name: str, gradient: dict[str, Any]) -> None:
    made = Factorisation("test", draw=Matrices(), rank=6, steps=60, **gradient)
    losses = [row.loss for row in train(made, LINEUP[name](made.steps))]
    assert len(losses) == made.steps
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("noise", [0.03, 0.3, 3.0])
@pytest.mark.parametrize("policy", [Greedy(), Clip(Greedy(max_scale=1e6))], ids=repr)
def test_a_base_a_thousandfold_too_high_is_harmless_under_noise(policy: Any, noise: float) -> None:
    made = Factorisation("test", draw=Matrices(), rank=6, batch_size=None, noise=noise, ceiling=0.5, cap=0.5)
    for seed in range(5):
        losses = [row.loss for row in train(made, policy, base=500.0, steps=200, seed=seed)]
        assert max(losses) < 3.0 * losses[0]


def test_without_the_cap_fixed_noise_grows_without_limit() -> None:
    ends = []
    for cap in (0.5, inf):
        made = Factorisation("test", draw=Matrices(), rank=6, batch_size=None, noise=3.0, ceiling=0.5, cap=cap)
        ends.append(max([row.loss for row in train(made, LINEUP["constant"](200), seed=0)]))
    assert ends[0] < 1e2 < ends[1]


def test_without_clip_and_cap_a_rate_too_high_diverges() -> None:
    made = Factorisation("test", draw=Matrices(), rank=6, batch_size=None, rates="plain")
    assert not isfinite([row.loss for row in train(made, LINEUP["constant"](200), base=10.0, seed=0)][-1])


@pytest.mark.parametrize("rates", ["bound", "clipped", "plain"])
def test_the_first_step_is_the_same_whatever_a_rate_counts(rates: Any) -> None:
    made = Factorisation("test", rows, rank=4, batch_size=8, rates=rates)
    run, signals = made.step(made.init(0), 0.25)
    same, _ = Factorisation("test", rows, rank=4, batch_size=8).step(made.init(0), 0.25)
    np.testing.assert_allclose(run.parts, same.parts)
    assert signals["clipped"] == 0.0


def test_noise_is_of_the_size_it_is_said_to_be() -> None:
    exact, noisy = (Factorisation("test", rows, rank=4, batch_size=None, noise=noise) for noise in (0.0, 0.5))
    norm, sizes = np.linalg.norm(exact.init(0).codes.T @ (exact.init(0).codes @ exact.init(0).parts - rows()[0])), []
    for seed in range(200):
        run = noisy.init(0)
        run.streams.noise[0] = np.random.default_rng(seed)
        sizes.append(np.sum((run.parts_noise * run.streams.normal(run.parts.shape)) ** 2))
    assert np.mean(sizes) == pytest.approx((0.5 * norm) ** 2, rel=0.05)


def test_steps_are_aligned_where_they_are_small_and_not_where_they_are_noise() -> None:
    small, loud = (Factorisation("test", rows, rank=4, batch_size=None, noise=noise) for noise in (0.0, 100.0))
    for made, rate, low, high in ((small, 1e-3, 0.99, 1.0), (loud, 1e-9, -0.5, 0.5)):
        run, first = made.step(made.init(0), rate)
        assert first["alignment"] == 0.0
        assert low < made.step(run, rate)[1]["alignment"] <= high + 1e-12


def test_a_rate_above_the_bound_is_said_to_be_clipped() -> None:
    made = Factorisation("test", rows, rank=4, batch_size=8)
    assert [made.step(made.init(0), rate)[1]["clipped"] for rate in (0.5, 1.5)] == [0.0, 1.0]
    assert [made.step(made.init(0), rate)[1]["bound"] for rate in (0.5, 1.5)] == [0.5, 1.0]


def test_factors_stay_nonnegative() -> None:
    made = Factorisation("test", rows, rank=4, batch_size=8)
    run = made.init(0)
    for _ in range(50):
        run, _ = made.step(run, 1.0)
    assert run.codes.min() >= 0.0
    assert run.parts.min() >= 0.0


def test_expected_smoothness_is_what_sampling_gives() -> None:
    """With one row drawn it is m times the longest row's; with all, the curvature of the whole."""
    codes = rows()[0]
    curvature = largest_eigenvalue(codes.T @ codes)
    assert expected_smoothness(codes, len(codes)) == pytest.approx(curvature)
    assert expected_smoothness(codes, 1) == pytest.approx(len(codes) * np.max(np.sum(codes**2, axis=1)))
    between = [expected_smoothness(codes, size) for size in range(1, len(codes) + 1)]
    assert between == sorted(between, reverse=True)


def test_it_finds_the_parts_of_a_matrix_that_has_them() -> None:
    made = Factorisation("test", lambda: rows(noise=0.0), rank=4, batch_size=16)
    run = made.init(0)
    start = made.held_out(run)
    for _ in range(1500):
        run, _ = made.step(run, made.base)
    assert made.held_out(run) < 0.02 * start


def test_a_single_row_and_a_matrix_of_zeros_are_no_trouble() -> None:
    for matrix in (np.ones((1, 5)), np.zeros((4, 5))):
        made = Factorisation("test", lambda matrix=matrix: (matrix, matrix), rank=2)
        run = made.init(0)
        for _ in range(5):
            run, signals = made.step(run, 1.0)
            assert isfinite(signals["loss"])
        assert isfinite(made.held_out(run))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give exactly one of load"),
        ({"load": rows, "draw": Matrices()}, "give exactly one of load"),
        ({"load": rows, "noise": -1.0}, "noise must be finite and 0 or more, got -1.0"),
        ({"load": rows, "cap": 0.0}, "ceiling and cap must be above 0"),
        ({"load": rows, "ceiling": 1.5}, "ceiling must lie between 0 and 1, got 1.5"),
        ({"load": rows, "rates": "wild"}, "rates must be one of 'bound', 'clipped', 'plain', got 'wild'"),
        ({"load": rows, "batch_size": 0}, "batch_size must be a whole number, 1 or more, got 0"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Factorisation("test", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": (6, 5)}, "rank must be finite and 6 or more, got 5"),
        ({"rank": (0, 5)}, "rank must be above 0, got 0"),
        ({"scale": (0.0, 1.0)}, "scale must be above 0, got 0.0"),
        ({"density": (0.5, 1.5)}, "density must lie between 0.5 and 1, got 1.5"),
        ({"rows": 0}, "rows must be a whole number, 1 or more, got 0"),
    ],
)
def test_wrong_distributions_are_refused_in_a_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Matrices(**settings)


def test_random_matrices_are_those_of_their_seed_and_of_the_distribution() -> None:
    made = Matrices(rank=(2, 9), scale=(0.01, 100.0), noise=(0.0, 1.0), density=(0.1, 1.0))
    assert np.array_equal(made(7)[0], made(7)[0])
    drawn = [np.concatenate(made(seed)) for seed in range(200)]
    assert min(matrix.min() for matrix in drawn) == 0.0
    means = [matrix.mean() for matrix in drawn]
    assert 0.01 <= min(means) < 0.02
    assert 50.0 < max(means) <= 100.0
    clean = Matrices(rank=(2, 9), noise=(0.0, 0.0))
    assert {int(np.linalg.matrix_rank(clean(seed)[0])) for seed in range(100)} == set(range(2, 10))
