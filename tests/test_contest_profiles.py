"""Profiles, scores and probabilities are those of their definitions, written out slowly."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import mannwhitneyu, rankdata, trim_mean

from surefoot.contest import pairs, profiles

VALUES = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.one_of(st.integers(1, 8).map(float), st.just(inf), st.floats(0.1, 10.0)),
)
NUMBERS = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=st.floats(-1.0, 1.0))
AT = [1.0, 1.01, 1.5, 2.0, 4.0]


def slow_ratios(values):
    made = []
    for task in values.tolist():
        best = min(task)
        made.append([inf if value == inf else value / best for value in task])
    return made


def slow_profile(values, rival, at):
    return sum(task[rival] <= at for task in slow_ratios(values)) / len(values)


def slow_score(values, rival, limit=4.0):
    """The area, step by step between the ratios at which the profile jumps."""
    jumps = sorted({1.0, limit, *(task[rival] for task in slow_ratios(values) if task[rival] < limit)})
    area = sum((right - left) * slow_profile(values, rival, left) for left, right in pairwise(jumps))
    return area / (limit - 1.0)


def slow_improvement(ours, theirs):
    shares = []
    for left, right in zip(ours.tolist(), theirs.tolist(), strict=True):
        won = sum(1.0 if one < other else 0.5 if one == other else 0.0 for one in left for other in right)
        shares.append(won / (len(left) * len(right)))
    return sum(shares) / len(shares)


@given(VALUES)
@settings(max_examples=50)
def test_profiles_are_those_of_the_definition(values):
    found = profiles.profile(values, AT)
    for rival in range(values.shape[1]):
        assert found[rival].tolist() == pytest.approx([slow_profile(values, rival, at) for at in AT])


@given(VALUES)
@settings(max_examples=50)
def test_scores_are_the_areas_under_the_profiles(values):
    found = profiles.scores(values)
    assert found.tolist() == pytest.approx([slow_score(values, rival) for rival in range(values.shape[1])])


@given(VALUES)
@settings(max_examples=30)
def test_profiles_rise_from_the_share_of_wins_and_scores_lie_between_0_and_1(values):
    found = profiles.profile(values, AT)
    assert (np.diff(found, axis=1) >= 0.0).all()
    scores = profiles.scores(values)
    assert ((scores >= 0.0) & (scores <= 1.0)).all()


@given(VALUES)
@settings(max_examples=30)
def test_ranks_are_those_of_scipy(values):
    assert profiles.mean_ranks(values) == pytest.approx(rankdata(values, axis=1).mean(axis=0))


@given(VALUES, st.data())
@settings(max_examples=30)
def test_a_schedule_under_two_labels_ranks_and_scores_the_same(values, data):
    rival = data.draw(st.integers(0, values.shape[1] - 1))
    doubled = np.column_stack([values, values[:, rival]])
    for found in (profiles.scores(doubled), profiles.mean_ranks(doubled)):
        assert found[rival] == found[-1]
    both = profiles.profile(doubled, AT)
    assert (both[rival] == both[-1]).all()
    assert (both[:-1] == profiles.profile(values, AT)).all()
    wins = profiles.win_matrix(doubled[..., None])
    assert wins[rival, -1] == 0.5
    assert (wins[rival] == wins[-1]).all()


def test_a_task_that_nobody_solved_counts_for_nobody():
    assert profiles.scores([[1.0, 2.0], [inf, inf]])[0] == 0.5


@given(NUMBERS)
@settings(max_examples=50)
def test_the_interquartile_mean_is_scipys_trimmed_mean(values):
    found = profiles.interquartile_mean(values, draws=40)
    assert found.value == pytest.approx(trim_mean(values, 0.25, axis=None), abs=1e-12)


@given(NUMBERS)
@settings(max_examples=10)
def test_the_interval_of_the_interquartile_mean_is_that_of_the_slow_twin(values):
    found = profiles.interquartile_mean(values, draws=200)
    means = []
    for counts in pairs.resamples(values.shape[1], strata=len(values), draws=200):
        drawn = [np.repeat(task, count) for task, count in zip(values, counts, strict=True)]
        means.append(trim_mean(np.concatenate(drawn), 0.25))
    means.sort()
    assert (found.low, found.high) == (pytest.approx(means[4], abs=1e-12), pytest.approx(means[-5], abs=1e-12))


def test_a_few_diverged_runs_leave_the_interquartile_mean_finite_and_many_do_not():
    values = np.zeros((4, 10))
    values[0, :9] = inf
    assert profiles.interquartile_mean(values).value == 0.0
    values[1] = inf
    assert profiles.interquartile_mean(values).value == inf


@given(NUMBERS, st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_probability_of_improvement_is_that_of_mann_and_whitney(values, seeds, random):
    ours = np.round(np.exp(values), 1)
    theirs = np.array([[random.choice(ours.ravel().tolist()) for _ in range(seeds)] for _ in ours])
    found = profiles.improvement(ours, theirs, draws=20)
    assert found.value == pytest.approx(slow_improvement(ours, theirs))
    below = [mannwhitneyu(right, left).statistic / (len(left) * len(right)) for left, right in zip(ours, theirs, strict=True)]
    assert found.value == pytest.approx(np.mean(below))


def test_the_interval_of_the_probability_of_improvement_is_that_of_the_slow_twin():
    random = np.random.default_rng(0)
    ours, theirs = random.random((3, 6)), random.random((3, 4))
    found = profiles.improvement(ours, theirs, draws=200)
    left, right = (pairs.resamples(count, strata=3, draws=200, seed=seed) for seed, count in enumerate([6, 4]))
    drawn = [
        slow_improvement(
            np.array([np.repeat(task, count) for task, count in zip(ours, left[draw], strict=True)]),
            np.array([np.repeat(task, count) for task, count in zip(theirs, right[draw], strict=True)]),
        )
        for draw in range(200)
    ]
    drawn.sort()
    assert found[1:] == pytest.approx((drawn[4], drawn[-5]))


@given(VALUES, st.integers(0, 99))
@settings(max_examples=20)
def test_the_win_matrix_holds_every_probability_of_improvement(values, seed):
    losses = np.random.default_rng(seed).permuted(np.repeat(values[..., None], 3, axis=-1), axis=1)
    found = profiles.win_matrix(losses)
    assert found + found.T == pytest.approx(np.ones_like(found))
    for row in range(losses.shape[1]):
        assert found[row, 0] == pytest.approx(slow_improvement(losses[:, row], losses[:, 0]))


def test_two_that_both_diverged_tie():
    assert profiles.improvement([[inf, inf]], [[inf, np.nan]]).value == 0.5


def test_intervals_depend_on_the_seed_and_on_nothing_else():
    values = np.random.default_rng(0).standard_normal((5, 10))
    assert profiles.interquartile_mean(values, seed=1) == profiles.interquartile_mean(values, seed=1)
    assert profiles.interquartile_mean(values, seed=1) != profiles.interquartile_mean(values, seed=2)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: profiles.ratios([1.0]), r"values must be of the shape \(tasks, rivals\).*got \(1,\)"),
        (lambda: profiles.scores(np.ones((0, 3))), "at least one of each"),
        (lambda: profiles.ratios([[-1.0]]), "values must be losses of 0 or more"),
        (lambda: profiles.scores([[1.0]], limit=1.0), "limit must be above 1"),
        (lambda: profiles.interquartile_mean([[np.nan]]), "none of them NaN"),
        (lambda: profiles.improvement([[1.0]], [[1.0], [2.0]]), "same tasks, got 1 and 2"),
        (lambda: profiles.win_matrix([[1.0]]), r"\(tasks, rivals, seeds\)"),
    ],
)
def test_bad_numbers_get_a_sentence(call, match):
    with pytest.raises(ValueError, match=match):
        call()
