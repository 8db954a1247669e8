"""Verdicts keep their promises: on copies, on planted losses, on runs that diverged, and about their own errors."""

from __future__ import annotations

from itertools import product
from math import exp, inf, log, log1p, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import stats
from surefoot.contest import headlines, pairs, verdicts
from surefoot.contest.verdicts import LABELS, task_verdict, verdict

GOOD = ("better", "equal")
LOSSES = st.lists(st.one_of(st.floats(1e-6, 1e6), st.just(inf)), min_size=2, max_size=12)
NAMES = {"candidate": "greedy", "regime": "E, untuned against tuned", "opponent": "tuned cosine"}


def noise(shape, *, deviation=0.01, seed=0):
    return np.exp(deviation * np.random.default_rng(seed).standard_normal(shape))


def slow_bounds(log_ratios, seed=0):
    """Every sample drawn, averaged and sorted by hand; one infinite sign outweighs all, and one of each leaves nothing."""
    means = []
    for counts in pairs.resamples(len(log_ratios), seed=seed)[:, 0]:
        drawn = [value for value, count in zip(log_ratios, counts, strict=True) for _ in range(count)]
        more = sum(value == inf for value in drawn) - sum(value == -inf for value in drawn)
        finite = sum(value for value in drawn if abs(value) < inf) / len(log_ratios)
        means.append(inf if more > 0 else -inf if more < 0 else finite)
    means.sort()
    return means[499], means[-500]


def slow_label(log_ratios):
    lower, upper = slow_bounds(log_ratios)
    if sum(value == inf for value in log_ratios) > sum(value == -inf for value in log_ratios):
        return "worse"
    if upper < 0.0:
        return "better"
    if upper < log(1.01):
        return "equal"
    return "worse" if lower > 0.0 else "inconclusive"


def tasks_of(**counts):
    """So many tasks of every label."""
    factor = {"better": 0.9, "equal": 1.0, "worse": 1.1}
    made = [
        task_verdict(np.full((1, 10), factor[label]), np.ones((1, 10))) for label in factor for _ in range(counts.get(label, 0))
    ]
    open_ones = [1.1] * 5 + [0.9] * 5
    return made + [task_verdict([open_ones], np.ones((1, 10))) for _ in range(counts.get("inconclusive", 0))]


@given(LOSSES)
@settings(max_examples=30)
def test_a_schedule_is_equal_to_its_copy(losses):
    found = verdict(losses, losses)
    assert (found.label, found.ratio, found.lower, found.upper, found.check) == ("equal", 1.0, 1.0, 1.0, "equal")
    assert found.both == sum(loss == inf for loss in losses)


@given(st.lists(st.tuples(st.floats(0.9, 1.1), st.floats(0.9, 1.1)), min_size=2, max_size=12), st.integers(-20, 20))
@settings(max_examples=30)
def test_a_verdict_does_not_care_about_the_units_of_the_loss(losses, power):
    ours, theirs = np.array(losses).T
    found, scaled = verdict(ours, theirs), verdict(ours * 2.0**power, theirs * 2.0**power)
    assert scaled.ratio == pytest.approx(found.ratio)
    assert scaled.upper == pytest.approx(found.upper)


@given(LOSSES, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_tables_turn_when_the_two_change_places(losses, random):
    others = random.sample(losses, len(losses))
    found, turned = verdict(losses, others), verdict(others, losses)
    assert (found.lost, found.gained, found.both) == (turned.gained, turned.lost, turned.both)
    with np.errstate(divide="ignore"):
        assert np.log([found.lower, found.upper]) == pytest.approx(-np.log([turned.upper, turned.lower]))


@given(st.lists(st.one_of(st.floats(-0.05, 0.05), st.just(inf), st.just(-inf)), min_size=2, max_size=8))
@settings(max_examples=6, deadline=None)
def test_bounds_and_labels_are_those_of_the_slow_twin(log_ratios):
    lower, upper = slow_bounds(log_ratios)
    found = pairs.bounds(np.array(log_ratios))
    assert (found.lower, found.upper) == (pytest.approx(lower, abs=1e-6), pytest.approx(upper, abs=1e-6))
    ours = [inf if value == inf else 1.0 if value == -inf else exp(value) for value in log_ratios]
    theirs = [inf if value == -inf else 1.0 for value in log_ratios]
    assert verdict(ours, theirs).label == slow_label(list(pairs.differences(ours, theirs)))


def test_no_row_depends_on_its_neighbours():
    rows = np.log(noise((450, 10)))
    together = np.array(pairs.bounds(rows))
    apart = np.array([pairs.bounds(row) for row in rows]).T
    assert together == pytest.approx(apart, abs=1e-12)


def test_the_bounds_of_students_t_are_those_of_the_tables():
    found = pairs.t_bounds(np.array([1.0, 2.0, 3.0, 4.0]))
    assert (found.mean, found.upper) == (2.5, pytest.approx(2.5 + 2.353 * 1.291 / 2, abs=1e-3))


def test_a_planted_three_percent_is_found_and_never_passes():
    found = [verdict(1.03 * noise(10, seed=seed), noise(10, deviation=0.0)).label for seed in range(300)]
    assert found.count("worse") / len(found) > 0.99
    assert sum(label in GOOD for label in found) == 0


def test_a_planted_three_percent_passes_seldom_even_where_runs_scatter():
    found = [verdict(1.03 * noise(10, deviation=0.04, seed=seed), np.ones(10)).label for seed in range(500)]
    assert sum(label in GOOD for label in found) / len(found) < 0.05


@pytest.mark.parametrize(("seeds", "low", "high"), [(10, 0.065, 0.09), (5, 0.09, 0.12)])
def test_the_error_of_the_bootstrap_is_the_one_that_is_printed(seeds, low, high):
    found = pairs.bounds(np.random.default_rng(1).standard_normal((2000, seeds)))
    assert low < (found.upper < 0.0).mean() < high


@pytest.mark.parametrize("seeds", [5, 10])
def test_students_t_errs_as_often_as_it_says(seeds):
    found = pairs.t_bounds(np.random.default_rng(1).standard_normal((20_000, seeds)))
    assert (found.upper < 0.0).mean() == pytest.approx(0.05, abs=0.006)


def test_what_is_proved_to_be_worse_by_less_than_the_margin_is_equal_and_behind():
    found = verdict(np.full(10, 1.005) * noise(10, deviation=1e-4), np.ones(10))
    assert (found.label, found.is_behind) == ("equal", True)


@pytest.mark.parametrize(("value", "label"), [(nan, "worse"), (inf, "worse"), (1.0, "equal")])
def test_one_run_that_diverged_alone_is_worse_whatever_the_others_say(value, label):
    ours = np.array([value, *[0.5] * 9]) if label == "worse" else np.ones(10)
    found = verdict(ours, np.ones(10))
    assert (found.label, found.check, found.lost) == (label, label, int(label == "worse"))


def test_one_run_of_theirs_that_diverged_proves_nothing_but_many_do():
    theirs = np.ones(10)
    theirs[0] = inf
    assert verdict(np.full(10, 1.02), theirs).label in {"worse", "inconclusive"}
    theirs[:4] = inf
    found = verdict(np.full(10, 1.02), theirs)
    assert (found.label, found.ratio, found.gained) == ("better", 0.0, 4)


def test_as_many_divergences_on_either_side_are_inconclusive():
    ours, theirs = np.ones(10), np.ones(10)
    ours[0] = theirs[1] = inf
    assert verdict(ours, theirs).label == "inconclusive"


def test_zero_losses_tie():
    found = verdict([0.0, 0.0, 1e-20], [0.0, 1e-30, 0.0])
    assert (found.label, found.ratio) == ("equal", 1.0)


def test_the_largest_ratio_of_floats_is_finite_in_its_logarithm_and_no_divergence():
    found = verdict([1e308, 1e308], [0.0, 0.0])
    assert (found.label, found.lost) == ("worse", 0)


@pytest.mark.parametrize(
    ("ours", "theirs", "match"),
    [
        ([1.0, -1.0], [1.0, 1.0], "ours must be losses of 0 or more.* got -1"),
        ([1.0, 1.0], [1.0, -inf], "theirs must be losses of 0 or more.* got -inf"),
        ([1.0, 1.0], [1.0, 1.0, 1.0], r"must be pairs.*got \(2,\) and \(3,\)"),
        ([1.0], [1.0], r"one per seed, 2 or more, got arrays of the shape \(1,\)"),
        ([], [], "2 or more"),
    ],
)
def test_bad_losses_get_a_sentence(ours, theirs, match):
    with pytest.raises(ValueError, match=match):
        verdict(ours, theirs)


def test_a_task_is_judged_by_the_mean_of_its_cells_seed_by_seed():
    ours, theirs = noise((2, 10), seed=1), noise((2, 10), seed=2)
    whole = task_verdict(ours, theirs).whole
    alone = verdict(np.sqrt(ours[0] * ours[1]), np.sqrt(theirs[0] * theirs[1]))
    assert whole.label == alone.label
    assert (whole.lower, whole.ratio, whole.upper) == pytest.approx((alone.lower, alone.ratio, alone.upper))
    assert whole.deviation == pytest.approx(alone.deviation)


def test_the_cells_of_a_task_are_judged_as_they_would_be_alone():
    ours, theirs = noise((2, 10), seed=1), noise((2, 10), seed=2)
    ours[1] *= 1.05
    found = task_verdict(ours, theirs)
    alone = [verdict(left, right) for left, right in zip(ours, theirs, strict=True)]
    assert [cell.label for cell in found.cells] == [cell.label for cell in alone]
    assert [cell.upper for cell in found.cells] == pytest.approx([cell.upper for cell in alone])


@pytest.mark.parametrize(("first", "second"), [*product([0.9, 1.0, 1.1], repeat=2)])
def test_the_strict_label_is_that_of_the_worst_cell(first, second):
    found = task_verdict(np.array([[first] * 5, [second] * 5]), np.ones((2, 5)))
    expected = {0.9: "better", 1.0: "equal", 1.1: "worse"}[max(first, second)]
    assert found.strict == expected
    assert found.label == found.whole.label


def test_a_cell_that_diverged_alone_sinks_its_task():
    ours = np.full((2, 10), 0.5)
    ours[1, 3] = inf
    assert task_verdict(ours, np.ones((2, 10))).label == "worse"


def test_a_task_needs_cells_and_seeds():
    with pytest.raises(ValueError, match=r"by cell and seed.*\(3,\)"):
        task_verdict([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])


@pytest.mark.parametrize(("tasks", "losses"), [(29, 0), (46, 1), (61, 2), (76, 3)])
def test_a_claim_needs_exactly_as_many_tasks_as_clopper_and_pearson_say(tasks, losses):
    assert stats.clopper_pearson_lower(tasks - losses, tasks) > 0.9
    assert stats.clopper_pearson_lower(tasks - 1 - losses, tasks - 1) <= 0.9


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (3, 5), (5, 5), (35, 38), (70, 76)])
def test_the_lower_bound_is_that_of_the_beta_distribution(hits, count):
    from scipy.stats import binomtest

    expected = binomtest(hits, count, alternative="greater").proportion_ci(0.95, method="exact").low
    assert stats.clopper_pearson_lower(hits, count) == pytest.approx(expected, abs=1e-9)


def test_a_headline_that_is_reached_says_so():
    found = headlines.headline(tasks_of(better=1, equal=28), **NAMES)
    assert found.is_proved
    assert found.sentence == (
        "E, untuned against tuned: greedy vs tuned cosine, 10 seeds: equal or better on more than 90% of tasks: "
        "29/29 = 100.0% (95% lower bound 90.1%); 1 better, 28 equal, 0 inconclusive, 0 worse; 29/29 by Student's t; "
        "29/29 in every cell."
    )


def test_a_headline_that_is_not_reached_says_how_much():
    found = headlines.headline(tasks_of(better=3, equal=32, inconclusive=2, worse=1), **NAMES)
    assert not found.is_proved
    assert (found.better, found.equal, found.inconclusive, found.worse, found.tasks) == (3, 32, 2, 1, 38)
    assert found.figure == "35/38 = 92.1% (95% lower bound 80.8%)"
    assert "equal or better on 35/38 = 92.1% (95% lower bound 80.8%) of tasks; 3 better" in found.sentence


def test_headlines_of_a_regime_are_one_sentence_in_brief():
    proved = headlines.headline(tasks_of(better=1, equal=28), **NAMES)
    other = headlines.headline(tasks_of(equal=28, worse=1), **NAMES | {"opponent": "tuned linear"})
    assert headlines.in_brief([proved, other]) == (
        "E, untuned against tuned: greedy is equal or better on more than 90% of tasks: 29/29 = 100.0% (95% lower bound 90.1%) "
        "vs tuned cosine, and on 28/29 = 96.6% (95% lower bound 84.6%) of tasks vs tuned linear."
    )


def test_a_quick_look_claims_nothing():
    tasks = [task_verdict(np.ones((2, 5)), np.ones((2, 5)))] * 38
    found = headlines.headline(tasks, **NAMES)
    assert found.bound > 0.9
    assert not found.is_proved
    assert "makes no claim" in found.sentence


def test_a_headline_tells_what_its_hits_rest_on():
    behind = task_verdict(np.full((1, 10), 1.005), np.ones((1, 10)))
    diverged = task_verdict([[inf] * 10], [[inf] * 10])
    found = headlines.headline([behind, diverged], **NAMES)
    assert (found.equal, found.behind, found.diverged) == (2, 1, 1)
    assert "1 of the equal behind by less than 1%; 1 with pairs in which both diverged" in found.sentence


@pytest.mark.parametrize(("counts", "came"), [((), "none"), ((5, 10), "5 and 10")])
def test_a_headline_counts_tasks_of_one_number_of_seeds(counts, came):
    with pytest.raises(ValueError, match=f"same number of seeds, got {came}"):
        headlines.headline([task_verdict(np.ones((1, n)), np.ones((1, n))) for n in counts], **NAMES)


def test_most_copies_with_noise_are_equal_or_better_and_none_is_proved_from_ten_tasks():
    tasks = [task_verdict(noise((2, 10), seed=seed), noise((2, 10), seed=seed + 1000)) for seed in range(10)]
    assert not headlines.headline(tasks, **NAMES).is_proved


def test_the_best_baseline_is_the_one_that_diverged_least_and_then_the_lowest():
    tuning = [[[0.1, inf, 0.1], [0.5, 0.5, 0.5], [0.4, 0.5, 0.4]], [[inf] * 3, [inf] * 3, [inf, inf, 9.0]]]
    assert verdicts.best_baseline(tuning).tolist() == [2, 2]


@given(st.lists(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3), min_size=1, max_size=6))
def test_the_best_baseline_has_the_lowest_geometric_mean(tuning):
    means = [sum(log(loss) for loss in losses) for losses in tuning]
    assert means[int(verdicts.best_baseline(tuning))] == pytest.approx(min(means))


def test_labels_stand_from_best_to_worst_and_the_margin_is_one_percent():
    assert LABELS == ("better", "equal", "inconclusive", "worse")
    assert log1p(verdicts.MARGIN) == pytest.approx(log(1.01))
