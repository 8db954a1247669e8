"""Policies learned from runs that are there already, and ones that adapt to a problem."""

import json
from dataclasses import replace
from functools import partial
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from policy_files import made
from surefoot import Constant, Learned, Linear, WarmupStableDecay, train
from surefoot.cli import app
from surefoot.control import Control
from surefoot.features import Features
from surefoot.learn.adapt import Adaptation, adapt, gain_of
from surefoot.learn.awr import Regression, constant, from_store, returns
from surefoot.learn.explored import Explored
from surefoot.learn.logs import replays
from surefoot.runs import Run, Store, Trial
from surefoot.spec import to_dict
from surefoot.tasks import random_factorisations

STEPS = 60
PROBLEM = random_factorisations(steps=STEPS, eigenvalues="collatz")
QUICK = Regression(control=partial(constant, window=5), passes=2, unlimited=False)


def kept(policy, rate, seed, rows, held_out=()):
    """A run as a store has it."""
    trial = Trial(PROBLEM.name, 1, "sgd", to_dict(policy), rate, STEPS, 1, seed, "")
    loss, rates = (np.array(values, np.float32) for values in zip(*rows, strict=True))
    final = np.array(held_out, np.float32)
    status = "finished" if len(loss) == STEPS and np.isfinite(loss).all() else "diverged"
    return Run(trial, loss, rates, np.full(len(final), STEPS, np.float32), final, status, 0.0)


def made_up(rate, seed, *, fall=0.98, schedule=None):
    """A run whose loss falls, at a constant rate or along a schedule."""
    scales = [1.0] * STEPS if schedule is None else schedule
    return kept(Constant(), rate, seed, [(4.0 * fall**step, rate * scale) for step, scale in enumerate(scales)])


@pytest.fixture(scope="module")
def logged():
    """Ordinary schedules at random rates: twelve runs of each of ten seeds."""
    policies = [Constant(), Linear(steps=STEPS), WarmupStableDecay(steps=STEPS, warmup=0.0)]
    rates = 0.01 * 100.0 ** np.random.default_rng(0).random(4)
    runs = []
    for policy in policies:
        final = []
        rows = list(
            train(
                PROBLEM,
                policy,
                base=rates.tolist(),
                seeds=range(100, 110),
                evaluate=lambda _, losses, final=final: final.append(losses),
                evaluate_at=frozenset([STEPS]),
            )
        )
        for at, rate in enumerate(rates.tolist()):
            for place in range(10):
                pairs = [(row.loss[at, place], row.rate[at, place]) for row in rows]
                runs.append(kept(policy, rate, 100 + place, pairs, [final[0][at, place]]))
    return runs


@settings(max_examples=10, deadline=None)
@given(rates=st.lists(st.floats(0.5, 2.0), min_size=STEPS, max_size=STEPS))
def test_what_is_seen_in_a_log_is_what_a_live_policy_sees(rates):
    run = made_up(1.0, 0, schedule=[1.0, *rates[1:]])
    control = constant(STEPS, window=7)
    (found,) = replays([run, run], lambda _: control)
    state, views = control.init(), []
    for loss, rate in zip(run.loss, run.rate, strict=True):
        if control.due(state):
            views.append(control.view(state))
            state = control.act(state, 0.0)
        state = control.update(state, float(loss), scale=float(rate))
    np.testing.assert_allclose(found.view[found.run == 0], views, atol=1e-5)


def test_an_action_is_the_change_against_the_schedule():
    doubling = [2.0 ** (step // 10) for step in range(STEPS)]
    plain = Control(Features(window=10), rise=4.0)
    (found,) = replays([made_up(0.1, 0, schedule=doubling)], lambda _: plain)
    np.testing.assert_allclose(found.own().action, [0.0, 0.5, 0.5, 0.5, 0.5, 0.5], atol=1e-6)


def test_following_the_schedule_is_no_action():
    linear = Linear(steps=STEPS)
    state, scales = linear.init(), []
    for _ in range(STEPS):
        scales.append(state.scale)
        state = linear.update(state, 1.0)
    (found,) = replays([made_up(0.1, 0, schedule=scales)], lambda _: Control(Features(window=10), linear))
    np.testing.assert_allclose(found.own().action, 0.0, atol=1e-5)


def test_a_crossed_action_leads_to_the_other_rate():
    runs = [made_up(0.1, 7), made_up(0.2, 7, schedule=[0.5] + [1.0] * (STEPS - 1))]
    (found,) = replays(runs, lambda _: Control(Features(window=10), rise=4.0))
    crossed = found.crossed(8, np.random.default_rng(0))
    assert {0.0, 0.5} <= set(np.abs(crossed.action).round(2).tolist())


def test_runs_from_other_bases_are_reached_as_well():
    runs = [made_up(0.1, 7), made_up(0.4, 7)]
    (found,) = replays(runs, lambda _: Control(Features(window=10), rise=16.0, cut=4.0))
    assert set(found.crossed(8, np.random.default_rng(0)).action.round(3).tolist()) == {-1.0, 0.0, 0.5}


def test_runs_of_different_seeds_are_never_crossed():
    (found,) = replays([made_up(0.1, 7), made_up(0.2, 8)], lambda _: Control(Features(window=10)))
    assert len(found.crossed(3, np.random.default_rng(0)).action) == 0
    assert found.alone().all()


def test_the_better_run_has_the_merit_and_a_diverged_one_has_none():
    gone = kept(Constant(), 3.0, 7, [(4.0, 3.0), (inf, 3.0)])
    (found,) = replays([made_up(0.1, 7), made_up(0.2, 7, fall=0.9), gone], lambda _: Control(Features(window=10)))
    slow, fast, diverged = found.merits()
    assert fast > slow > diverged
    assert found.own().reward[found.run == 2].tolist() == [-3.0]


@settings(max_examples=30)
@given(st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=20), st.floats(0.0, 1.0))
def test_what_follows_is_the_reward_and_what_follows_then(rewards, discount):
    found = returns(np.array(rewards), np.zeros(len(rewards), int), discount)
    np.testing.assert_allclose(found, np.array(rewards) + discount * np.append(found[1:], 0.0), atol=1e-9)


def test_the_same_runs_make_the_same_policy(logged):
    some = logged[::4]
    (one, told), (other, _) = from_store(some, QUICK), from_store(some, QUICK)
    assert all(
        np.array_equal(a, b)
        for one_layer, other_layer in zip(one.layers, other.layers, strict=True)
        for a, b in zip(one_layer, other_layer, strict=True)
    )
    assert told["runs"] == 30
    assert told["paired"] == told["decisions"]


def test_a_policy_that_sees_gradients_needs_runs_that_kept_them(logged):
    with pytest.raises(ValueError, match="no alignment and no relative_step"):
        from_store(logged, replace(QUICK, control=partial(constant, tier="gradient")))


def test_there_must_be_something_to_learn_from():
    with pytest.raises(ValueError, match="got none"):
        from_store([], QUICK)


def test_it_beats_copying_what_was_done(logged):
    """From rates far too low, it ends well below a clone of the runs' average behaviour."""
    from surefoot.episodes import Episodes, Task
    from surefoot.fleet import fleet

    control = constant(STEPS, window=5)
    ends = []
    for how in (replace(QUICK, passes=8), replace(QUICK, passes=8, partners=0, temperature=inf)):
        network, _ = from_store(logged, how)
        episodes = Episodes(Task(fleet(PROBLEM), control, STEPS, (0.04, 0.04)), 32)
        episodes.begin(range(32), range(32))
        awake = np.ones(32, bool)
        while awake.any():
            outcome = episodes.advance(np.clip(network(episodes.view().T), -1.0, 1.0), awake)
            awake &= ~(outcome.is_over | outcome.has_diverged)
        ends.append(np.mean(episodes.held_out()))
    assert ends[0] < ends[1] - 0.1


def test_a_policy_from_a_store_is_written_by_the_command(logged, tmp_path):
    with Store(tmp_path / "runs.sqlite") as store:
        for run in logged[::4]:
            store.add(run)
    words = ["learn", "--from", str(tmp_path / "runs.sqlite"), "--name", "mine", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["found"]["runs"] == 30
    assert Learned(str(tmp_path / "mine"), steps=STEPS).init().scale > 0.0


def test_learning_needs_either_a_lesson_or_a_store():
    done = CliRunner().invoke(app, ["learn"])
    assert done.exit_code == 2
    assert "exactly one of --on" in done.output


def test_a_shift_and_its_opposite_cancel(tmp_path):
    name = made(tmp_path)
    there, back = Explored(name, STEPS, 4), Explored(name, STEPS, 4, -1.0)
    np.testing.assert_allclose(np.add(there.shifts(), back.shifts()), 0.0)
    plain = Explored(name, STEPS, 4, opening=0.0, drift=0.0)
    assert plain.init().scale == Learned(name, steps=STEPS).init().scale


def test_without_shifts_it_is_the_policy_itself(tmp_path):
    name = made(tmp_path)
    policy, plain = Learned(name, steps=STEPS), Explored(name, STEPS, 4, opening=0.0, drift=0.0)
    mine, theirs = plain.init(), policy.init()
    for step in range(20):
        loss = 3.0 * 0.9**step
        mine, theirs = plain.update(mine, loss), policy.update(theirs, loss)
        assert mine.scale == pytest.approx(theirs.scale)


@given(st.lists(st.floats(0.1, 10.0), min_size=3, max_size=12))
def test_a_policy_gains_nothing_over_itself(losses):
    found = gain_of(losses, losses)
    assert (found.ratio, found.low, found.high, found.is_shown) == (1.0, 1.0, 1.0, False)


def test_a_run_that_diverges_counts_against_whoever_made_it():
    assert gain_of([1.0, 1.0, 1.0], [1.0, 1.0, nan]).ratio > 1.0
    assert gain_of([1.0, nan, 1.0], [1.0, nan, 1.0]).ratio == 1.0


def test_an_adaptation_goes_on_where_it_was_stopped(tmp_path):
    name, usual = made(tmp_path, tier="gradient"), Adaptation(runs=4, fresh=3)
    with Store(tmp_path / "runs.sqlite") as store:
        once = adapt(name, PROBLEM, store, usual)
        there = len(store)
        again = adapt(name, PROBLEM, store, usual)
        assert len(store) == there == once.runs
        assert next(iter(store)).signals.keys() == {"alignment", "relative_step"}
    assert once.check == again.check


def test_what_cannot_be_shown_to_be_better_is_not_taken(tmp_path):
    name, usual = made(tmp_path), Adaptation(runs=4, fresh=3, opening=0.0, drift=0.0)
    with Store(tmp_path / "runs.sqlite") as store:
        found = adapt(name, PROBLEM, store, usual)
    assert not found.is_new
    assert found.gain is None
    assert found.card.name == "made-up"


def test_the_command_says_what_was_gained(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from surefoot.tasks import random_factorisations\n\n"
        "Small = random_factorisations(name='small', steps=30, eigenvalues='collatz')\n"
    )
    words = ["adapt", made(tmp_path), "--on", f"{tmp_path / 'mine.py'}:Small", "--runs", "4", "--fresh", "3"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")], env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    assert "gain" in done.output.lower()
    assert "95% interval" in done.output
