"""Learning with several workers: none of them, whatever becomes of it, changes what is learned."""

import os
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.course.processes import LearningError, Order, learn
from surefoot.engine import Limits, Local, Lost
from surefoot.gym import TrainingVectorEnv
from surefoot.learn import lesson, train

pytest.importorskip("stable_baselines3")
spread = pytest.importorskip("surefoot.learn.spread")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")


@pytest.fixture
def on(tmp_path):
    """Lessons of a file of one's own, which its workers can be told to die in."""
    shutil.copy(Path(__file__).with_name("mortal_problem.py"), tmp_path)
    return f"{tmp_path / 'mortal_problem.py'}:several"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What is kept of a training in one process that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    about = lesson(f"{Path(__file__).with_name('mortal_problem.py')}:several")
    train(about, about.usual, 0, folder)
    return (folder / "round-2.safetensors").read_bytes()


def learned(on, folder, *, lives=0, **settings):
    """What is kept of a training with workers, so many of which died, and what was told of it."""
    (folder / "lives").write_text(str(lives))
    order = Order(on, None, lesson(on).usual, folder, settings.pop("env_workers", 0))
    told = []
    with Local(1) as engine:
        list(learn(order, [0], engine=engine, tell=told.append, **settings))
    return (order.place(0) / "round-2.safetensors").read_bytes(), told


# Rounds, done by workers.


def test_a_worker_that_is_killed_costs_a_round_and_nothing_else(on, tmp_path, undisturbed):
    kept, told = learned(on, tmp_path, lives=2)
    assert kept == undisturbed
    assert [event.why for event in told if isinstance(event, Lost)] == ["killed by signal 9 (SIGKILL)"] * 2


def test_where_there_are_fewer_workers_than_seeds_they_take_turns(on, tmp_path):
    order = Order(on, None, lesson(on).usual, tmp_path)
    with Local(1) as engine:
        stood = [(record.seed, record.done) for record in learn(order, [0, 1, 2], engine=engine)]
    assert stood == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]


def test_a_worker_that_is_killed_too_often_is_told_with_its_seed(on, tmp_path):
    with pytest.raises(LearningError, match="^seed 0: its worker died 2 times, at last killed by signal 9"):
        learned(on, tmp_path, lives=9, limits=Limits(retries=1))


@pytest.mark.parametrize("env_workers", [0, 2])
def test_what_goes_wrong_in_a_worker_is_told_in_a_sentence(on, tmp_path, env_workers):
    with pytest.raises(LearningError, match="^seed 0: no data left$"):
        learned(on.replace("several", "failing"), tmp_path, env_workers=env_workers)


# Environment workers.


@pytest.fixture
def envs(on):
    """The same slots twice: in three environment workers, and in this process."""
    about = lesson(on)
    slots = [count for _, count in about.tasks]
    with Local() as engine, closing(spread.Helpers(engine, 3, on, None).envs(about, slots, [0.0] * 3)) as several:
        yield several, TrainingVectorEnv.of_tasks(about.tasks, autoreset_mode="SameStep")


def is_serving(process):
    """Whether it was forked by the server, and is no child of this process."""
    return process.ppid() != os.getpid()


def flat(found):
    """What an environment gave, as a list of names and arrays."""
    if isinstance(found, dict):
        return [(f"{name}.{inner}", array) for name, value in found.items() for inner, array in flat(value)]
    if isinstance(found, tuple):
        return [(f"{at}.{inner}", array) for at, value in enumerate(found) for inner, array in flat(value)]
    return [("", np.asarray(found))]


def assert_equal(found, other):
    for (name, mine), (its, theirs) in zip(flat(found), flat(other), strict=True):
        assert (name, mine.dtype, mine.shape) == (its, theirs.dtype, theirs.shape)
        if mine.dtype == object:
            assert [None if each is None else each.tobytes() for each in mine] == [
                None if each is None else each.tobytes() for each in theirs
            ]
        else:
            assert mine.tobytes() == theirs.tobytes(), name


def stepped(envs, before=lambda _step: None):
    """Go through several episodes in both, and hold everything they give equal."""
    several, one = envs
    generator, seeds = np.random.default_rng(0), [5, 3, 8, 1, 2, 13, 21, 34, 55]
    assert_equal(several.reset(seed=seeds), one.reset(seed=seeds))
    ends = 0
    for step in range(14):
        before(step)
        actions = generator.uniform(-1.0, 1.0, (9, 1)).astype(np.float32)
        found = several.step(actions)
        assert_equal(found, one.step(actions))
        assert_equal(several.has_diverged, one.has_diverged)
        ends += "final_obs" in found[-1]
    assert 3 < ends < 14


def test_environment_workers_give_what_one_environment_gives(envs):
    assert (envs[0].num_envs, envs[0].observation_space) == (envs[1].num_envs, envs[1].observation_space)
    stepped(envs)


def test_an_environment_worker_that_is_killed_is_where_it_was(envs):
    def kill(step):
        if step in (6, 7):
            kids = [child for child in psutil.Process().children(recursive=True) if is_serving(child)]
            os.kill(kids[step - 6].pid, signal.SIGKILL)

    stepped(envs, kill)


def test_what_is_learned_depends_on_no_environment_worker(on, tmp_path, undisturbed):
    kept, told = learned(on, tmp_path, lives=2, env_workers=2)
    assert kept == undisturbed
    assert (tmp_path / "lives").read_text() == "0"
    assert not [event for event in told if isinstance(event, Lost)]


def test_an_environment_worker_that_is_killed_too_often_is_told(on, tmp_path):
    with pytest.raises(LearningError, match="^seed 0: an environment worker died 2 times in a round, at last: "):
        learned(on, tmp_path, lives=9, env_workers=2, limits=Limits(retries=1))


def test_no_environment_worker_outlives_its_round(envs):
    envs[0].reset(seed=0)
    workers = [child for child in psutil.Process().children(recursive=True) if is_serving(child)]
    envs[0].close()
    assert len(workers) == 3
    assert not any(worker.is_running() for worker in workers)


@given(st.lists(st.floats(0.1, 9.0), min_size=1, max_size=12), st.integers(1, 6))
def test_every_task_has_one_worker_and_none_is_far_above_its_share(costs, count):
    shares = spread.share(costs, count)
    assert sorted(piece for pieces in shares for piece in pieces) == list(range(len(costs)))
    assert len(shares) == min(count, len(costs))
    assert max(sum(costs[piece] for piece in pieces) for pieces in shares) <= sum(costs) / count + max(costs) + 1e-9
