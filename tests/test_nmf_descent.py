"""The parts that a factorisation by schedule is made of, each held against something slower and plainer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import nnls

from surefoot import Constant, Greedy
from surefoot.nmf.descent import Descent, Penalties
from surefoot.nmf.pilot import Limit, Noise, Pilot
from surefoot.nmf.quadratic import solve
from surefoot.nmf.rows import Rows
from surefoot.nmf.start import random_start, svd_start
from surefoot.nmf.watch import Watch

seeds = st.integers(0, 10_000)


def problem(seed, *, m=9, n=12, rank=4, missing=0.0):
    random = np.random.default_rng(seed)
    sizes = 10.0 ** random.uniform(-3, 3, (rank, 1))
    matrix, codes, parts = random.random((m, n)), random.random((m, rank)), sizes * random.random((rank, n))
    matrix[random.random((m, n)) < missing] = np.nan
    return Rows(matrix, missing > 0.0), codes, parts


def objective(rows, codes, parts):
    return 0.5 * np.nansum((codes @ parts - rows.matrix) ** 2)


def descent(rows, rank=3, policy=None, **changes):
    codes, parts = random_start(rows, rank, np.random.default_rng(0))
    return Descent(codes, parts, Pilot(policy), Limit(0.95), Limit(0.95), **changes)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, missing=st.sampled_from([0.0, 0.4]))
def test_the_quadratics_are_the_objective(seed, missing):
    rows, codes, parts = problem(seed, missing=missing)
    block = rows.block(0, 9)
    for quadratic, factor in ((block.for_codes(parts), codes), (block.for_parts(codes), parts.T)):
        assert quadratic.value(factor) + 0.5 * block.squares == pytest.approx(objective(rows, codes, parts), rel=1e-9)
    assert block.left(codes, parts) == pytest.approx(objective(rows, codes, parts))
    assert rows.left(codes, parts) == pytest.approx(objective(rows, codes, parts))


@settings(max_examples=30, deadline=None)
@given(seed=seeds, missing=st.sampled_from([0.0, 0.4]))
def test_the_gradients_are_those_of_the_residual(seed, missing):
    rows, codes, parts = problem(seed, missing=missing)
    residual = np.nan_to_num(codes @ parts - rows.matrix)
    block = rows.block(0, 9)
    assert np.allclose(block.for_codes(parts).gradient(codes), residual @ parts.T, atol=1e-6 * np.square(parts).sum())
    assert np.allclose(block.for_parts(codes).gradient(parts.T), residual.T @ codes, atol=1e-6 * parts.max())


@settings(max_examples=30, deadline=None)
@given(seed=seeds, missing=st.sampled_from([0.0, 0.4]))
def test_no_curvature_is_larger_than_its_bound(seed, missing):
    rows, _, parts = problem(seed, missing=missing)
    quadratic = rows.block(0, 9).for_codes(parts)
    assert (np.linalg.eigvalsh(quadratic.gram)[..., -1] <= quadratic.curvature() * (1 + 1e-12)).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, missing=st.sampled_from([0.0, 0.4]))
def test_codes_are_solved_as_by_an_active_set(seed, missing):
    rows, _, parts = problem(seed, missing=missing)
    codes = solve(rows.block(0, 9).for_codes(parts), tolerance=1e-10)
    for row, code in zip(rows.matrix, codes, strict=True):
        known = ~np.isnan(row)
        exact = nnls(parts[:, known].T, row[known])[0]
        left = [np.sum((found @ parts[:, known] - row[known]) ** 2) for found in (code, exact)]
        assert left[0] <= left[1] + 1e-6 * np.sum(row[known] ** 2)


def test_parts_that_are_the_same_are_no_trouble_for_the_solver():
    rows, _, parts = problem(0)
    twice = np.vstack([parts, parts, 0 * parts])
    once, again = (solve(rows.block(0, 9).for_codes(some), tolerance=1e-10) @ some for some in (parts, twice))
    assert np.allclose(once, again, atol=1e-5)


def test_penalties_are_added_to_the_objective():
    rows, codes, parts = problem(0)
    plain = rows.block(0, 9).for_codes(parts)
    penalised = plain.penalised(2.0, 3.0)
    cost = Penalties(codes_l1=2.0, codes_l2=3.0).of(codes, parts)
    assert cost == pytest.approx(2.0 * codes.sum() + 1.5 * np.sum(codes**2))
    assert penalised.value(codes) == pytest.approx(plain.value(codes) + cost)
    assert Penalties(parts_l1=2.0).of(codes, parts) == pytest.approx(9 * 2.0 * parts.sum())


@pytest.mark.parametrize("start", [random_start, svd_start])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_start_is_nonnegative_and_of_the_size_of_the_matrix(start, missing):
    rows = problem(3, m=50, n=40, missing=missing)[0]
    codes, parts = start(rows, 5, np.random.default_rng(0))
    assert (codes > 0.0).all()
    assert (parts > 0.0).all()
    assert 0.3 < np.mean(codes @ parts) / np.nanmean(rows.matrix) < 3.0


def test_a_start_from_singular_vectors_is_better_than_chance_and_the_same_for_sparse():
    random = np.random.default_rng(0)
    rows = Rows(random.gamma(0.3, size=(50, 3)) @ random.gamma(0.3, size=(3, 40)))
    lucky, better = (start(rows, 3, np.random.default_rng(0)) for start in (random_start, svd_start))
    assert rows.left(*better) < rows.left(*lucky)
    thin = svd_start(Rows(sparse.csr_array(rows.matrix)), 3, np.random.default_rng(0))
    assert all(np.allclose(*pair) for pair in zip(better, thin, strict=True))


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_what_is_left_is_right_to_many_digits(kind):
    random = np.random.default_rng(0)
    codes, parts = random.random((30, 3)), random.random((3, 20))
    rest = 1e-9 * random.random((30, 20))
    assert Rows(kind(codes @ parts + rest)).left(codes, parts) == pytest.approx(0.5 * np.sum(rest**2), rel=1e-5)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("policy", [None, Constant(), Constant(1e9), Greedy(window=3)], ids=repr)
def test_a_sweep_never_raises_the_objective(policy, missing):
    rows = problem(4, m=40, n=30, missing=missing)[0]
    run = descent(rows, policy=policy)
    losses = [run.sweep(rows) for _ in range(30)]
    assert (np.diff(losses) <= 1e-13).all()
    assert losses[-1] == pytest.approx(2.0 * objective(rows, run.codes, run.parts) / rows.squares, rel=1e-9)
    assert run.pilot.losses == losses


def test_a_sweep_without_noise_and_with_noise_of_size_zero_agree():
    rows = problem(4, m=40, n=30)[0]
    noise = [Noise(0.0, np.random.default_rng(0)) for _ in range(2)]
    silent = descent(rows, policy=Constant(), codes_noise=noise[0], parts_noise=noise[1])
    losses = [silent.sweep(rows) for _ in range(30)]
    assert (np.diff(losses) <= 1e-13).all()


def test_the_size_of_the_noise_is_a_multiple_of_the_first_gradient():
    oracle = Noise(0.5, np.random.default_rng(0))
    gradient = np.full((300, 300), 4.0)
    assert np.std(oracle.draw(gradient)) == pytest.approx(2.0, rel=0.02)
    assert np.std(oracle.draw(0.0 * gradient)) == pytest.approx(2.0, rel=0.02)


def test_a_limit_clips_at_the_edge_of_the_moment_and_caps_at_the_first():
    limit = Limit(0.5, is_capped=True)
    assert limit.rates(np.asarray(2.0), 3.0) == (0.5, 0.5, True)
    assert limit.rates(np.asarray(8.0), 1.0) == (0.125, 0.125, False)
    assert limit.rates(np.asarray(0.5), 0.2) == (pytest.approx(0.4), 0.5, False)
    assert limit.rates(np.asarray(0.5), 0.3) == (0.5, 0.5, True)


def test_a_limit_with_a_memory_knows_the_largest_curvature_of_late():
    limit = Limit(0.5, remembers=True)
    bounds = [float(limit.rates(np.asarray(curvature), 1.0)[1]) for curvature in (2.0, 10.0, 2.0)]
    assert bounds == pytest.approx([0.5, 0.1, 1.0 / 9.99])


def test_a_flat_first_step_sets_no_cap():
    limit = Limit(0.5, is_capped=True, remembers=True)
    assert limit.rates(np.asarray(0.0), 1.0)[:2] == (0.0, 0.0)
    assert limit.rates(np.asarray(2.0), 1.0)[:2] == (0.5, 0.5)


def test_a_watch_ends_at_a_lull_and_not_at_one_slow_pass():
    rows = problem(4)[0]
    run = descent(rows)
    watch = Watch(tolerance=0.01)
    losses = [1.0, 0.8, 0.79999, 0.6, 0.4, 0.3, 0.2999, 0.2999, 0.2999, 0.2999, 0.2999]
    assert [watch.is_over(run, loss) for loss in losses].index(True) == 10


def test_a_watch_brings_the_best_factors_back():
    rows = problem(4)[0]
    run = descent(rows)
    watch = Watch(keeps=True)
    watch.begin(run, 1.0)
    best = run.parts.copy()
    run.parts = run.parts * np.nan
    assert watch.is_over(run, np.nan)
    assert np.array_equal(run.parts, best)
    assert "diverged, from a loss of 1 to nan" in watch.trouble
