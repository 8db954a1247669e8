"""Many trainings at once: what every fleet keeps to, and the loop that drives it."""

from __future__ import annotations

import copy
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import EXAMPLES
from surefoot import Constant, Cosine, Greedy
from surefoot.catalogue import problem
from surefoot.fleet import OneByOne, as_rates, fleet
from surefoot.loop import drive, train

pytest.importorskip("torch")
pytest.importorskip("sklearn")

FLEETS = {
    "wine-mlp": lambda: fleet(problem("wine-mlp")),
    "wine-mlp one by one": lambda: OneByOne(problem("wine-mlp")),
    "digits-nmf": lambda: fleet(problem("digits-nmf")),
}
every_fleet = pytest.mark.parametrize("made", [make() for make in FLEETS.values()], ids=FLEETS)


def losses(together, seeds, rates, steps=5, spoil=None):
    """The losses of every step, shape (steps, runs)."""
    runs, seen = together.init(seeds), []
    for step in range(steps):
        now = np.array(rates, dtype=float)
        if spoil is not None and step == 1:
            now[spoil] = 1e30
        runs, signals = together.step(runs, now)
        seen.append(np.array(signals["loss"]))
    return np.array(seen)


@every_fleet
def test_every_run_is_the_one_that_the_problem_trains_alone(made):
    alone = made.problem if isinstance(made, OneByOne) else problem(made.name)
    together = losses(made, [3, 0, 3], made.base * np.array([1.0, 0.5, 0.2]))
    for place, (seed, scale) in enumerate([(3, 1.0), (0, 0.5), (3, 0.2)]):
        run = alone.init(seed)
        for step in range(5):
            run, signals = alone.step(run, made.base * scale)
            assert together[step, place] == pytest.approx(signals["loss"], rel=1e-5)


@every_fleet
def test_a_fleet_shows_the_budget_and_rate_of_its_problem(made):
    alone = problem(made.name)
    assert (made.optimizer, made.base, made.steps, made.revision) == (alone.optimizer, alone.base, alone.steps, alone.revision)


@pytest.mark.parametrize("made", [FLEETS[name]() for name in list(FLEETS)[:2]], ids=list(FLEETS)[:2])
def test_a_run_that_diverges_is_marked_and_changes_no_bit_of_the_others(made):
    healthy = losses(made, range(4), [made.base] * 4, steps=8)
    spoilt = losses(made, range(4), [made.base] * 4, steps=8, spoil=2)
    others = [0, 1, 3]
    assert np.array_equal(healthy[:, others], spoilt[:, others])
    end = int(np.argmax(~np.isfinite(spoilt[:, 2])))
    assert 1 < end < 7
    assert np.isnan(spoilt[end + 1 :, 2]).all()


@pytest.mark.parametrize("made", [FLEETS[name]() for name in list(FLEETS)[:2]], ids=list(FLEETS)[:2])
def test_the_held_out_loss_of_a_diverged_run_is_nan_and_the_others_have_theirs(made):
    runs = made.init([0, 1])
    for _ in range(6):
        runs, _ = made.step(runs, np.array([made.base, 1e30]))
    first, second = made.held_out(runs)
    assert np.isfinite(first)
    assert np.isnan(second)


@every_fleet
def test_evaluating_a_fleet_leaves_it_as_it_is(made):
    runs = made.init([0, 1])
    assert np.array_equal(made.held_out(runs), made.held_out(runs))
    _, signals = made.step(runs, np.full(2, made.base))
    assert np.array_equal(signals["loss"], losses(made, [0, 1], [made.base] * 2, steps=1)[0])


@every_fleet
def test_a_fleet_can_be_copied_and_goes_on_alike(made):
    runs, _ = made.step(made.init([0, 1]), np.full(2, made.base))
    twin = copy.deepcopy(runs)
    for _ in range(3):
        runs, expected = made.step(runs, np.full(2, made.base))
        twin, found = made.step(twin, np.full(2, made.base))
        assert np.array_equal(expected["loss"], found["loss"])


@every_fleet
def test_a_restarted_run_begins_afresh_and_the_others_go_on(made):
    runs, rates = made.init([0, 1, 2]), np.full(3, made.base)
    for _ in range(3):
        runs, _ = made.step(runs, rates)
    runs, seen = made.restart(runs, [1], [7]), []
    for _ in range(4):
        runs, signals = made.step(runs, rates)
        seen.append(np.array(signals["loss"]))
    fresh, old = losses(made, [7], rates[:1], steps=4), losses(made, [0, 1, 2], rates, steps=7)
    np.testing.assert_allclose(np.array(seen)[:, 1], fresh[:, 0], rtol=1e-5)
    assert np.array_equal(np.array(seen)[:, [0, 2]], old[3:, [0, 2]])


def test_a_diverged_run_that_is_restarted_is_healthy_again():
    made = FLEETS["wine-mlp"]()
    runs = made.init([0, 1])
    for _ in range(5):
        runs, _ = made.step(runs, np.array([1e30, made.base]))
    runs, signals = made.step(made.restart(runs, [0], [0]), np.full(2, made.base))
    assert signals["loss"][0] == losses(made, [0, 1], [made.base] * 2, steps=1)[0, 0]


def test_a_fleet_is_its_own_fleet():
    made = FLEETS["wine-mlp"]()
    assert fleet(made) is made


@pytest.mark.parametrize("policy", EXAMPLES, ids=str)
def test_every_policy_drives_a_fleet_as_it_drives_each_run(policy):
    wines = problem("wine-mlp")
    together = list(train(wines, policy, seeds=[0, 1], base=[0.01, 0.1], steps=12))
    for i, base in enumerate([0.01, 0.1]):
        for seed in (0, 1):
            for row, alone in zip(together, train(wines, policy, seed=seed, base=base, steps=12), strict=True):
                assert row.loss[i, seed] == pytest.approx(alone.loss, rel=1e-5, abs=1e-6)
                assert row.rate[i, seed] == pytest.approx(alone.rate, rel=1e-5)


def test_one_base_rate_gives_rows_of_one_loss_per_seed():
    (row,) = train(problem("wine-mlp"), Constant(), seeds=range(5), steps=1)
    assert (row.step, row.loss.shape, row.rate.tolist()) == (0, (5,), [0.01] * 5)


def test_a_list_of_base_rates_gives_a_grid_whose_columns_are_paired():
    (row,) = train(problem("wine-mlp"), Constant(0.5), seeds=range(3), base=[0.1, 0.2], steps=1)
    assert row.rate.tolist() == [[0.05] * 3, [0.1] * 3]
    assert np.array_equal(row.loss[0], row.loss[1])
    (row,) = train(problem("wine-mlp"), Constant(), seeds=range(3), base=[0.1], steps=1)
    assert row.loss.shape == (1, 3)


def test_a_run_that_diverges_in_a_grid_is_nan_from_then_on_and_the_others_go_on():
    rows = list(train(problem("wine-mlp"), Constant(), seeds=[0, 1], base=[0.01, 1e36], steps=12))
    assert len(rows) == 12
    table = np.array([row.loss for row in rows])
    assert np.isfinite(table[:, 0]).all()
    assert np.isnan(table[-1, 1]).all()
    assert np.isnan(rows[-1].rate[1]).all()


def test_a_grid_in_which_every_run_has_diverged_ends():
    assert len(list(train(problem("wine-mlp"), Constant(), seeds=[0, 1], base=1e36, steps=100))) < 10


def test_a_rate_that_overflows_costs_its_own_run_and_no_other():
    rows = list(train(problem("wine-mlp"), Constant(10.0), seeds=[0], base=[1e308, 1e-3], steps=8))
    assert rows[0].rate.tolist() == [[inf], [1e-2]]
    assert np.isnan(rows[-1].loss[0, 0])
    assert np.isfinite(rows[-1].loss[1, 0])


def test_held_out_losses_of_a_grid_come_when_they_are_asked_for():
    seen = []
    wines = problem("wine-mlp")
    rows = train(
        wines,
        Greedy(),
        seeds=[0, 1],
        base=[0.01, 1e36],
        steps=9,
        evaluate=lambda step, found: seen.append((step, found)),
        evaluate_at=frozenset({3, 9}),
    )
    assert len(list(rows)) == 9
    assert [step for step, _ in seen] == [3, 9]
    assert seen[-1][1].shape == (2, 2)
    assert np.isfinite(seen[-1][1][0]).all()
    assert np.isnan(seen[-1][1][1]).all()


def test_several_policies_drive_one_fleet_each_its_own_runs():
    wines = problem("wine-mlp")
    crews = [(Greedy(factor=0.5, patience=0, window=1), 2), (Cosine(steps=6), 1)]
    rows = list(drive(fleet(wines), crews, np.full(3, 0.02), [0, 1, 0], 6))
    for place, (policy, seed) in enumerate([(crews[0][0], 0), (crews[0][0], 1), (crews[1][0], 0)]):
        alone = list(train(wines, policy, seed=seed, base=0.02, steps=6))
        np.testing.assert_allclose([row.rate[place] for row in rows], [row.rate for row in alone], rtol=1e-6)


@given(st.lists(st.floats(0.0, 1e300), min_size=1, max_size=5))
@settings(max_examples=30)
def test_sound_rates_are_taken_as_they_are(rates):
    assert as_rates(rates, len(rates)).tolist() == rates


@every_fleet
@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([0.1], r"rates must be a vector with one entry for each of 2 runs, got the shape \(1,\)"),
        (np.full((2, 1), 0.1), r"one entry for each of 2 runs, got the shape \(2, 1\)"),
        (0.1, r"one entry for each of 2 runs, got the shape \(\)"),
        ([0.1, -0.1], "rates must be finite and 0 or more, got -0.1 for run 1"),
        ([nan, 0.1], "rates must be finite and 0 or more, got nan for run 0"),
        ([0.1, inf], "rates must be finite and 0 or more, got inf for run 1"),
    ],
)
def test_rates_that_make_no_sense_are_refused(made, rates, message):
    with pytest.raises(ValueError, match=message):
        made.step(made.init([0, 1]), rates)


@every_fleet
def test_a_fleet_without_seeds_is_refused(made):
    with pytest.raises(ValueError, match="seeds must name at least one run, got none"):
        made.init([])


@every_fleet
def test_a_restart_without_a_seed_for_each_place_is_refused(made):
    with pytest.raises(ValueError, match="a restart needs one seed for each of its places, got 1 seeds for places"):
        made.restart(made.init([0, 1]), [0, 1], [3])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": []}, "seeds must name at least one run"),
        ({"seeds": [0, -1]}, "seeds must be a whole number, 0 or more, got -1"),
        ({"seeds": [0], "steps": 0}, "steps must be a whole number, 1 or more, got 0"),
        ({"seeds": [0], "base": []}, "base must name at least one rate, got none"),
        ({"seeds": [0], "base": [0.1, -1.0]}, "base must be finite and 0 or more, got -1.0"),
        ({"seeds": [0], "base": [nan]}, "base must be finite and 0 or more, got nan"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        train(problem("wine-mlp"), Constant(), **given)


def test_a_grid_of_rates_for_a_single_run_is_refused():
    with pytest.raises(TypeError, match=r"base must be a number, got \[0.1, 0.2\]"):
        train(problem("wine-mlp"), Constant(), base=[0.1, 0.2])
