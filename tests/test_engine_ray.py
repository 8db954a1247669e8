"""The engine of a cluster: several nodes of Ray on this machine, whose workers fail, grow, and are killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from math import sqrt
from pathlib import Path

import numpy as np
import psutil
import pytest

from surefoot import compare, crews
from surefoot.engine import Began, Failed, Finished, Limits, Local, Lost, WorkerDiedError, WorkError, perform
from surefoot.engine.cluster import Ray, _join
from surefoot.runs import Store

pytestmark = pytest.mark.slow

NOTHING = ()


def reciprocal(number):
    return 1 / number


def asleep(seconds):
    time.sleep(seconds)
    return seconds


def killed_at_first(folder, number):
    """As a worker dies that is short of memory: no last words, but not if it is tried again."""
    if number == 3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def killed_in_company(folder, number):
    """The same to one of many that take no time."""
    return killed_at_first(folder, number % 1000) if number > 1000 else number


def killed_always(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def without_company(folder, number):
    """Needs another process, which dies at first."""
    if number == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        raise WorkerDiedError("rank 1 of 2 was killed")
    return number


def stopped(number):
    """Hangs as a whole, so that it cannot look at the time either."""
    if number == 1:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def large(size):
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(1 if size < 100_000_000 else 20)
    return size


def doubled_in_place(values):
    values *= 2
    return values


def share_of_gpu(folder, number):
    """Wait for another one, and tell which GPU was given."""
    (folder / str(number)).touch()
    until = time.monotonic() + 20
    while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    return os.environ["CUDA_VISIBLE_DEVICES"], len(list(folder.iterdir()))


def crew_after(marker, trials):
    """Wait for a file, and train then."""
    while not marker.exists():
        time.sleep(0.05)
    return crews.run_crew(trials)


def parent_of(where):
    return psutil.Process(int(where.rpartition(":")[2])).ppid()


def roots(number):
    """Work within work, and an actor."""
    with Ray(address="auto") as engine, closing(engine.actor(Counter, 5, preload=NOTHING)) as actor:
        actor.ask("add", 1)
        return [actor.answer(), *sorted(root for _, root in perform(engine, sqrt, [1.0, number], preload=NOTHING))]


class Counter:
    def __init__(self, start):
        self.count = start

    def add(self, number):
        self.count += number
        return self.count

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster():
    """A node with, by its own account, two processors and a GPU."""
    utils = pytest.importorskip("ray.cluster_utils")
    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def engine(cluster):
    """That is joined."""
    with Ray(cluster.address) as joined:
        yield joined


def done(engine, function, items, **settings):
    """What became of items, and why those failed that did; and all that happened."""
    events = []
    try:
        results = dict(perform(engine, function, items, preload=NOTHING, tell=events.append, **settings))
    except WorkError:
        results = {event.item: event.result for event in events if isinstance(event, Finished)}
    return results, [event.why for event in events if isinstance(event, Failed)], events


def figures(path):
    """All there is in a store but how long it took."""
    with Store(path) as store:
        return {
            run.trial.key: (run.status, *map(bytes, (run.loss, run.rate, run.held_out_step, run.held_out))) for run in store
        }


PLAN = compare.plan(["wine-mlp"], ["sgd"], ["greedy", "cosine"], seeds=48, steps=150)
"""Six crews of sixteen trials."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, one_thread):
    """What that comes to without any engine."""
    path = tmp_path_factory.mktemp("undisturbed") / "runs"
    with Store(path) as store:
        for crew in crews.crews(PLAN.trials):
            store.add(*crews.run_crew(crew))
    return figures(path)


def test_an_exception_is_told_and_the_others_are_finished(engine):
    results, why, _ = done(engine, reciprocal, [2.0, 0.0, 4.0])
    assert (results, why) == ({2.0: 0.5, 4.0: 0.25}, ["ZeroDivisionError: float division by zero"])


def test_every_item_begins_before_it_ends(engine):
    _, _, events = done(engine, reciprocal, range(1, 300))
    begun = set()
    for event in events:
        begun.add(event.item) if isinstance(event, Began) else begun.remove(event.item)
    assert not begun


def test_items_and_results_can_be_written_to(engine):
    [(_, result)] = perform(engine, doubled_in_place, [np.ones(200_000)], preload=NOTHING)
    result += 1
    assert result.sum() == 600_000


def test_a_killed_worker_costs_only_what_it_was_at(engine, tmp_path):
    results, why, events = done(engine, partial(killed_at_first, tmp_path), range(6))
    lost = [event.item for event in events if isinstance(event, Lost)]
    assert (sorted(results), why, lost) == ([*range(6)], [], [3])


def test_no_item_is_lost_that_shared_a_worker_with_a_killer(engine, tmp_path):
    results, why, events = done(engine, partial(killed_in_company, tmp_path), range(2000))
    assert (sorted(results), why) == ([*range(2000)], [])
    assert sum(isinstance(event, Lost) for event in events) > 1


def test_what_kills_every_worker_is_given_up(engine):
    results, why, _ = done(engine, killed_always, range(3), limits=Limits(retries=1))
    assert sorted(results) == [0, 2]
    assert why == ["its worker died 2 times, at last killed or crashed (is there memory enough?)"]


def test_what_takes_too_long_fails_at_once(engine):
    began = time.monotonic()
    results, why, _ = done(engine, asleep, [0.1, 60.0, 0.2], limits=Limits(seconds=1))
    assert (sorted(results), why) == ([0.1, 0.2], ["it took longer than 1 seconds"])
    assert time.monotonic() - began < 20


def test_a_worker_that_cannot_look_at_the_time_is_ended_from_here(engine, monkeypatch):
    monkeypatch.setattr("surefoot.engine.cluster_pool.GRACE", 0.5)
    results, why, _ = done(engine, stopped, range(3), limits=Limits(seconds=0.5))
    assert (sorted(results), why) == ([0, 2], ["it took longer than 0.5 seconds"])


def test_what_takes_too_much_memory_fails_at_once(engine):
    results, why, _ = done(engine, large, [1_000, 900_000_000], limits=Limits(memory=800_000_000))
    assert list(results) == [1_000]
    assert why[0].endswith("bytes of memory, and may take 800,000,000")


def test_two_items_share_a_gpu(engine, tmp_path):
    needs = Limits(gpus=0.5)
    results, _, _ = done(engine, partial(share_of_gpu, tmp_path), range(2), limits=needs)
    assert set(results.values()) == {("0", 2)}


def test_more_than_any_node_has_is_refused(engine):
    with pytest.raises(ValueError, match="an item needs 2 GPUs, and no node of the cluster has more than 1; ask for fewer"):
        engine.open(asleep, Limits(gpus=2), NOTHING)


def test_work_can_be_done_within_work(engine):
    assert done(engine, roots, [4.0])[0] == {4.0: [6, 1.0, 2.0]}


def test_closing_ends_what_is_under_way(engine):
    began = time.monotonic()
    work = perform(engine, asleep, [0.1, *[60.0 + each for each in range(3)]], preload=NOTHING)
    with closing(work):
        next(work)
    assert time.monotonic() - began < 20
    assert done(engine, reciprocal, [1.0])[0] == {1.0: 1.0}


def test_an_actor_remembers_answers_and_dies(engine):
    actor = engine.actor(Counter, 5, preload=NOTHING)
    with closing(actor):
        actor.ask("add", 2)
        assert actor.answer() == 7
        actor.ask("subtract", 2)
        with pytest.raises(WorkError, match="no attribute 'subtract'"):
            actor.answer()
        actor.ask("die")
        with pytest.raises(WorkerDiedError, match="the worker of an actor died"):
            actor.answer()


def test_an_actor_that_cannot_be_made_says_why(engine):
    actor = engine.actor(Counter, preload=NOTHING)
    with closing(actor):
        actor.ask("add", 2)
        with pytest.raises(WorkError, match="missing 1 required positional argument"):
            actor.answer()


def test_a_study_can_change_the_engine_half_way(engine, tmp_path, undisturbed):
    with Store(tmp_path / "runs") as store:
        with Local(2) as local, closing(compare.execute(PLAN, store, engine=local)) as half:
            for _ in range(16 * 2):
                next(half)
        assert len(store) < len(PLAN.trials)
        list(compare.execute(PLAN, store, engine=engine))
    assert figures(tmp_path / "runs") == undisturbed


def test_a_node_that_goes_away_costs_only_what_it_was_at(cluster, engine, tmp_path, undisturbed):
    node, is_gone, events, finished = cluster.add_node(num_cpus=1), tmp_path / "gone", [], []
    [raylet] = node.all_processes["raylet"]

    def watch(event):
        events.append(event)
        if isinstance(event, Began) and not is_gone.exists() and parent_of(event.where) == raylet.process.pid:
            cluster.remove_node(node, allow_graceful=False)
            is_gone.touch()

    work = perform(engine, partial(crew_after, is_gone), crews.crews(PLAN.trials), preload=NOTHING, tell=watch)
    with Store(tmp_path / "runs") as store:
        for crew, runs in work:
            store.add(*runs)
            finished += crew
    assert [event.why for event in events if isinstance(event, Lost)] == ["with its node"]
    assert sorted(map(str, finished)) == sorted(map(str, PLAN.trials))
    assert figures(tmp_path / "runs") == undisturbed


ALONE = """
import os, sys, time
from surefoot.engine import perform
from surefoot.engine.cluster import Ray

def killed_at_first(marker):
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), 9)

def say(word):
    print(word, flush=True)

with Ray(workers=2) as engine:
    list(perform(engine, killed_at_first, sys.argv[1:], preload=()))
    tell = lambda event: say(type(event).__name__)
    try:
        list(perform(engine, time.sleep, [3.0] * 6, preload=(), tell=tell, on_interrupt=lambda: say("heard")))
    except KeyboardInterrupt:
        say("interrupted")
"""


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A program with a cluster of its own, which loses a worker and hears Ctrl-C: what it said, where, and how it ended."""
    pytest.importorskip("ray")
    words = [sys.executable, "-W", "error", "-c", ALONE, str(tmp_path_factory.mktemp("alone") / "killed")]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(words, **settings) as program:
        said = [program.stdout.readline() for _ in range(2)]
        os.killpg(program.pid, signal.SIGINT)  # As a terminal does: to the program, and to all it started.
        rest, complaints = program.communicate(timeout=60)
    return "".join([*said, rest]).split(), complaints, program.returncode


def test_ctrl_c_lets_what_is_under_way_be_finished(interrupted):
    said, _, code = interrupted
    assert (said, code) == (["Began", "Began", "heard", "Finished", "Finished", "interrupted"], 0)


def test_ray_itself_prints_nothing(interrupted):
    assert interrupted[1] == ""
    assert {word[0] for word in interrupted[0]} <= set("BFhi")


def test_an_address_where_nobody_answers_is_told():
    with pytest.raises(WorkError, match="no Ray cluster answers at 127.0.0.1:9; start one with `ray start --head`"):
        _join(None, "127.0.0.1:9")


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", ":6379"])
def test_an_address_is_auto_or_a_host_and_a_port(address):
    with pytest.raises(ValueError, match="address must be auto or host:port"):
        Ray(address)


def test_how_to_install_ray_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkError, match=r'needs Ray; run: pip install "surefoot\[ray\]"'), Ray():
        pass


def test_an_engine_is_used_as_a_context(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(WorkError, match="use it as a context"):
        Ray().actor(Path)


def test_an_item_is_begun_again_when_a_process_died_that_it_needed(engine, tmp_path):
    results, _, events = done(engine, partial(without_company, tmp_path), range(4))
    assert sorted(results) == [0, 1, 2, 3]
    assert [event.why for event in events if isinstance(event, Lost)] == ["because rank 1 of 2 was killed"]


def test_print_stays_what_it_was(engine):
    bars = pytest.importorskip("ray.experimental.tqdm_ray")
    bars.instance()
    assert print is bars._print
