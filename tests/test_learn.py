"""Learning a policy: that it learns, that nothing disturbs it, and what becomes of it."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from threading import Timer

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import surefoot
from quadratic import Quadratic
from surefoot import Learned, policy_file
from surefoot.cli import app
from surefoot.control import Control
from surefoot.course.processes import LearningError, Order, alone, learn
from surefoot.engine import Local
from surefoot.episodes import Task
from surefoot.features import Features
from surefoot.fleet import fleet
from surefoot.learn import NAMES, Lesson, Settings, lesson, train
from surefoot.learn.keep import CARD, KeepError
from surefoot.learn.score import reference, score
from surefoot.learn.selection import select, turn
from surefoot.learn.training import after_round, kept_in
from surefoot.networks import network

pytest.importorskip("stable_baselines3")

SMALL = Settings(rounds=4, checks=2, validation=2, epochs=2, hidden=(4,))
FILE = """
from surefoot.control import Control
from surefoot.episodes import Task
from surefoot.features import Features
from surefoot.fleet import fleet
from surefoot.learn import Lesson, Settings
from surefoot.nmf import Factorisation, Matrices

tiny = Factorisation("tiny", draw=Matrices(rows=12, columns=8, held_out=4, rank=(2, 2)), rank=2, batch_size=4, steps=23)

def both():
    return [tiny, tiny]

def one():
    return tiny

def quick():
    control = Control(Features(window=5), steps=23, first=(1, 2))
    usual = Settings(rounds=8, checks=2, validation=2, epochs=2, hidden=(4,))
    return Lesson("quick", ((Task(fleet(tiny), control, 23), 4),), usual)

def broken():
    raise RuntimeError("no data")

nothing = []
number = 3
"""


def task(**settings):
    control = Control(Features(window=5), steps=settings.get("steps", 40), first=(1, 2))
    return Task(fleet(Quadratic()), control, **{"steps": 40, "start": (0.02, 0.02)} | settings)


def small(slots=6):
    return Lesson("quadratics", ((task(), slots), (task(start=(1.0, 1.0)), slots)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_problem.py"
    path.write_text(FILE)
    return path


def told(answer):
    return re.sub(r"\s+", " ", answer.stderr)


def learned(*words):
    return CliRunner().invoke(app, ["learn", *map(str, words)], env={"COLUMNS": "200", "NO_COLOR": "1"})


def carried_out(order, seeds, *, workers=1, **settings):
    """Where trainings stood, round by round."""
    with Local(workers) as engine:
        return list(learn(order, seeds, engine=engine, **settings))


# What it learns.


def test_a_policy_learns_that_the_rate_is_far_too_low():
    # From a fiftieth of a rate that works well nothing is gained, unless the rate is raised.
    settings = Settings(rounds=8, checks=1, validation=2, rate=(1e-2, 3e-3), hidden=(8,))
    training = train(Lesson("low", ((task(steps=23), 32),)), settings, seed=0)
    rewards = [line["reward"] for line in training.record.curve]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 5 * np.std(rewards[:3])
    view = Control(Features(window=5), steps=40).view(Control(Features(window=5), steps=40).init())
    assert training.policy(view) > 0.1


def test_the_silent_policy_is_level_with_the_tuned_schedule_at_its_rate_and_behind_from_a_lower_one():
    tasks = [task(start=(1.0, 1.0)), task(start=(0.02, 0.02))]
    found = score(tasks, reference(tasks, 4), lambda view: np.zeros(view.shape[1:]))
    assert found.by_task[0] == 0.0
    assert found.by_task[1] > 0.5
    assert found.diverged == 0


def test_a_run_that_diverges_counts_as_three():
    tasks = [task(start=(1.0, 1.0), worst=10.0)]
    found = score(tasks, reference(tasks, 4), lambda view: np.ones(view.shape[1:]))
    assert (found.mean, found.median, found.diverged) == (3.0, 3.0, 4)


# That nothing disturbs it.


def same(one, other):
    return all(
        np.array_equal(a, b)
        for mine, theirs in zip(one.layers, other.layers, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return train(small(), SMALL, 3, folder), (folder / "round-4.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_policy_and_another_one_another(undisturbed):
    assert same(train(small(), SMALL, 3).policy, undisturbed[0].policy)
    assert not same(train(small(), SMALL, 4).policy, undisturbed[0].policy)


@pytest.mark.parametrize("cuts", [(1,), (2, 3)])
def test_a_training_goes_on_as_if_it_had_never_stopped(undisturbed, tmp_path, cuts):
    for cut in cuts:
        stopped = train(small(), SMALL, 3, tmp_path, on_round=lambda record, cut=cut: record.done < cut)
        assert stopped.record.done == cut
    training = train(small(), SMALL, 3, tmp_path)
    assert (tmp_path / "round-4.safetensors").read_bytes() == undisturbed[1]
    assert training.record.curve == undisturbed[0].record.curve
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-4.safetensors", CARD]


def test_what_fleets_of_networks_do_once_in_a_process_is_not_seen_in_a_training():
    def about():
        control = Control(Features(window=5), steps=11, first=(1, 2))
        return Lesson("networks", ((Task(network("wine-mlp").fleet(), control, 11), 3),))

    settings = replace(SMALL, rounds=2, checks=1)
    in_one_go = train(about(), settings, 0).record.curve
    kept = kept_in(about(), settings, 0, None)
    for _ in range(2):
        kept = after_round(about(), settings, 0, kept)
    assert kept.curve == in_one_go


def test_a_round_leaves_what_was_kept_before_it_as_it_was(undisturbed):
    kept = kept_in(small(), SMALL, 3, None)
    first = after_round(small(), SMALL, 3, kept)
    said = json.dumps([first.curve, first.slots, first.best]), {name: array.copy() for name, array in first.arrays.items()}
    second = after_round(small(), SMALL, 3, first)
    assert (kept.rounds, kept.curve, kept.arrays) == (0, [], {})
    assert json.dumps([first.curve, first.slots, first.best]) == said[0]
    assert all(np.array_equal(first.arrays[name], array) for name, array in said[1].items())
    assert second.curve == undisturbed[0].record.curve[:2]


def test_a_round_of_another_training_is_refused():
    with pytest.raises(KeepError, match="another training than the one to go on with: tasks differs .is it the same file"):
        after_round(small(3), SMALL, 3, kept_in(small(), SMALL, 3, None))


def test_a_training_leaves_the_random_numbers_of_others_alone():
    def numbers():
        return np.random.get_state()[1].tolist(), random.getstate(), torch.random.get_rng_state().tolist()  # noqa: NPY002

    before = numbers()
    train(small(2), replace(SMALL, rounds=1, checks=1), 0)
    assert numbers() == before


def test_a_folder_with_another_training_is_refused(tmp_path):
    train(small(2), SMALL, 0, tmp_path, on_round=lambda _record: False)
    with pytest.raises(KeepError, match="holds another training: settings.discount is 0.9 here and 0.998 there"):
        train(small(2), replace(SMALL, discount=0.9), 0, tmp_path)
    with pytest.raises(KeepError, match="holds another training: tasks differs"):
        train(small(3), SMALL, 0, tmp_path)
    with pytest.raises(KeepError, match="holds another training: seed is 1 here and 0 there"):
        train(small(2), SMALL, 1, tmp_path)


@pytest.mark.parametrize("name", ["round-1.safetensors", CARD])
def test_a_damaged_training_is_refused(tmp_path, name):
    train(small(2), SMALL, 0, tmp_path, on_round=lambda _record: False)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
    with pytest.raises(KeepError, match="(are damaged|cannot be read).*remove the folder"):
        train(small(2), SMALL, 0, tmp_path)


# Where slots go.

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(COUNTS, st.data(), st.floats(0.0, 1.0))
def test_slots_are_moved_not_made_and_none_is_left_without(slots, data, moved):
    behind = data.draw(st.lists(st.floats(-3.0, 3.0), min_size=len(slots), max_size=len(slots)))
    found = select(slots, behind, moved)
    assert sum(found) == sum(slots)
    assert min(found) >= 1
    assert all(now <= before for now, before, lag in zip(found, slots, behind, strict=True) if lag <= 0.0)


@given(COUNTS, st.integers(1, 12), st.integers(0, 99))
def test_every_task_takes_part_once_in_a_turn(slots, together, seed):
    together = min(together, len(slots))
    rounds = [turn(slots, together, seed, number) for number in range(-(-len(slots) // together))]
    assert all(sum(each) == sum(slots) and np.count_nonzero(each) == together for each in rounds)
    assert np.count_nonzero(rounds, axis=0).min() == 1


def test_slots_go_where_the_policy_is_behind():
    settings = Settings(rounds=4, checks=4, validation=2, epochs=1, hidden=(4,), moved=0.5)
    curve = train(Lesson("two", ((task(start=(1.0, 1.0)), 8), (task(start=(0.001, 0.001)), 8))), settings, 0).record.curve
    assert curve[0]["slots"] == [8, 8]
    assert curve[0]["check"]["by_task"][1] > max(curve[0]["check"]["by_task"][0], 0.0)
    assert curve[1]["slots"][1] > 8


# What it is learned on.


def test_every_lesson_can_be_made():
    for name in NAMES:
        made = lesson(name)
        assert made.slots > 0
        assert made.usual.rounds > 0


def test_the_tier_is_that_of_the_name_or_the_one_asked_for():
    assert lesson("networks", tier="gradient").control.features.tier == "gradient"
    assert lesson("networks-loss").control.features.tier == "loss"
    assert lesson("nmf", tier="loss").control.features.tier == "loss"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nmff", "no lesson is called 'nmff'; choose from nmf, "),
        ("{folder}/none.py:Problem", "there is no file .*none.py"),
        ("{file}:missing", "my_problem.py defines no 'missing'; it defines Control, .*, tiny, both"),
        ("{file}:broken", "cannot be called without arguments: no data"),
        ("{file}:nothing", "must be a problem or several, got none"),
        ("{file}:number", "must be a problem, a fleet, a Task or a Lesson, a list of these, or a function, got 3"),
    ],
)
def test_what_cannot_be_learned_on_is_refused_in_a_sentence(file, name, message):
    with pytest.raises(ValueError, match=message):
        lesson(name.format(folder=file.parent, file=file))


def test_a_file_that_cannot_be_run_is_refused_in_a_sentence(file):
    file.write_text("1 +")
    with pytest.raises(ValueError, match="my_problem.py cannot be run: SyntaxError"):
        lesson(f"{file}:tiny")


def test_a_tier_that_contradicts_the_name_is_refused():
    with pytest.raises(ValueError, match="networks-loss is learned from the tier 'loss', got 'gradient'"):
        lesson("networks-loss", tier="gradient")


def test_networks_are_learned_at_several_multiples_of_their_lengths():
    multiples = {task.steps / task.fleet.steps for task, _ in lesson("networks").tasks}
    assert {0.5, 1.0, 4.0} <= multiples
    assert all(task.steps <= 3000 and 0.5 <= task.steps / task.fleet.steps <= 4.0 for task, _ in lesson("networks").tasks)


def test_one_policy_has_one_set_of_guards():
    other = replace(task(), control=Control(Features(window=5), steps=40, first=(1, 2), cut=3.0))
    with pytest.raises(
        ValueError,
        match="all tasks of a lesson must agree in features, first, rise, cut, alarm, rescue, warmup, begin and settle",
    ):
        Lesson("two", ((task(), 1), (other, 1)))


# The command.


def command(file, *words):
    return ["--on", f"{file}:quick", "--seeds", "2", "--out", str(file.parent), "--name", "mine", *words]


def wait_for(file, rounds):
    """Until both seeds have done so many rounds."""
    end = time.monotonic() + 100
    while time.monotonic() < end:
        cards = [file.parent / "mine" / f"seed-{seed}" / CARD for seed in (0, 1)]
        if all(card.exists() and json.loads(card.read_text())["rounds"] >= rounds for card in cards):
            return
        time.sleep(0.02)
    raise TimeoutError("nothing was learned")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
def test_killed_and_taken_up_again_the_policy_is_the_same(file):
    words = [sys.executable, "-m", "surefoot", "learn", *command(file)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as killed:
        wait_for(file, 1)
        killed.send_signal(signal.SIGKILL)
    done = learned(*command(file))
    assert done.exit_code == 0, done.stderr
    assert "There are rounds in" in told(done)

    about = lesson(f"{file}:quick")
    alone = [train(about, about.usual, seed) for seed in (0, 1)]
    best = min(alone, key=lambda training: training.record.best["score"])
    policy, card = policy_file.read(file.parent / "mine.json")
    assert same(policy, best.policy)
    assert card.training["seed"] == best.record.seed
    assert [each["score"] for each in card.training["seeds"]] == [training.record.best["score"] for training in alone]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
def test_ctrl_c_lets_the_rounds_under_way_be_finished(file):
    order = Order(f"{file}:one", None, Settings(rounds=1000, hidden=(4,)), file.parent)
    said, done = [], []

    def interrupted():
        with Local(1) as engine:
            for record in learn(order, [0], engine=engine, on_interrupt=lambda: said.append("stopping")):
                done.append(record.done)
                if len(done) == 1:
                    Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert said == ["stopping"]
    assert done[-1] < 1000
    assert json.loads((order.place(0) / CARD).read_text())["rounds"] == done[-1]


def test_what_goes_wrong_in_a_training_is_told_in_a_sentence(file):
    (file.parent / "seed-0").write_text("no folder")
    with pytest.raises(LearningError, match="^seed 0: .*File exists"):
        carried_out(Order(f"{file}:one", None, SMALL, file.parent), [0])


def test_the_command_leaves_a_policy_a_picture_and_a_page(file):
    done = learned(*command(file, "--rounds", "1", "--json"))
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["card"]["name"] == "mine"
    assert "seed 0: round 1/1, reward" in told(done)
    kinds = {path.suffix for path in file.parent.iterdir() if path.stem == "mine" and path.is_file()}
    assert kinds == {".safetensors", ".json", ".svg", ".html"}

    policy = Learned(str(file.parent / "mine.json"), steps=23)
    rows = list(surefoot.train(lesson(f"{file}:tiny").tasks[0][0].fleet.problem, policy, steps=23))
    assert len(rows) == 23

    other = learned(*command(file, "--rounds", "2"))
    assert other.exit_code == 1
    assert "holds another training: settings.rounds is 2 here and 1 there" in told(other)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_two_do_not_learn_in_one_folder(file):
    (file.parent / "mine").mkdir()
    with alone(file.parent / "mine"):
        done = learned(*command(file, "--rounds", "1"))
    assert done.exit_code == 1
    assert "another process is learning in" in told(done)


def test_time_that_is_up_before_anything_was_measured_is_told(file):
    done = learned(*command(file, "--rounds", "1000", "--minutes", "0.0001"))
    assert done.exit_code == 1
    assert "Time is up before the last round" in told(done)
    assert "no policy was measured yet, the first is after 500 rounds" in told(done)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--on", "nmff"], "no lesson is called 'nmff'"),
        (["--on", "nmf", "--name", "a/b"], "a name must be one that a file can have, without folders, got 'a/b'"),
        (["--on", "nmf", "--tier", "all"], "tier must be"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(tmp_path, words, message):
    done = learned(*words, "--out", tmp_path)
    assert done.exit_code == 2
    assert message in told(done)
