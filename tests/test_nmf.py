"""The bound of the factorisation, held against runs."""

from __future__ import annotations

from functools import cache
from math import isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.nmf import Factorisation
from surefoot.nmf.problem import _expected_smoothness, _largest_eigenvalue


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
    seed=st.integers(0, 1000), rate=st.floats(0.0, 1.0), rank=st.integers(1, 8), power=st.integers(-8, 8), loud=st.booleans()
)
def test_with_all_rows_in_the_batch_the_objective_never_goes_up(
    seed: int, rate: float, rank: int, power: int, loud: bool
) -> None:
    matrix = rows(seed, noise=3.0 * loud)[0] * 10.0**power
    made = Factorisation("test", lambda: (matrix, matrix), rank=rank, batch_size=len(matrix))
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
        assert made.step(clipped, 1000.0)[1] == made.step(stable, 1.0)[1]


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
    curvature = _largest_eigenvalue(codes.T @ codes)
    assert _expected_smoothness(codes, len(codes)) == pytest.approx(curvature)
    assert _expected_smoothness(codes, 1) == pytest.approx(len(codes) * np.max(np.sum(codes**2, axis=1)))
    between = [_expected_smoothness(codes, size) for size in range(1, len(codes) + 1)]
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
