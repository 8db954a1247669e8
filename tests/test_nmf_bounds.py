"""The bounds of the factorisation: laws of what is proved, and counterexamples to what is not."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import inf, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import nmf
from surefoot.nmf import eigenvalues
from surefoot.nmf.single import single

seeds = st.integers(0, 2**32 - 1)
methods = st.sampled_from(["eigen", "collatz"])
few = settings(max_examples=60)
NUMBERS = (
    "block",
    "collatz",
    "cauchy",
    "feasible",
    "noisy",
    "segment",
    "stable",
    "best",
    "smoothness",
    "row",
    "masked",
    "a_priori",
)


def positive(x):
    return np.maximum(x, 0.0)


def objective(matrix, codes, parts, weights=1.0):
    return 0.5 * np.sum((weights * (codes @ parts - matrix)) ** 2)


def problem(seed, *, fleet=(), largest=12):
    """A matrix of any kind and unit, and factors of any scale and imbalance, some of them with components of zeros."""
    random = np.random.default_rng(seed)
    m, n, r = (int(size) for size in random.integers(1, largest, 3))
    matrix = random.gamma(0.5, size=(*fleet, m, r)) @ random.gamma(0.5, size=(*fleet, r, n))
    matrix = positive(matrix + random.choice([0.0, 0.3, 3.0]) * random.standard_normal((*fleet, m, n)))
    matrix *= np.exp(random.choice([0.0, 1.5]) * random.standard_normal((*fleet, m, 1)))
    codes, parts = random.random((*fleet, m, r)) ** 2, random.random((*fleet, r, n)) ** 2
    unit, size, tilt = 10.0 ** random.uniform(-3, 3), 10.0 ** random.uniform(-1, 1), 10.0 ** random.uniform(-1.5, 1.5)
    if random.random() < 0.2:
        codes[..., 0] = 0.0
    return unit * matrix, np.sqrt(unit) * size * tilt * codes, np.sqrt(unit) / tilt * parts


def gradients(matrix, codes, parts):
    residual = codes @ parts - matrix
    return residual @ np.swapaxes(parts, -1, -2), np.swapaxes(codes, -1, -2) @ residual


def rises(after, before, size):
    """Beyond what rounding does to an objective that was computed from terms of this size."""
    return after > before + 1e-12 * (before + size)


SHARP = {"stable": 1e-6, "best": 1e-6}
"""Roots of a polynomial are less well-conditioned than its coefficients."""


def everything(matrix, codes, parts, *, xp=np):
    """All bounds at one point, by name."""
    across = np.swapaxes if xp is np else torch.transpose
    residual = codes @ parts - matrix
    gram, along, down = parts @ across(parts, -1, -2), residual @ across(parts, -1, -2), across(codes, -1, -2) @ residual
    norm, length = (xp.sqrt((x * x).sum((-1, -2))) for x in (residual, matrix))
    direction = nmf.feasible_direction(codes, along, 2.0 * nmf.block_edge(gram))
    line = nmf.quartic(
        codes, parts, along, down, codes_gradient=along, parts_gradient=down, products=matrix @ across(down, -1, -2)
    )
    weights = matrix > matrix.mean()
    values = (
        nmf.block_edge(gram),
        nmf.block_edge(gram, method="collatz"),
        nmf.cauchy_edge(along, gram),
        nmf.feasible_edge(along, direction, gram),
        nmf.noisy_edge(along, gram, norm**2),
        nmf.segment_edge(codes, parts, along, down, norm),
        line.largest_stable_step(),
        line.best_step(),
        nmf.expected_smoothness(codes, 1),
        nmf.row_edges(parts, weights, method="collatz")[..., 0],
        nmf.masked_edge(parts, weights, probability=0.5),
        nmf.a_priori_edge(length, norm**2 / 2, codes.shape[-1]),
    )
    return dict(zip(NUMBERS, values, strict=True))


# What is proved: nothing rises below an edge.


@few
@given(seeds, methods, st.floats(0.0, 1.0))
def test_a_projected_step_below_the_block_edge_never_raises_the_objective(seed, method, scale):
    matrix, codes, parts = problem(seed)
    size = np.sum(matrix**2)
    for _ in range(8):
        for _ in "WH":
            before, gram = objective(matrix, codes, parts), parts @ parts.T
            rate = nmf.limited(scale, nmf.block_edge(gram, method=method), 1e300)
            codes = positive(codes - rate * gradients(matrix, codes, parts)[0])
            assert not rises(objective(matrix, codes, parts), before, size)
            matrix, codes, parts = matrix.T, parts.T, codes.T


@few
@given(seeds)
def test_a_projected_step_lowers_the_objective_by_what_proposition_1_says(seed):
    matrix, codes, parts = problem(seed)
    before, gram = objective(matrix, codes, parts), parts @ parts.T
    edge = nmf.block_edge(gram)
    if edge < inf:
        rate = 0.7 * edge
        after = positive(codes - rate * gradients(matrix, codes, parts)[0])
        promised = (1.0 / rate - 1.0 / edge) * np.sum((after - codes) ** 2)
        assert not rises(objective(matrix, after, parts), before - promised, before + np.sum(matrix**2))


@few
@given(seeds, st.floats(0.01, 10.0))
def test_a_ridge_counts_as_curvature(seed, alpha):
    matrix, codes, parts = problem(seed)
    ridge = alpha * np.sum(parts**2) + 1e-9
    slope = gradients(matrix, codes, parts)[0] + ridge * codes
    after = positive(codes - nmf.block_edge(parts @ parts.T, ridge=ridge) * slope)
    before, then = (objective(matrix, x, parts) + 0.5 * ridge * np.sum(x**2) for x in (codes, after))
    assert not rises(then, before, np.sum(matrix**2))


@few
@given(seeds)
def test_the_cauchy_edge_is_exact_without_projection_and_never_below_the_block_edge(seed):
    matrix, codes, parts = problem(seed)
    slope, gram = gradients(matrix, codes, parts)[0], parts @ parts.T
    edge = nmf.cauchy_edge(slope, gram)
    assert edge >= nmf.block_edge(gram) * (1.0 - 1e-12)
    if edge < inf:
        below, above = (
            -x * np.sum(slope**2) + 0.5 * x**2 * np.sum((slope @ parts) ** 2) for x in (0.999999 * edge, 1.000001 * edge)
        )
        assert below < 0.0 < above


@few
@given(seeds, st.floats(0.1, 1e4))
def test_a_feasible_step_below_its_edge_is_nonnegative_and_lowers_the_objective(seed, reach):
    matrix, codes, parts = problem(seed)
    slope, gram = gradients(matrix, codes, parts)[0], parts @ parts.T
    direction = nmf.feasible_direction(codes, slope, nmf.limited(reach, nmf.block_edge(gram), 1e300))
    edge = nmf.feasible_edge(slope, direction, gram)
    assert 0.0 <= edge <= 1.0
    after = codes - 0.999 * edge * direction
    assert after.min() >= 0.0
    assert not rises(objective(matrix, after, parts), objective(matrix, codes, parts), np.sum(matrix**2))


@few
@given(seeds, st.floats(0.05, 0.95), methods, st.sampled_from(["rows", "global", "plain"]), st.booleans())
def test_masked_and_weighted_steps_never_raise_their_objective(seed, share, method, kind, binary):
    matrix, codes, parts = problem(seed)
    random = np.random.default_rng(seed)
    weights = random.random(matrix.shape)
    weights = (weights < share).astype(float) if binary else weights
    edge = {
        "rows": lambda: nmf.row_edges(parts, weights, method=method)[:, None],
        "global": lambda: nmf.masked_edge(parts, weights, method=method),
        "plain": lambda: nmf.block_edge(parts @ parts.T, method=method),
    }[kind]()
    slope = (weights**2 * (codes @ parts - matrix)) @ parts.T
    after = positive(codes - nmf.limited(0.999, edge, 1e300) * slope)
    assert not rises(objective(matrix, after, parts, weights), objective(matrix, codes, parts, weights), np.sum(matrix**2))


@few
@given(seeds, st.floats(0.05, 1.0))
def test_a_draw_of_entries_is_no_more_curved_than_its_probability_allows(seed, probability):
    matrix, _, parts = problem(seed)
    random = np.random.default_rng(seed)
    weights, drawn = random.random(matrix.shape), random.random(matrix.shape) < probability
    edge = nmf.masked_edge(parts, weights, probability=probability)
    assert edge <= np.min(nmf.row_edges(parts, weights * drawn / np.sqrt(probability))) * (1.0 + 1e-12)


@few
@given(seeds, st.booleans(), st.floats(0.1, 1.0))
def test_a_joint_step_at_the_segment_edge_never_raises_the_objective(seed, projected, safety):
    matrix, codes, parts = problem(seed)
    project = positive if projected else np.asarray
    for _ in range(5):
        before, (along, down) = objective(matrix, codes, parts), gradients(matrix, codes, parts)
        rate = nmf.segment_edge(
            codes, parts, along, down, np.sqrt(2.0 * before) if projected else 1.0001 * np.sqrt(2.0 * before)
        )
        rate *= safety
        codes, parts = project(codes - rate * along), project(parts - rate * down)
        assert not rises(objective(matrix, codes, parts), before, np.sum(matrix**2))


def test_a_smaller_safety_makes_a_smaller_segment_edge():
    matrix, codes, parts = problem(3)
    point = (codes, parts, *gradients(matrix, codes, parts), np.linalg.norm(codes @ parts - matrix))
    edges = [float(nmf.segment_edge(*point, safety=safety)) for safety in (0.25, 0.5, 1.0)]
    assert edges == sorted(edges)
    assert edges[0] >= 0.25 * edges[2] * (1 - 1e-9)


@few
@given(seeds, st.booleans())
def test_the_quartic_is_the_objective_along_the_line_and_its_first_root_is_sharp(seed, feasible):
    matrix, codes, parts = problem(seed)
    along, down = gradients(matrix, codes, parts)
    one, other = along, down
    if feasible:
        one = nmf.feasible_direction(codes, along, nmf.limited(1.0, nmf.block_edge(parts @ parts.T), 1e300))
        other = nmf.feasible_direction(parts, down, nmf.limited(1.0, nmf.block_edge(codes.T @ codes), 1e300))
    line = nmf.quartic(codes, parts, one, other, codes_gradient=along, parts_gradient=down, products=matrix @ other.T)
    before, edge, best = objective(matrix, codes, parts), line.largest_stable_step(), line.best_step()
    if not 0.0 < edge < 1e300:
        return
    for share in (0.1, 0.5, 0.99, 1.01, 1.5):
        step = share * edge
        after = objective(matrix, codes - step * one, parts - step * other)
        size = np.sum((step**2 * one @ other) ** 2) + np.sum(matrix**2) + before
        assert abs(after - before - line.change(step)) <= 1e-11 * size
    assert line.change(edge * (1.0 - 1e-9)) < 0.0 < line.change(edge * (1.0 + 1e-9))
    assert line.change(best) <= min(line.change(share * edge) for share in np.linspace(0.01, 3.0, 300)) * (1.0 - 1e-12)


@settings(max_examples=200)
@given(st.lists(st.floats(0.0, 10.0), min_size=3, max_size=3), st.floats(0.01, 100.0))
def test_roots_are_found_wherever_they_are(roots, lead):
    roots = sorted(root + 0.01 for root in roots)
    cube, square, slope, constant = lead * np.poly(roots)
    line = nmf.Quartic(*(np.float64(value) for value in (constant, slope, square, cube)))
    step = line.largest_stable_step()
    assert np.polyval([cube, square, slope, constant], step) <= 1e-9 * abs(constant)
    assert step <= roots[0] * (1 + 1e-4) or np.polyval([cube, square, slope, constant], roots[0] * 1.001) <= 1e-4 * abs(
        constant
    )
    assert step >= roots[0] * (1 - 1e-4)


def test_a_quartic_knows_its_limit_and_its_uphill_directions():
    line = nmf.Quartic(*(np.float64(value) for value in (-1.0, 0.25, 0.0, 0.0)))
    assert line.largest_stable_step() == pytest.approx(4.0)
    assert line.best_step() == pytest.approx(2.0)
    assert (line.largest_stable_step(limit=1.0), line.best_step(limit=1.0)) == (1.0, 1.0)
    uphill = nmf.Quartic(*(np.float64(value) for value in (1.0, 1.0, 0.0, 0.0)))
    assert (uphill.largest_stable_step(), uphill.best_step()) == (0.0, 0.0)


@few
@given(seeds)
def test_the_a_priori_edge_is_below_every_later_edge_of_a_balanced_run(seed):
    matrix, codes, parts = problem(seed)
    before = objective(matrix, codes, parts)
    edge = nmf.a_priori_edge(np.linalg.norm(matrix), before, codes.shape[1])
    for _ in range(30):
        codes, parts = nmf.balance(codes, parts)
        assert edge <= nmf.block_edge(parts @ parts.T) * (1.0 + 1e-12) or not np.any(codes @ parts)
        if not np.any(codes @ parts):
            return
        codes = positive(codes - 0.999 * edge * gradients(matrix, codes, parts)[0])
        after = objective(matrix, codes, parts)
        assert not rises(after, before, np.sum(matrix**2))
        before, matrix, codes, parts = after, matrix.T, parts.T, codes.T


@few
@given(seeds)
def test_balancing_equals_lengths_and_keeps_the_product(seed):
    _, codes, parts = problem(seed)
    one, other = nmf.balance(codes, parts)
    assert np.allclose(one @ other, codes @ parts, rtol=1e-12, atol=0.0)
    lengths = np.linalg.norm(one, axis=0), np.linalg.norm(other, axis=1)
    alive = (lengths[0] > 0) & (lengths[1] > 0)
    assert np.allclose(lengths[0][alive], lengths[1][alive], rtol=1e-12)
    if alive.any():
        assert np.all(np.sum(lengths[1] ** 2) <= np.sqrt(len(alive)) * np.linalg.norm(one @ other) * (1 + 1e-12))


# Cheap and certified.


@given(seeds, st.integers(1, 6), st.sampled_from([np.float32, np.float64]))
def test_the_certified_bound_is_never_below_the_eigenvalue_nor_far_above(seed, sweeps, dtype):
    random = np.random.default_rng(seed)
    factor = random.gamma(0.3, size=random.integers(1, 20, 2)) * 10.0 ** random.uniform(-6, 6)
    gram = (factor @ factor.T).astype(dtype)
    true = np.linalg.eigvalsh(gram.astype(np.float64))[-1] * (1.0 - 1e-14 * len(gram))
    bound = nmf.largest_eigenvalue(gram, method="collatz", sweeps=sweeps)
    assert true <= bound <= true * np.sqrt(len(gram)) * (1.0 + 1e-4)
    assert true <= nmf.largest_eigenvalue(gram) <= true * (1.0 + 1e-6)


@given(seeds)
def test_more_sweeps_never_loosen_the_certified_bound(seed):
    _, codes, _ = problem(seed)
    bounds = [nmf.largest_eigenvalue(codes.T @ codes, method="collatz", sweeps=sweeps) for sweeps in range(1, 8)]
    assert all(after <= before * (1.0 + 1e-12) for before, after in pairwise(bounds))


@given(seeds)
def test_the_certified_bound_holds_for_signed_matrices_as_well(seed):
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((5, 5))
    matrix = matrix + matrix.T
    assert nmf.largest_eigenvalue(matrix, method="collatz") >= np.linalg.eigvalsh(matrix)[-1]


@given(seeds, methods, st.integers(1, 6), st.sampled_from([np.float32, np.float64]))
def test_the_fast_twin_and_the_general_way_agree(seed, method, sweeps, dtype):
    random = np.random.default_rng(seed)
    factor = random.gamma(0.3, size=random.integers(1, 12, 2)) * 10.0 ** random.uniform(-12, 12)
    gram = (factor @ factor.T).astype(dtype)
    twin, general = single(gram, method, sweeps), eigenvalues.bounded(gram, method, sweeps)
    assert twin is None or twin == pytest.approx(float(general), rel=1e-5 if dtype == np.float32 else 1e-13, abs=0.0)
    assert twin is not None or sweeps > 4 or not gram.any()


@pytest.mark.parametrize("method", ["eigen", "collatz"])
def test_a_float32_edge_is_rounded_down(method):
    random = np.random.default_rng(0)
    for _ in range(200):
        factor = random.random((4, 9))
        gram = (factor @ factor.T).astype(np.float32)
        true = 2.0 / np.linalg.eigvalsh(gram.astype(np.float64))[-1]
        for found in (nmf.block_edge(gram, method=method), nmf.block_edge(np.stack([gram, gram]), method=method)[0]):
            assert found.dtype == np.float32
            assert float(found) <= true


# Noise.


@few
@given(seeds)
def test_the_noisy_edge_is_where_the_expected_change_is_zero(seed):
    """Over noise that takes two opposite values, the expectation is a sum of two terms."""
    matrix, codes, parts = problem(seed)
    slope, gram = gradients(matrix, codes, parts)[0], parts @ parts.T
    noise = np.random.default_rng(seed).standard_normal(slope.shape) * np.sqrt(np.mean(slope**2))
    edge = nmf.noisy_edge(slope, gram, np.sum((noise @ parts) ** 2))
    if not 0.0 < edge < inf:
        return
    bound = nmf.snr_edge(nmf.largest_eigenvalue(gram), np.sum(slope**2), np.sum(noise**2))
    assert bound <= edge * (1.0 + 1e-12)

    def expected(rate):
        steps = [rate * (slope + sign * noise) for sign in (1.0, -1.0)]
        return sum(0.5 * np.sum((step @ parts) ** 2) - np.sum(step * slope) for step in steps) / 2.0

    assert expected(0.999 * edge) < 0.0 < expected(1.001 * edge)


def test_the_snr_edge_knows_its_ends():
    assert nmf.snr_edge(2.0, 5.0, 0.0) == 1.0
    assert nmf.snr_edge(2.0, 0.0, 0.0) == 1.0
    assert nmf.snr_edge(2.0, 0.0, 1.0) == 0.0
    assert nmf.snr_edge(0.0, 1.0, 0.0) == inf


def test_two_halves_are_unbiased():
    """Against a slow twin, the expectation over all pairs of draws from a list of gradients."""
    random = np.random.default_rng(0)
    draws = [random.standard_normal((3, 2)) + 1.0 for _ in range(6)]
    mean = np.mean(draws, axis=0)
    halves = nmf.TwoHalves(decay=0.0)
    states = [halves.update(halves.init(), one, other) for one in draws for other in draws]
    variance = np.mean([np.sum((one - mean) ** 2) for one in draws]) / 2.0
    assert np.mean([state.agreement for state in states]) == pytest.approx(np.sum(mean**2))
    assert np.mean([state.power for state in states]) == pytest.approx(np.sum(mean**2) + variance)


def test_two_halves_find_the_share_of_signal():
    random = np.random.default_rng(1)
    halves, signal = nmf.TwoHalves(decay=0.999), np.ones((10, 10))
    state = halves.init()
    assert state.fraction == 1.0
    for _ in range(5000):
        state = halves.update(state, *(signal + 2.0 * random.standard_normal((2, 10, 10))))
    assert state.fraction == pytest.approx(1.0 / 3.0, abs=0.01)


@given(seeds, st.floats(0.0, 0.99))
def test_a_fraction_is_a_fraction(seed, decay):
    random = np.random.default_rng(seed)
    halves = nmf.TwoHalves(decay=decay)
    state = halves.init()
    for _ in range(5):
        state = halves.update(state, *random.standard_normal((2, 4, 3, 2)))
        assert np.all((state.fraction >= 0.0) & (state.fraction <= 1.0))


def test_a_gradient_that_is_not_finite_is_forgotten_by_its_run_alone():
    halves, good = nmf.TwoHalves(), np.ones((2, 1, 1))
    first = halves.update(halves.init(), good, good)
    bad = good.copy()
    bad[1] = nan
    second = halves.update(first, bad, good)
    assert second.power[1] == first.power[1]
    assert second.power[0] > first.power[0]


# Minibatches.


@settings(max_examples=40)
@given(seeds, st.integers(2, 6), st.data())
def test_expected_smoothness_bounds_the_mean_square_over_all_batches(seed, m, data):
    """With rows of one length, and the top direction for the error, it is the mean square."""
    size = data.draw(st.integers(1, m))
    random = np.random.default_rng(seed)
    codes = random.random((m, 3)) + 0.01
    equal = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    for factor in (codes, equal):
        grams = [m / size * factor[list(batch)].T @ factor[list(batch)] for batch in combinations(range(m), size)]
        squares, gram = np.mean([k @ k for k in grams], axis=0), factor.T @ factor
        bound = nmf.expected_smoothness(factor, size)
        assert np.linalg.eigvalsh(bound * gram - squares)[0] >= -1e-10 * np.trace(squares)
        assert nmf.expected_smoothness(factor, size, gram=gram) == pytest.approx(bound)
    values, vectors = np.linalg.eigh(gram)
    top = vectors[:, -1]
    assert top @ squares @ top == pytest.approx(bound * values[-1])


def test_a_running_maximum_holds_and_forgets():
    largest = nmf.RunningMaximum(decay=0.5)
    state = largest.init(4.0)
    for seen, expected in ((1.0, 2.0), (nan, 1.0), (inf, 0.5), (3.0, 3.0)):
        state = largest.update(state, seen)
        assert state.value == expected
    fleet = largest.update(largest.init(4.0), np.asarray([1.0, nan, 8.0]))
    assert fleet.value.tolist() == [2.0, 2.0, 8.0]
    assert largest.update(fleet, 5.0).value.tolist() == [5.0, 5.0, 5.0]
    tensors = largest.update(largest.init(4.0), torch.tensor([1.0, nan, 8.0]))
    assert tensors.value.tolist() == [2.0, 2.0, 8.0]
    assert tensors.value.dtype == torch.float32


numbers = st.floats(0.0, 1e6)


@given(numbers, numbers | st.just(inf), numbers | st.just(inf))
def test_a_limited_rate_is_below_edge_and_cap_and_always_finite(scale, edge, cap):
    rate = nmf.limited(scale, edge, cap)
    assert 0.0 <= rate < inf
    assert rate <= cap
    assert rate <= scale * edge or edge == inf
    if edge < inf:
        assert rate == min(scale * edge, cap)
    assert float(nmf.limited(torch.tensor(scale, dtype=torch.float64), edge, cap)) == float(rate)


def test_a_limited_rate_keeps_precision_and_tells_of_nan():
    assert nmf.limited(1.0, np.float32(0.3), inf) == np.float32(0.3)
    assert nmf.limited(1.0, np.asarray([0.3, 2.0], np.float32), 1e300).dtype == np.float32
    found = nmf.limited(torch.tensor([1.0, nan, 1.0]), torch.tensor([2.0, 2.0, nan]), 1.0)
    assert found.isnan().tolist() == [False, True, True]
    assert np.isnan(nmf.limited(1.0, 2.0, nan))


# One text for all arrays, fleets and units.


@few
@given(seeds)
def test_torch_finds_what_numpy_finds(seed):
    point = problem(seed)
    expected, found = everything(*point), everything(*map(torch.as_tensor, point), xp=torch)
    for name in NUMBERS:
        assert isinstance(found[name], torch.Tensor)
        assert found[name].dtype == torch.float64
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=SHARP.get(name, 1e-12), abs=0.0)


@few
@given(seeds)
def test_a_fleet_is_its_runs_one_by_one(seed):
    fleet = problem(seed, fleet=(2, 3))
    together = everything(*fleet)
    weights = fleet[0] > fleet[0].mean()
    for index in np.ndindex(2, 3):
        alone = everything(*(array[index] for array in fleet))
        for name in set(NUMBERS) - {"row", "masked"}:
            assert together[name].shape == (2, 3)
            assert together[name][index] == pytest.approx(alone[name], rel=SHARP.get(name, 1e-12), abs=0.0)
        assert together["masked"][index] == pytest.approx(nmf.masked_edge(fleet[2][index], weights[index], probability=0.5))


@few
@given(seeds, st.sampled_from([nan, inf, -inf]), st.integers(0, 2), st.booleans())
def test_a_broken_run_is_nan_and_leaves_its_neighbours_as_they_were(seed, value, place, tensors):
    fleet = problem(seed, fleet=(3,))
    gram = np.matmul(fleet[2], np.swapaxes(fleet[2], -1, -2))
    broken = [gram, *(array.copy() for array in (fleet[1], fleet[2], *gradients(*fleet)))]
    broken[0] = gram.copy()
    whole = [gram, fleet[1], fleet[2], *gradients(*fleet)]
    for array in broken:
        array[place, 0, 0] = value
    if tensors:
        whole, broken = ([torch.as_tensor(array) for array in arrays] for arrays in (whole, broken))

    def bounds(gram, codes, parts, along, down):
        yield nmf.largest_eigenvalue(gram)
        yield nmf.largest_eigenvalue(gram, method="collatz")
        yield nmf.block_edge(gram)
        yield nmf.cauchy_edge(along, gram)
        yield nmf.feasible_edge(along, codes, gram)
        yield nmf.segment_edge(codes, parts, along, down, 1.0)
        yield nmf.expected_smoothness(codes, 1)
        yield nmf.row_edges(parts, abs(along[..., :1]) + abs(down[..., :1, :]))[..., 0]
        line = nmf.quartic(codes, parts, along, down, codes_gradient=along, parts_gradient=down, products=along)
        yield line.linear
        yield line.quartic
        yield line.largest_stable_step()
        yield line.best_step()

    for before, after in zip(bounds(*whole), bounds(*broken), strict=True):
        for index in range(3):
            assert np.isnan(float(after[index])) if index == place else float(after[index]) == float(before[index])


@few
@given(seeds, st.integers(-10, 10))
def test_a_power_of_two_in_the_units_changes_every_edge_by_that_power_exactly(seed, power):
    """V in other units, and both factors by the root: Grams by 4^k, edges by 4^-k, along an unchanged path."""
    matrix, codes, parts = problem(seed)
    scale = 2.0**power
    before, after = everything(matrix, codes, parts), everything(scale**2 * matrix, scale * codes, scale * parts)
    powers = dict.fromkeys(NUMBERS, -2) | {"feasible": 0, "smoothness": 2}
    for name in set(NUMBERS) - {"noisy"}:
        assert after[name] == pytest.approx(before[name] * scale ** powers[name], rel=1e-13, abs=0.0)
    for name in ("block", "collatz", "cauchy", "smoothness", "row", "masked"):
        assert after[name] == before[name] * scale ** powers[name]


@few
@given(seeds)
def test_the_order_of_rows_and_parts_does_not_matter(seed):
    matrix, codes, parts = problem(seed)
    random = np.random.default_rng(seed)
    rows, order = random.permutation(len(codes)), random.permutation(len(parts))
    before, after = everything(matrix, codes, parts), everything(matrix[rows], codes[rows][:, order], parts[order])
    for name in set(NUMBERS) - {"row"}:
        assert after[name] == pytest.approx(before[name], rel=SHARP.get(name, 1e-11), abs=0.0)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_float32_of_any_unit_gets_an_edge(unit):
    random = np.random.default_rng(0)
    factor = random.random((4, 9))
    gram = (unit * (factor @ factor.T)).astype(np.float32)
    for method in ("eigen", "collatz"):
        for given_gram in (gram, np.stack([gram, gram]), torch.as_tensor(gram), torch.as_tensor(np.stack([gram, gram]))):
            edge = np.ravel(np.asarray(nmf.block_edge(given_gram, method=method)))
            assert edge[0] == pytest.approx(2.0 / (unit * np.linalg.eigvalsh(factor @ factor.T)[-1]), rel=0.01)


def test_a_zero_gram_has_no_edge_and_a_limited_rate_is_zero_there():
    for zeros in (np.zeros((2, 2)), np.zeros((3, 2, 2)), torch.zeros(2, 2), torch.zeros(3, 2, 2)):
        for method in ("eigen", "collatz"):
            edge = nmf.block_edge(zeros, method=method)
            assert (np.asarray(edge) == inf).all()
            assert (np.asarray(nmf.limited(0.5, edge, inf)) == 0.0).all()
            assert (np.asarray(nmf.limited(0.5, edge, 3.0)) == 3.0).all()
    nothing = np.zeros((2, 2))
    assert nmf.segment_edge(nothing, nothing, nothing, nothing, 0.0) == inf
    assert nmf.cauchy_edge(nothing, np.eye(2)) == inf


def test_no_bound_is_part_of_an_autograd_graph():
    gram = torch.eye(3, requires_grad=True)
    for method in ("eigen", "collatz"):
        assert not nmf.block_edge(gram, method=method).requires_grad
        assert not nmf.block_edge(gram[None] * 2.0, method=method).requires_grad


def test_what_cannot_be_meant_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"gram must end in two equal dimensions, r x r, got the shape \(2, 3\)"):
        nmf.block_edge(np.ones((2, 3)))
    with pytest.raises(ValueError, match="method must be one of 'eigen', 'collatz', got 'power'"):
        nmf.largest_eigenvalue(np.eye(2), method="power")
    with pytest.raises(ValueError, match="probability must be above 0, got 0.0"):
        nmf.masked_edge(np.ones((1, 2)), np.ones((3, 2)), probability=0.0)
    with pytest.raises(ValueError, match="batch_size must be at most the number of rows of the codes, 3, got 4"):
        nmf.expected_smoothness(np.ones((3, 1)), 4)
    with pytest.raises(ValueError, match="decay must be below 1"):
        nmf.TwoHalves(decay=1.0)


# What is invalid fails somewhere.


def raised(rule, seeds):
    """How many of these problems see a projected step by this rule raise the objective."""
    count = 0
    for seed in seeds:
        matrix, codes, parts = problem(seed)
        for _ in range(10):
            along, down = gradients(matrix, codes, parts)
            after = rule(matrix, codes, parts, along, down)
            if objective(matrix, *after) > 1.001 * objective(matrix, codes, parts):
                count += 1
                break
            codes, parts = after
    return count


def test_the_cauchy_edge_is_invalid_under_projection():
    def step(_, codes, parts, along, __):
        rate = nmf.limited(0.999, nmf.cauchy_edge(along, parts @ parts.T), 1e300)
        return positive(codes - rate * along), parts

    assert raised(step, range(40)) >= 5


def test_the_quartic_edge_is_invalid_under_projection():
    def step(matrix, codes, parts, along, down):
        line = nmf.quartic(codes, parts, along, down, codes_gradient=along, parts_gradient=down, products=matrix @ down.T)
        rate = nmf.limited(0.999, line.largest_stable_step(), 1e300)
        return positive(codes - rate * along), positive(parts - rate * down)

    assert raised(step, range(40)) >= 5


def test_the_snr_edge_is_invalid_under_projection():
    """At a point where all entries are held at zero, noise can only push up."""
    matrix, codes, parts = np.zeros((50, 5)), np.zeros((50, 2)), np.ones((2, 5))
    random, gram = np.random.default_rng(0), parts @ parts.T
    noise = random.standard_normal((2000, *codes.shape))
    rate = 0.01 * nmf.snr_edge(nmf.largest_eigenvalue(gram), signal=1.0, noise=codes.size)
    after = [objective(matrix, positive(codes - rate * draw), parts) for draw in noise[:50]]
    assert min(after) > objective(matrix, codes, parts)


def test_a_rate_above_the_block_edge_can_raise_the_objective():
    parts = np.ones((1, 4))
    matrix, codes = np.full((3, 4), 2.0), np.full((3, 1), 2.1)
    edge = nmf.block_edge(parts @ parts.T)
    moved = [codes - rate * gradients(matrix, codes, parts)[0] for rate in (0.999 * edge, 1.001 * edge)]
    assert objective(matrix, moved[0], parts) < objective(matrix, codes, parts) < objective(matrix, moved[1], parts)


def test_the_batch_s_own_edge_leads_to_the_wrong_point():
    """Two rows that want different things: the mean of their own steps is no gradient."""
    codes, matrix = np.asarray([[1.0], [3.0]]), np.asarray([[1.0], [9.0]])
    best = float((codes.T @ matrix).item() / (codes.T @ codes).item())
    part = best
    for _ in range(2000):
        steps = [
            0.01 * float(nmf.block_edge(code[None] * code[:, None])) * code * (code * part - row)
            for code, row in zip(codes, matrix, strict=True)
        ]
        part -= float(np.mean(steps))
    assert part == pytest.approx(2.0, rel=1e-6)
    assert best == pytest.approx(2.8)
