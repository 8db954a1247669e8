"""Step cycles and the incremental solver: fast, and never upwards."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot.nmf import Incremental, chebyshev, descend, largest_eigenvalue
from surefoot.nmf import cycle as cycle_module

torch = pytest.importorskip("torch")


def block(seed: int, rows: int = 40, rank: int = 5, power: int = 0, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """A factor, and the Gram and the products of a problem that it shall solve."""
    random = np.random.default_rng(seed)
    other = random.gamma(0.5, size=(30, rank)) * 10.0 ** random.uniform(-1.5, 1.5, rank)
    factor, target = random.gamma(0.5, size=(2, rows, rank))
    noise = random.random((rows, 30))
    scale = 2.0**power
    return tuple(part.astype(dtype) for part in (factor, scale * other.T @ other, scale * (target @ other.T + noise) @ other))  # type: ignore[return-value]


def heights(factor: Any, gram: Any, products: Any) -> Any:
    """The objective of every row."""
    return np.sum(factor * (0.5 * factor @ gram - products), axis=1)


def dense_objective(matrix: Any, codes: Any, parts: Any) -> float:
    return 0.5 * float(np.sum((codes @ parts - matrix) ** 2))


def problem(seed: int, m: int = 60, n: int = 45, rank: int = 4, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    matrix = random.gamma(0.5, size=(m, rank)) @ random.gamma(0.5, size=(rank, n)) + 0.1 * random.random((m, n))
    return matrix.astype(dtype), random.random((m, rank)).astype(dtype), random.random((rank, n)).astype(dtype)


@given(length=st.sampled_from([1, 2, 4, 8, 16, 32]), spread=st.floats(1.0, 1e4), place=st.floats(0.0, 1.0))
def test_a_cycle_as_a_whole_is_stable_without_projection(length: int, spread: float, place: float) -> None:
    assert abs(np.prod([1.0 - step * place for step in chebyshev(length, spread)])) <= 1.0 + 1e-12


@given(length=st.sampled_from([2, 4, 8, 16]), spread=st.floats(2.0, 1e3))
def test_no_other_steps_shrink_the_worst_error_of_the_spread_more(length: int, spread: float) -> None:
    """The product of the factors equioscillates between plus and minus 1 / T(middle), the least maximum there is."""
    curvatures = np.linspace(1.0 / spread, 1.0, 2001)
    worst = np.abs(np.prod([1.0 - step * curvatures for step in chebyshev(length, spread)], axis=0)).max()
    assert worst == pytest.approx(1.0 / np.cosh(length * np.arccosh((spread + 1.0) / (spread - 1.0))), rel=1e-3)


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), power=st.integers(-20, 20), length=st.sampled_from([1, 4, 16]), spread=st.floats(1.0, 1e6))
def test_no_row_rises_whatever_the_cycle(seed: int, power: int, length: int, spread: float) -> None:
    factor, gram, products = block(seed, power=power)
    before, after = factor, descend(factor, gram, products, steps=chebyshev(length, spread))
    size = np.abs(heights(before, gram, 0 * products)) + np.abs(np.sum(before * products, axis=1))
    assert np.all(heights(after, gram, products) <= heights(before, gram, products) + 1e-12 * size)
    assert after.min() >= 0.0


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), steps=st.lists(st.floats(0.0, 1e300), min_size=1, max_size=6).map(tuple))
def test_steps_of_any_size_are_taken_back_where_they_would_do_harm(seed: int, steps: tuple[float, ...]) -> None:
    factor, gram, products = block(seed)
    with np.errstate(over="ignore", invalid="ignore"):
        after = descend(factor, gram, products, steps=steps)
    assert np.all(heights(after, gram, products) <= heights(factor, gram, products) + 1e-9)


def test_the_safeguard_is_needed() -> None:
    """With projection a cycle that is stable as a whole can raise the objective: somewhere, a row had to be taken back."""
    steps, rises = chebyshev(8, 1e4), 0
    for seed in range(200):
        factor, gram, products = block(seed)
        bare = factor
        for step in steps:
            bare = np.maximum(bare - step / largest_eigenvalue(gram) * (bare @ gram - products), 0.0)
        rises += np.sum(heights(bare, gram, products) > heights(factor, gram, products) * (1.0 + 1e-9) + 1e-9)
    assert rises > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [(1.9,), (0.5, 1.0), chebyshev(), chebyshev(4, 30.0), (1e6, 0.1)])
def test_the_form_for_one_run_is_that_for_a_fleet_faster(dtype: Any, steps: tuple[float, ...]) -> None:
    few = cycle_module._CACHE // (5 * np.dtype(dtype).itemsize) // 2
    for rows in (1, few - 1, 3 * few + 1):
        factor, gram, products = block(rows, rows, dtype=dtype)
        fast = descend(factor, gram, products, steps=steps)
        slow = descend(factor[None], gram[None], products[None], steps=steps)[0]
        assert fast.dtype == slow.dtype == dtype
        # A row next to its own safeguard may be judged otherwise in the last bit; then it is no higher all the same.
        same = np.isclose(fast, slow, rtol=1e-3 if dtype == np.float32 else 1e-9, atol=1e-5).all(axis=1)
        assert same.mean() > 0.99


def test_numpy_and_torch_agree() -> None:
    factor, gram, products = block(3)
    theirs = descend(*(torch.from_numpy(part) for part in (factor, gram, products)))
    np.testing.assert_allclose(theirs.numpy(), descend(factor, gram, products), rtol=1e-9, atol=1e-12)


def test_the_runs_of_a_fleet_do_not_see_each_other() -> None:
    several = [np.stack(parts) for parts in zip(*(block(seed) for seed in range(3)), strict=True)]
    alone = descend(*(part[2:] for part in several))
    several[0][1] = np.nan
    with np.errstate(invalid="ignore"):
        together = descend(*several)
    np.testing.assert_array_equal(together[2:], alone)


def test_where_nothing_is_curved_nothing_moves() -> None:
    for factor in (np.ones((3, 2)), np.ones((1, 3, 2))):
        shape = factor.shape[:-2]
        np.testing.assert_array_equal(descend(factor, np.zeros((*shape, 2, 2)), np.zeros_like(factor)), factor)


def test_a_cycle_has_a_power_of_two_steps() -> None:
    with pytest.raises(ValueError, match="length must be a power of two, got 6"):
        chebyshev(6)
    with pytest.raises(ValueError, match=r"spread must be .* got 0\.5"):
        chebyshev(4, 0.5)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), blocks=st.integers(1, 7), penalties=st.tuples(*[st.floats(0.0, 5.0)] * 4))
def test_a_pass_never_raises_the_objective(seed: int, blocks: int, penalties: tuple[float, ...]) -> None:
    matrix, codes, parts = problem(seed)
    linear, ridge = penalties[:2], penalties[2:]
    factors = Incremental(matrix, codes, parts, blocks=blocks, linear=linear, ridge=ridge)  # type: ignore[arg-type]
    found = [factors.objective(), *(factors.sweep().objective for _ in range(40))]
    assert all(after <= before + 1e-9 * found[0] for before, after in pairwise(found))
    shrink = sum(
        one * np.sum(factor) + 0.5 * two * np.sum(factor**2)
        for one, two, factor in zip(linear, ridge, (factors.codes, factors.parts), strict=True)
    )
    assert found[-1] == pytest.approx(dense_objective(matrix, factors.codes, factors.parts) + shrink, rel=1e-9)


def test_dense_sparse_and_torch_agree() -> None:
    from scipy.sparse import csr_array

    matrix, codes, parts = problem(0)
    matrix = matrix * (matrix > np.median(matrix))
    made = [
        Incremental(matrix, codes.copy(), parts),
        Incremental(csr_array(matrix), codes.copy(), parts),
        Incremental(*(torch.from_numpy(part.copy()) for part in (matrix, codes, parts))),
    ]
    found = [[float(one.sweep(chebyshev()).objective) for _ in range(10)] for one in made]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-8)


def test_more_blocks_mean_more_steps_for_the_same_products() -> None:
    """After ten passes the objective is lower with two blocks of rows than with all rows at once."""
    lower = 0
    for seed in range(10):
        matrix, codes, parts = problem(seed, m=200, n=80, rank=6)
        ends = []
        for blocks in (1, 2):
            factors = Incremental(matrix, codes.copy(), parts, blocks=blocks)
            ends.append([factors.sweep().objective for _ in range(10)][-1])
        lower += ends[1] < ends[0]
    assert lower >= 8


def test_a_pass_tells_the_grams_of_its_last_cycles() -> None:
    matrix, codes, parts = problem(0)
    factors = Incremental(matrix, codes, parts, ridge=(0.5, 0.25), blocks=1)
    met = factors.parts
    found = factors.sweep()
    np.testing.assert_allclose(found.codes_gram, met @ met.T + 0.5 * np.eye(4))
    np.testing.assert_allclose(found.parts_gram, factors.codes.T @ factors.codes + 0.25 * np.eye(4))


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), powers=st.lists(st.integers(-20, 20), min_size=5, max_size=5), several=st.booleans())
def test_balanced_the_units_of_the_parts_do_not_matter(seed: int, powers: list[int], several: bool) -> None:
    factor, gram, products = block(seed)
    units = 2.0 ** np.array(powers)
    scaled = factor * units, gram / units / units[:, None], products / units
    one, other = (
        descend(*(part[None] if several else part for part in parts), balanced=True)
        for parts in ((factor, gram, products), scaled)
    )
    np.testing.assert_allclose(other / units, one, rtol=1e-6, atol=1e-9)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), spread=st.floats(1.0, 1e6), several=st.booleans())
def test_balanced_no_row_rises_either(seed: int, spread: float, several: bool) -> None:
    factor, gram, products = block(seed)
    parts = [part[None] if several else part for part in (factor, gram, products)]
    after = descend(*parts, steps=chebyshev(8, spread), balanced=True).reshape(factor.shape)
    size = np.abs(heights(factor, gram, 0 * products)) + np.abs(np.sum(factor * products, axis=1))
    assert np.all(heights(after, gram, products) <= heights(factor, gram, products) + 1e-12 * size)
    assert after.min() >= 0.0


def test_a_part_of_zeros_is_balanced_too() -> None:
    gram, products = np.diag([2.0, 0.0]), np.array([[4.0, 0.0], [1.0, -1.0]])
    for several in (False, True):
        after = descend(*(part[None] if several else part for part in (np.ones((2, 2)), gram, products)), balanced=True)
        np.testing.assert_allclose(after.reshape(2, 2)[0], [2.0, 1.0], atol=0.5)
        assert after.reshape(2, 2)[1, 1] == 0.0  # A linear penalty alone pulls it down.


def test_cycles_are_short_where_the_products_with_the_matrix_cost_little() -> None:
    from scipy.sparse import random_array

    random = np.random.default_rng(0)
    wide = Incremental(random.random((400, 300)), random.random((400, 5)), random.random((5, 300)))
    thin = Incremental(random.random((400, 30)), random.random((400, 5)), random.random((5, 30)))
    sparse = random_array((400, 300), density=0.02, rng=random, format="csr")
    rare = Incremental(sparse, random.random((400, 5)), random.random((5, 300)))
    assert [tuple(map(len, made.cycles)) for made in (wide, thin, rare)] == [(8, 8), (4, 8), (4, 4)]
