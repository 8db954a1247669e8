"""How soon a run is good, and how far pairs scatter: against slow twins, and in the rows of a study made up."""

from __future__ import annotations

from itertools import pairwise
from math import inf, isfinite, isnan, nan
from statistics import median, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from surefoot.contest import charts, progress, scatter
from surefoot.contest.cells import QUICK
from surefoot.contest.outcome import Outcome
from surefoot.contest.rivals import pick
from surefoot.contest.rows import ContestRow
from surefoot.contest.study import Study, study_of

LOSSES = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 6)),
    elements=st.one_of(st.floats(0.01, 10.0), st.just(inf), st.just(nan)),
)


def slow_steps_to(target, losses, steps):
    for loss, step in zip(losses, steps, strict=True):
        if loss <= target:
            return step
    return inf


def slow_area(losses, steps):
    if any(not isfinite(loss) for loss in losses):
        return inf
    if len(steps) == 1:
        return losses[0]
    whole = 0.0
    for (before, left), (after, right) in pairwise(zip(steps, losses, strict=True)):
        whole += (after - before) * (left + right) / 2.0
    return whole / (steps[-1] - steps[0])


def steps_of(count):
    """Unevenly spaced, as those of a small budget are."""
    return [3 * place + place * place for place in range(1, count + 1)]


@given(LOSSES, st.floats(0.01, 10.0))
@settings(max_examples=80)
def test_steps_to_a_target_are_those_of_the_slow_twin(losses, target):
    steps = steps_of(losses.shape[1])
    assert progress.steps_to(target, losses, steps).tolist() == [slow_steps_to(target, row, steps) for row in losses.tolist()]


@given(LOSSES)
@settings(max_examples=80)
def test_areas_are_those_of_the_slow_twin(losses):
    steps = steps_of(losses.shape[1])
    assert progress.area(losses, steps).tolist() == pytest.approx([slow_area(row, steps) for row in losses.tolist()])


@given(LOSSES)
@settings(max_examples=30)
def test_a_lower_target_is_never_reached_sooner(losses):
    steps = steps_of(losses.shape[1])
    assert (progress.steps_to(0.5, losses, steps) >= progress.steps_to(1.0, losses, steps)).all()


def test_an_area_is_a_mean_loss_and_lies_between_the_lowest_and_the_highest():
    assert progress.area([2.0, 2.0, 2.0], [10, 20, 45]) == 2.0
    assert 1.0 < progress.area([4.0, 2.0, 1.0], [10, 20, 45]) < 4.0


@pytest.fixture(scope="module")
def made():
    """A study in which wsd ends a bit above cosine, and constant diverges from one seed."""
    study = Study(study_of(quick=True, tasks=["digits-mlp"]).tasks, pick(["constant", "cosine", "wsd"]), QUICK)
    rows = {}
    for cell, task in study.cells():
        rows[cell] = own = {}
        for entry in study.entries(cell, task):
            while wanted := QUICK.wanted(entry.rival, entry.grid, own):
                for run in wanted:
                    own[run.key] = row_of(run)
    return Outcome(study, rows)


def row_of(run):
    random = np.random.default_rng(run.key.seed)
    shared, end = float(np.exp(0.1 * random.standard_normal())), {"cosine": 1.0, "wsd": 1.01, "constant": 1.1}[run.key.rival]
    own = float(np.exp(0.02 * np.random.default_rng(run.key.seed + len(run.key.rival)).standard_normal()))
    final = inf if (run.key.rival, run.key.seed) == ("constant", 80_001) else shared * own * end
    curve = (*(final * (1.0 + 2.0 / place) for place in range(1, 20)), final)
    beyond = [final, final] if run.is_long else [nan, nan]
    return ContestRow(run.key, final, *beyond, curve if run.is_watched else (), (0.1,) * 20 if run.is_watched else ())


def test_the_target_of_a_cell_is_a_little_above_the_median_end_of_tuned_cosine(made):
    for cell, target in progress.targets(made).items():
        assert target == pytest.approx(1.02 * median(row.final for row in made.rows(cell, "cosine", "tuned")))


def test_steps_to_the_target_are_counted_from_the_losses_on_the_way(made):
    (cell, found), *_ = progress.steps_to_target(made, "wsd").items()
    steps = [6 * place for place in range(1, 21)]  # A budget of 120.
    target = progress.targets(made)[cell]
    assert found.tolist() == [slow_steps_to(target, row.curve, steps) for row in made.rows(cell, "wsd", "tuned")]


def test_a_run_that_diverged_misses_the_target_and_has_an_infinite_area(made):
    for numbers in (progress.steps_to_target(made, "constant"), progress.areas(made, "constant")):
        assert all(found[1] == inf for found in numbers.values())


def test_the_profile_of_steps_ranks_who_misses_last(made):
    scores = charts.scores(made, "steps")
    assert scores["cosine"][1] >= scores["constant"][1]
    assert {count for count, _ in scores.values()} == {2}


def test_a_paired_deviation_is_that_of_the_verdict_and_of_the_slow_twin(made):
    (task,) = made.study.tasks
    found = scatter.deviations(made, "wsd")[task.name]
    assert found == pytest.approx(made.verdicts("wsd", "cosine", "A")[task.name].whole.deviation)
    pair = made.pairs("wsd", "cosine", "A")[task.name]
    assert found == pytest.approx(stdev(np.log(pair.ours / pair.theirs).mean(axis=0).tolist()))


def test_a_pair_that_diverged_is_left_out_of_the_deviation_and_too_few_leave_none(made):
    pair = made.pairs("constant", "cosine", "A")["digits-mlp"]
    logs = np.log(np.delete(pair.ours / pair.theirs, 1, axis=1)).mean(axis=0)
    assert scatter.deviations(made, "constant")["digits-mlp"] == pytest.approx(stdev(logs.tolist()))
    gone = {
        cell: {key: row._replace(final=inf) if key.rival == "constant" else row for key, row in rows.items()}
        for cell, rows in made.there.items()
    }
    assert isnan(scatter.deviations(Outcome(made.study, gone), "constant")["digits-mlp"])


def test_the_typical_deviation_is_the_median_over_rivals(made):
    every = [scatter.deviations(made, name)["digits-mlp"] for name in ("constant", "wsd")]
    assert scatter.typical(made) == {"digits-mlp": pytest.approx(median(every))}
    assert scatter.small([0.01, 0.02, nan]) == 1
