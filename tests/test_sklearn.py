"""The estimator keeps scikit-learn's contract, refuses bad input in a sentence, and does not diverge."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from surefoot import Clip, Constant, Cosine, Exponential, Greedy, Plateau, Step, Then, Warmup
from surefoot.nmf.pilot import Pilot
from surefoot.sklearn import StochasticNMF

GRADIENTS = {
    "exact": {"gradient": "exact"},
    "minibatch": {"gradient": "minibatch", "batch_size": 16},
    "noisy": {"gradient": "noisy", "noise_std": 0.3},
}
POLICIES = [
    0.5,
    Constant(),
    Greedy(factor=0.8, patience=1, window=4),
    Cosine(steps=40),
    Step(milestones=(20,), factor=0.3),
    Exponential(factor=0.97),
    Plateau(factor=0.5, patience=3),
    Warmup(Cosine(steps=40), steps=5),
    Then(Constant(), Greedy(window=4), after=10),
    Clip(Greedy(window=4), max_scale=0.7),
]


@cache
def low_rank(seed=0, m=60, n=30, rank=4, noise=0.05):
    random = np.random.default_rng(seed)
    matrix = random.gamma(0.5, size=(m, rank)) @ random.gamma(0.5, size=(rank, n)) + noise * random.random((m, n))
    matrix.setflags(write=False)
    return matrix


def model(rank=4, **changes):
    return StochasticNMF(rank, **{"max_iter": 40, "tol": 0, "random_state": 0, **changes})


def error(matrix, codes, parts):
    """The relative error, in arithmetic that no scale of the data overflows."""
    matrix = np.asarray(matrix, dtype=np.longdouble)
    rest = matrix - codes.astype(np.longdouble) @ parts.astype(np.longdouble)
    return float(np.sqrt(np.sum((rest / matrix.max()) ** 2) / np.sum((matrix / matrix.max()) ** 2)))


def fitted(matrix, **changes):
    made = model(**changes)
    codes = made.fit_transform(matrix)
    return made, error(matrix, codes, made.components_)


# The contract.


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        StochasticNMF(),
        StochasticNMF(2, gradient="minibatch", batch_size=5, max_iter=20),
        StochasticNMF(2, gradient="noisy", noise_std=0.1, max_iter=20),
        StochasticNMF(2, missing="mask", max_iter=50),
        StochasticNMF(3, init="random", schedule=0.9, alpha_W=0.01, l1_ratio=0.5, max_iter=50),
    ]
)
def test_it_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("changes", [*GRADIENTS.values(), {"alpha_W": 0.01, "l1_ratio": 0.5}, {"init": "random"}])
def test_transform_gives_the_codes_that_fit_transform_gave(changes):
    made = model(**changes)
    assert np.array_equal(made.fit_transform(low_rank()), made.transform(low_rank()))


def test_a_row_has_the_same_code_in_any_company():
    made = model().fit(low_rank())
    assert np.allclose(made.transform(low_rank()[7:9]), made.transform(low_rank())[7:9], rtol=1e-9, atol=1e-12)


def test_inverse_transform_multiplies_out():
    made = model()
    codes = made.fit_transform(low_rank())
    assert np.array_equal(made.inverse_transform(codes), codes @ made.components_)
    assert np.allclose(made.inverse_transform(sparse.csr_matrix(codes)), codes @ made.components_)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, np.asfortranarray])
def test_the_error_it_reports_is_what_is_left(kind):
    made = model()
    codes = made.fit_transform(kind(low_rank()))
    assert made.reconstruction_err_ == pytest.approx(np.linalg.norm(low_rank() - codes @ made.components_), rel=1e-9)


def test_parts_have_names():
    assert list(model(rank=2).fit(low_rank()).get_feature_names_out()) == ["stochasticnmf0", "stochasticnmf1"]


@pytest.mark.parametrize("changes", GRADIENTS.values())
def test_a_seed_makes_it_reproducible(changes):
    first, second = (model(**changes, init="random").fit(low_rank()) for _ in range(2))
    assert np.array_equal(first.components_, second.components_)
    other = model(**changes, init="random", random_state=1).fit(low_rank())
    assert not np.array_equal(first.components_, other.components_)


# Laws.


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rank=st.integers(1, 8),
    schedule=st.none() | st.sampled_from(POLICIES[1:]) | st.floats(0.0, 1000.0),
    missing=st.booleans(),
    init=st.sampled_from(["random", "nndsvda"]),
    alpha=st.sampled_from([0.0, 0.01]),
)
def test_with_exact_gradients_the_loss_never_goes_up(*, seed, rank, schedule, missing, init, alpha):
    matrix = low_rank(seed).copy()
    if missing:
        matrix[np.random.default_rng(seed).random(matrix.shape) < 0.3] = np.nan
    made = model(rank, schedule=schedule, missing="mask", init=init, alpha_W=alpha, l1_ratio=0.5, max_iter=15).fit(matrix)
    assert (np.diff(made.loss_history_) <= 1e-12).all()


@settings(max_examples=20, deadline=None)
@given(gradient=st.sampled_from(sorted(GRADIENTS)), power=st.integers(-250, 250), seed=st.integers(0, 100))
def test_units_of_powers_of_four_change_nothing_else(gradient, power, seed):
    plain, other = (model(**GRADIENTS[gradient], init="random", max_iter=5) for _ in range(2))
    codes, scaled = plain.fit_transform(low_rank(seed)), other.fit_transform(np.ldexp(low_rank(seed), 2 * power))
    assert np.allclose(np.ldexp(codes, power), scaled, rtol=1e-6, atol=1e-9 * scaled.max())
    assert np.allclose(plain.loss_history_, other.loss_history_)
    assert np.allclose(np.ldexp(plain.rate_history_, -2 * power), other.rate_history_)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("schedule", POLICIES, ids=lambda policy: type(policy).__name__)
def test_any_policy_sets_the_rate_and_none_goes_beyond_the_bound(gradient, schedule):
    made, left = fitted(low_rank(), **GRADIENTS[gradient], schedule=schedule)
    assert (np.array(made.rate_history_) <= np.array(made.bound_history_) * (1 + 1e-12)).all()
    assert left < 0.3


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("scale", [1e3, 1e300])
def test_a_rate_set_a_thousandfold_too_high_is_clipped_and_harmless(gradient, scale):
    usual, right = fitted(low_rank(), **GRADIENTS[gradient], schedule=Constant())
    made, left = fitted(low_rank(), **GRADIENTS[gradient], schedule=scale)
    assert left == right
    assert made.clipped_fraction_ == 1.0
    assert usual.clipped_fraction_ < 1.0


@pytest.mark.parametrize("changes", GRADIENTS.values())
def test_dense_and_sparse_matrices_give_the_same(changes):
    matrix = np.where(low_rank() < 0.2, 0.0, low_rank())
    dense = model(**changes).fit(matrix)
    for kind in (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array):
        same = model(**changes).fit(kind(matrix))
        assert np.allclose(same.components_, dense.components_, rtol=1e-6, atol=1e-9)
        assert np.allclose(same.loss_history_, dense.loss_history_, rtol=1e-6)


@pytest.mark.parametrize("changes", [*GRADIENTS.values(), {"missing": "mask"}])
def test_single_precision_does_about_as_well_as_double(changes):
    made, left = fitted(low_rank().astype(np.float32), **changes)
    assert made.components_.dtype == made.transform(low_rank().astype(np.float32)).dtype == np.float32
    assert left == pytest.approx(fitted(low_rank(), **changes)[1], rel=0.02)


def test_single_precision_reports_small_errors_as_they_are():
    random = np.random.default_rng(0)
    codes, parts = (random.random(shape).astype(np.float32) for shape in ((60, 4), (4, 30)))
    matrix = codes @ parts
    made = model(init="custom", max_iter=3)
    codes = made.fit_transform(matrix, W=codes * np.float32(1.00001), H=parts)
    exact = np.linalg.norm(matrix.astype(float) - codes.astype(float) @ made.components_.astype(float))
    assert exact < 1e-5 * np.linalg.norm(matrix)
    assert made.reconstruction_err_ == pytest.approx(exact, rel=1e-3)
    assert np.sqrt(made.loss_history_[-1]) < 1e-5


# Odd matrices.


@pytest.mark.parametrize("changes", [*GRADIENTS.values(), {"missing": "mask"}])
@pytest.mark.parametrize(
    ("factor", "dtype"), [(1e200, float), (1e-200, float), (1e-310, float), (1e25, np.float32), (1e-25, np.float32)]
)
def test_huge_and_tiny_units_are_factorised(changes, factor, dtype):
    right = fitted(low_rank(), **changes)[1]
    for kind in (np.asarray, sparse.csr_matrix):
        matrix = kind((low_rank() * factor).astype(dtype))
        made = model(**changes)
        codes = made.fit_transform(matrix)
        assert error((low_rank() * factor).astype(dtype), codes, made.components_) == pytest.approx(right, rel=0.05)
        assert np.isfinite(made.rate_history_).all() or factor == 1e-310  # Rates go with the inverse of the data.


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((5, 4)),
        sparse.csr_matrix((5, 4)),
        low_rank()[:1],
        low_rank()[:, :1],
        low_rank() > 0.5,
        (10 * low_rank()).astype(int),
        np.full((3, 3), 2.0),
    ],
    ids=["zeros", "sparse zeros", "one row", "one column", "truth values", "whole numbers", "constant"],
)
@pytest.mark.parametrize("changes", [*GRADIENTS.values(), {"missing": "mask"}, {"rank": 70}])
def test_odd_matrices_work(matrix, changes):
    made = model(**{"max_iter": 10, **changes})
    codes = made.fit_transform(matrix)
    assert np.isfinite(codes).all()
    assert np.isfinite(made.components_).all()
    assert made.reconstruction_err_ <= np.linalg.norm(sparse.csr_matrix(matrix).toarray()) * (1 + 1e-9)
    assert model(**changes).partial_fit(matrix).transform(matrix).shape == codes.shape


def test_the_matrix_is_left_as_it_was():
    matrix = np.where(low_rank() < 0.1, np.nan, 1e30 * low_rank())
    before = matrix.copy()
    model(missing="mask").fit(matrix)
    assert np.array_equal(matrix, before, equal_nan=True)


# Missing entries.


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_missing_entries_are_recovered_better_than_by_means(gradient, kind):
    matrix = low_rank(noise=0.01)
    hidden = np.random.default_rng(1).random(matrix.shape) < 0.3
    shown = np.where(hidden, np.nan, matrix)
    made = model(missing="mask", **{**GRADIENTS[gradient], "noise_std": 0.01 * (gradient == "noisy")}, max_iter=200)
    found = made.inverse_transform(made.fit_transform(kind(shown)))
    by_means = np.broadcast_to(np.nanmean(shown, axis=0), matrix.shape)
    assert np.linalg.norm((found - matrix)[hidden]) < 0.5 * np.linalg.norm((by_means - matrix)[hidden])


def test_with_nothing_missing_a_mask_changes_little():
    plain, masked = (fitted(low_rank(), missing=missing, max_iter=200)[1] for missing in (None, "mask"))
    assert masked == pytest.approx(plain, rel=0.01)


def test_rows_without_known_entries_get_no_code():
    matrix = low_rank().copy()
    matrix[3], matrix[:, 5] = np.nan, np.nan
    made = model(missing="mask")
    codes = made.fit_transform(matrix)
    assert not codes[3].any()
    assert np.isfinite(made.components_).all()


# Penalties and starts.


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_penalties_are_those_of_scikit_learn(l1_ratio):
    weights = {"alpha_W": 2e-3, "alpha_H": 1e-3, "l1_ratio": l1_ratio}
    theirs = NMF(4, init="nndsvda", tol=1e-6, max_iter=10_000, **weights)
    mine = model(**weights, max_iter=1000)
    assert objective(mine, weights) <= objective(theirs, weights) * 1.01


def objective(estimator, weights):
    codes, (m, n) = estimator.fit_transform(low_rank()), low_rank().shape
    parts, mix = estimator.components_, weights["l1_ratio"]
    costs = [mix * factor.sum() + 0.5 * (1 - mix) * (factor**2).sum() for factor in (codes, parts)]
    left = 0.5 * np.sum((low_rank() - codes @ parts) ** 2)
    total = left + n * weights["alpha_W"] * costs[0] + m * weights["alpha_H"] * costs[1]
    if isinstance(estimator, StochasticNMF):
        assert estimator.loss_history_[-1] == pytest.approx(2 * total / np.sum(low_rank() ** 2), rel=1e-3)
    return total


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_penalties_go_with_the_units(factor):
    """Codes and parts go with the root of the data, so a linear penalty goes with the power of three halves."""
    plain = model(alpha_W=0.01, l1_ratio=1.0, max_iter=5).fit(low_rank())
    scaled = model(alpha_W=0.01 * factor**1.5, l1_ratio=1.0, max_iter=5)
    with np.errstate(over="ignore"):
        scaled.set_params(alpha_W=min(scaled.alpha_W, 1e300)).fit(low_rank() * factor)
    assert np.allclose(scaled.components_ / np.sqrt(factor), plain.components_, rtol=1e-3, atol=1e-6)


def test_custom_factors_are_where_it_starts():
    first = model(max_iter=30)
    codes = first.fit_transform(low_rank())
    again = model(init="custom", max_iter=1).fit(low_rank(), W=codes, H=first.components_)
    assert again.loss_history_[0] <= first.loss_history_[-1]
    given_rank = model("auto", init="custom", max_iter=1).fit(low_rank(), W=codes, H=first.components_)
    assert given_rank.n_components_ == 4


def test_auto_takes_as_many_parts_as_there_are_columns():
    assert model("auto", max_iter=2).fit(low_rank()).n_components_ == 30


# The record.


@pytest.mark.parametrize(("gradient", "steps"), [("exact", 7), ("minibatch", 28), ("noisy", 7)])
@pytest.mark.parametrize("schedule", [None, Constant(0.5)])
def test_every_step_leaves_one_entry(gradient, steps, schedule):
    made = model(**GRADIENTS[gradient], max_iter=7, schedule=schedule).fit(low_rank())
    assert len(made.loss_history_) == len(made.rate_history_) == len(made.bound_history_) == steps
    assert made.n_iter_ == 7


def test_the_fraction_clipped_counts_scales_above_one():
    made = model(schedule=Step(milestones=(10,), factor=0.1), max_iter=40).fit(low_rank())
    assert made.clipped_fraction_ == 0.0
    twice = model(schedule=Then(Constant(2.0), Constant(0.5), after=10), max_iter=40).fit(low_rank())
    assert twice.clipped_fraction_ == 0.25
    assert twice.rate_history_[:10] == twice.bound_history_[:10]
    assert twice.rate_history_[10:] == pytest.approx([0.5 * bound for bound in twice.bound_history_[10:]])


def test_the_bound_is_safety_times_the_edge():
    parts = np.random.default_rng(0).random((4, 30))
    made = model(init="custom", safety=0.7).partial_fit(low_rank(), H=parts)
    codes = np.array([nnls(parts.T, row)[0] for row in low_rank()])
    edge = 2.0 / np.linalg.eigvalsh(codes.T @ codes)[-1]
    assert made.bound_history_ == [pytest.approx(0.7 * edge, rel=1e-3)] == made.rate_history_


def test_a_greedy_policy_does_not_wind_up_beyond_the_bound():
    greedy = Greedy(factor=0.5, patience=0, window=1, max_scale=1000.0)
    made = model(schedule=Then(greedy, Constant(), after=1000), max_iter=40).fit(low_rank())
    assert made.clipped_fraction_ > 0.5
    pilot = Pilot(greedy)
    for loss in (5.0, 4.0, 3.0, 2.0, 6.0):
        pilot.record(loss, 1.0, 1.0)
    assert pilot.scale() == 0.5  # Set back to 1 after every raise, and halved once.


# What goes wrong is told.


def test_a_run_that_diverges_is_told_and_undone():
    made = model(gradient="noisy", noise_std=100.0, schedule=Constant(), init="random")
    with pytest.warns(ConvergenceWarning, match=r"the factorisation diverged, from a loss of .* to .*; the best factors"):
        codes = made.fit_transform(low_rank())
    assert error(low_rank(), codes, made.components_) < 1.0
    assert made.n_iter_ < 40


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("safety", [1.2, 1.99])
def test_nothing_that_is_not_finite_comes_out_beyond_the_edge(gradient, safety):
    made = model(**GRADIENTS[gradient], safety=safety, schedule=Constant())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        codes = made.fit_transform(low_rank())
    assert np.isfinite(codes).all()
    assert error(low_rank(), codes, made.components_) < 1.0


def test_a_penalty_that_leaves_nothing_is_told():
    with pytest.warns(ConvergenceWarning, match="collapsed"):
        model(alpha_W=100.0, l1_ratio=1.0).fit(low_rank())


def test_too_few_iterations_are_told():
    with pytest.warns(ConvergenceWarning, match="the loss was still falling after max_iter=2 passes"):
        model(max_iter=2, tol=1e-6).fit(low_rank())


class OddState(NamedTuple):
    scale: float


@dataclass(frozen=True)
class Odd:
    """A schedule that goes wrong at its second step."""

    scale: float

    def init(self):
        return OddState(1.0)

    def update(self, state, loss, **signals):
        return OddState(self.scale)


NEGATIVE, HOLES = low_rank() - 1.0, np.where(low_rank() < 0.1, np.nan, low_rank())
ENDLESS = np.where(low_rank() > 2.0, np.inf, low_rank())
ONES = {"W": np.ones((60, 4)), "H": np.ones((4, 30))}


@pytest.mark.parametrize(
    ("changes", "matrix", "factors", "sentence"),
    [
        ({}, NEGATIVE, {}, r"Negative values in data passed to StochasticNMF: every entry of X must be 0 or more, got -"),
        ({}, sparse.csr_matrix(NEGATIVE), {}, "Negative values in data"),
        ({"missing": "mask"}, np.where(HOLES > 1, -1.0, HOLES), {}, "Negative values in data"),
        ({}, HOLES, {}, r"X must be finite, got NaN in \d+ of 1800 entries \(to leave them out, set missing='mask'\)"),
        ({}, sparse.csr_matrix(HOLES), {}, "X must be finite, got NaN in"),
        ({"missing": "mask"}, np.full((5, 5), np.nan), {}, "X must have at least one known entry, got nothing but NaN"),
        ({}, ENDLESS, {}, r"X must be finite, got inf in \d+ of 1800 entries"),
        ({"missing": "mask"}, ENDLESS, {}, "X must be finite, got inf"),
        ({}, sparse.csc_matrix(ENDLESS), {}, "X must be finite, got inf"),
        ({}, low_rank()[:0], {}, "Found array with 0 sample"),
        ({}, low_rank()[:, :0], {}, "Found array with 0 feature"),
        ({}, low_rank()[0], {}, "Expected 2D array, got 1D array instead"),
        ({}, low_rank()[None], {}, "Found array with dim 3"),
        ({}, low_rank() + 1j, {}, "Complex data not supported"),
        ({}, np.array([["a", "b"]]), {}, "could not convert string to float"),
        (
            {"n_components": 0},
            low_rank(),
            {},
            r"'n_components' parameter of StochasticNMF must be an int in the range \[1, inf\)",
        ),
        ({"n_components": 2.5}, low_rank(), {}, "'n_components' parameter"),
        ({"batch_size": 0}, low_rank(), {}, r"'batch_size' parameter of StochasticNMF must be an int in the range \[1, inf\)"),
        ({"max_iter": 0}, low_rank(), {}, "'max_iter' parameter"),
        ({"tol": -1.0}, low_rank(), {}, "'tol' parameter"),
        ({"safety": 0.0}, low_rank(), {}, r"'safety' parameter of StochasticNMF must be a float in the range \(0.0, 2.0\)"),
        ({"safety": 2.0}, low_rank(), {}, "'safety' parameter"),
        ({"schedule": -0.5}, low_rank(), {}, "'schedule' parameter"),
        ({"schedule": float("nan")}, low_rank(), {}, "'schedule' parameter"),
        ({"schedule": "cosine"}, low_rank(), {}, "'schedule' parameter"),
        ({"missing": "zeros"}, low_rank(), {}, "'missing' parameter"),
        ({"gradient": "newton"}, low_rank(), {}, "'gradient' parameter"),
        ({"noise_std": 0.1}, low_rank(), {}, "noise_std is for gradient='noisy', got noise_std=0.1 and gradient='exact'"),
        ({"noise_std": -0.1, "gradient": "noisy"}, low_rank(), {}, "'noise_std' parameter"),
        ({"alpha_W": -1.0}, low_rank(), {}, "'alpha_W' parameter"),
        ({"l1_ratio": 1.5}, low_rank(), {}, "'l1_ratio' parameter"),
        ({"schedule": Odd(float("nan"))}, low_rank(), {}, r"the scale of a schedule must be 0 or more, got nan before step 1"),
        ({"schedule": Odd(-1.0)}, low_rank(), {}, r"the scale of a schedule must be 0 or more, got -1.0 before step 1"),
        ({"schedule": Odd(float("nan")), "gradient": "minibatch"}, low_rank(), {}, "the scale of a schedule must be 0 or more"),
        (
            {"init": "nndsvda", "n_components": 31},
            low_rank(),
            {},
            "init='nndsvda' needs n_components to be at most .* 30, got 31",
        ),
        ({}, low_rank(), ONES, "W and H are factors to start from, for init='custom' only, got init=None"),
        ({"init": "custom"}, low_rank(), {}, r"init='custom' needs W, of shape \(rows, rank\), to start from, got None"),
        ({"init": "custom"}, low_rank(), {"W": ONES["W"]}, r"init='custom' needs H, of shape \(rank, columns\)"),
        (
            {"init": "custom"},
            low_rank(),
            {**ONES, "W": np.ones((4, 60))},
            r"W must have the shape .* \(60, 4\) here, got \(4, 60\)",
        ),
        (
            {"init": "custom"},
            low_rank(),
            {**ONES, "H": np.ones((4, 29))},
            r"H must have the shape .* \(4, 30\) here, got \(4, 29\)",
        ),
        (
            {"init": "custom"},
            low_rank(),
            {**ONES, "H": -ONES["H"]},
            "H must be finite and nonnegative, got entries from -1 to -1",
        ),
        ({"init": "custom"}, low_rank(), {**ONES, "W": ONES["W"] * np.nan}, "W must be finite and nonnegative"),
        ({"init": "custom"}, low_rank(), {**ONES, "W": 0 * ONES["W"]}, "W must have entries above 0, got nothing but zeros"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(changes, matrix, factors, sentence):
    changes = {"rank": changes["n_components"], **changes} if "n_components" in changes else changes
    changes = {name: value for name, value in changes.items() if name != "n_components"}
    with pytest.raises(ValueError, match=sentence):
        model(**changes).fit(matrix, **factors)


def test_a_class_is_no_schedule():
    with pytest.raises(TypeError, match=r"schedule must be a policy, .* got the class Greedy \(call it to make one\)"):
        model(schedule=Greedy).fit(low_rank())


@pytest.mark.parametrize("call", ["transform", "partial_fit"])
def test_a_wrong_number_of_columns_is_refused(call):
    made = model().partial_fit(low_rank())
    with pytest.raises(ValueError, match="X has 29 features, but StochasticNMF is expecting 30 features as input"):
        getattr(made, call)(low_rank()[:, :29])


def test_a_wrong_number_of_codes_is_refused():
    with pytest.raises(ValueError, match="X must have one column for each of the 4 parts, got 3"):
        model().fit(low_rank()).inverse_transform(np.ones((2, 3)))


@pytest.mark.parametrize("call", ["transform", "partial_fit"])
def test_bad_batches_are_refused_too(call):
    made = model().partial_fit(low_rank())
    for bad in (NEGATIVE, HOLES, ENDLESS, low_rank()[:0]):
        with pytest.raises(ValueError, match=r"Negative|finite|0 sample"):
            getattr(made, call)(bad)


# Streams.


def stream(made, batches):
    for batch in batches:
        made.partial_fit(batch)
    return made


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("schedule", [None, Greedy(window=4), Cosine(steps=20)], ids=lambda policy: type(policy).__name__)
def test_a_stream_that_was_pickled_half_way_goes_on_as_if_it_had_not_been(gradient, schedule):
    batches = np.array_split(low_rank(m=400), 20)
    made = model(**GRADIENTS[gradient], schedule=schedule)
    straight = stream(clone(made), batches)
    half = pickle.loads(pickle.dumps(stream(clone(made), batches[:9])))  # noqa: S301 - our own
    resumed = stream(half, batches[9:])
    assert np.array_equal(straight.components_, resumed.components_)
    assert straight.rate_history_ == resumed.rate_history_
    assert straight.n_iter_ == len(straight.loss_history_) == 20


def test_a_stream_learns():
    matrix = low_rank(m=2000)
    made = stream(model(), [batch for _ in range(20) for batch in np.array_split(matrix, 20)])
    left = error(matrix, made.transform(matrix), made.components_)
    assert left < 1.02 * fitted(matrix, max_iter=100)[1]


def test_a_stream_can_go_on_from_a_fit():
    made = model().fit(low_rank())
    before = error(low_rank(), made.transform(low_rank()), made.components_)
    made.partial_fit(low_rank())
    after = error(low_rank(), made.transform(low_rank()), made.components_)
    assert after < before * 1.001


def test_one_batch_a_thousand_times_larger_does_no_harm():
    batches = np.array_split(low_rank(m=400), 20)
    batches[10] = 1000 * batches[10]
    made = stream(model(), batches * 3)
    assert error(low_rank(m=400), made.transform(low_rank(m=400)), made.components_) < 0.3


def test_sparse_and_masked_batches_stream_as_dense_ones():
    batches = [np.where(batch < 0.2, 0.0, batch) for batch in np.array_split(low_rank(m=200), 10)]
    dense = stream(model(), batches)
    assert np.allclose(stream(model(), map(sparse.csr_matrix, batches)).components_, dense.components_)
    masked = stream(model(missing="mask"), [np.where(batch == 0.0, np.nan, batch) for batch in batches])
    assert np.isfinite(masked.components_).all()


CHILD = """
import resource, sys
import numpy as np
from surefoot.nmf.pilot import Pilot
from surefoot.sklearn import StochasticNMF

path, rows, columns = sys.argv[1], 40_000, 1250
matrix = np.memmap(path, np.float32, "r", shape=(rows, columns))
StochasticNMF(4, max_iter=1, tol=0).fit(matrix[:1000])
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 60_000_000, used + 60_000_000))
settings = {"n_components": 4, "max_iter": 2, "tol": 0, "random_state": 0}
made = StochasticNMF(**settings, **eval(sys.argv[2]))
if sys.argv[3] == "fit":
    made.fit(matrix)
else:
    for start in range(0, rows, 2000):
        made.partial_fit(matrix[start : start + 2000])
print(matrix.nbytes, made.reconstruction_err_)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as only Linux does")
@pytest.mark.parametrize(
    ("settings", "call"),
    [("{}", "fit"), ("{'gradient': 'minibatch', 'batch_size': 2000}", "fit"), ("{}", "partial_fit")],
    ids=["exact", "minibatch", "stream"],
)
def test_a_matrix_larger_than_memory_is_read_where_it_lies(big, settings, call):
    """200 MB in a file, in a process that may take 60 MB more than it has at the start; a map of a file is not counted."""
    done = subprocess.run([sys.executable, "-c", CHILD, big, settings, call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    size, left = map(float, done.stdout.split())
    assert size == 200e6
    assert left > 0.0


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "matrix"
    random = np.random.default_rng(0)
    parts = random.random((4, 1250), dtype=np.float32)
    with path.open("wb") as file:
        for _ in range(20):
            file.write((random.random((2000, 4), dtype=np.float32) @ parts).tobytes())
    yield str(path)
    path.unlink()


# Against scikit-learn.


def test_on_digits_it_ends_at_least_as_low_as_scikit_learn():
    digits = load_digits().data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = NMF(16, random_state=0).fit(digits).reconstruction_err_
        mine = StochasticNMF(16, random_state=0).fit(digits).reconstruction_err_
    assert mine <= theirs * 1.002
