"""The engine of one machine: real processes, which fail, hang, grow and are killed."""

import os
import signal
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Timer

import psutil
import pytest

from surefoot.engine import Began, Failed, Finished, Limits, Local, Lost, WorkerDiedError, WorkError, local, perform

NOTHING = ()


def doubled(number):
    return 2 * number


def reciprocal(number):
    return 1 / number


def where(_number):
    return os.getpid()


def slow_where(_number):
    time.sleep(0.3)
    return os.getpid()


def asleep(seconds):
    time.sleep(seconds)
    return seconds


def killed_at_first(folder, number):
    """As a worker dies that is short of memory: no last words, but not if it is tried again."""
    if number == 3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def killed_always(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def stopped_at_first(folder, number):
    """Hangs as a whole, so that not even a sign of life comes from it."""
    if not (folder / "stopped").exists():
        (folder / "stopped").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def large(size):
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(1)
    return len(held)


def unsendable(_number):
    return lambda: None


def threads(_number):
    import torch

    return torch.get_num_threads()


def devices(_number):
    time.sleep(0.05)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def done(function, items, workers=2, events=None, **settings):
    """Results by item, and all that happened."""
    events = [] if events is None else events
    found = dict(perform(Local(workers), function, items, preload=NOTHING, tell=events.append, **settings))
    return found, events


def test_every_item_is_done_once():
    found, events = done(doubled, range(500))
    assert found == {number: 2 * number for number in range(500)}
    assert sorted(event.item for event in events if isinstance(event, Finished)) == list(range(500))


def test_an_item_that_takes_long_has_a_process_to_itself(monkeypatch):
    monkeypatch.setattr(local, "LIFE", 0.2)
    assert len(set(done(slow_where, range(4))[0].values())) == 4


def test_short_items_share_processes():
    assert len(set(done(where, range(400))[0].values())) < 40


def test_items_are_taken_as_they_are_needed():
    taken = []

    def endless():
        for number in range(10**9):
            taken.append(number)
            yield number

    with closing(perform(Local(1), doubled, endless(), preload=NOTHING)) as finished:
        for _ in range(50):
            next(finished)
    assert len(taken) < 5000


def test_what_follows_from_a_result_is_done_too():
    found, _ = done(doubled, [1], follow=lambda _, result: [result] if result < 100 else [])
    assert sorted(found) == [1, 2, 4, 8, 16, 32, 64]


def test_an_item_that_raises_does_not_keep_others_from_being_done():
    events = []
    with pytest.raises(WorkError, match="^ZeroDivisionError: division by zero$") as error:
        done(reciprocal, [1, 0, 2, 4], events=events)
    assert sorted(event.item for event in events if isinstance(event, Finished)) == [1, 2, 4]
    (failure,) = error.value.failures
    assert failure.item == 0
    assert "return 1 / number" in failure.details


def test_a_killed_worker_costs_what_it_was_at(tmp_path):
    found, events = done(partial(killed_at_first, tmp_path), range(10))
    assert sorted(found) == list(range(10))
    assert [event for event in events if isinstance(event, Lost)] == [Lost(3, "killed by signal 9 (SIGKILL)")]


def test_an_item_whose_workers_die_again_and_again_is_given_up():
    with pytest.raises(WorkError, match=r"its worker died 3 times, at last killed by signal 9 \(SIGKILL\)") as error:
        done(killed_always, range(5), limits=Limits(retries=2))
    assert [failure.item for failure in error.value.failures] == [1]


def test_an_item_that_takes_too_long_is_given_up():
    began = time.monotonic()
    with pytest.raises(WorkError, match="^it took longer than 0.5 seconds$") as error:
        done(asleep, [0.0, 60.0], limits=Limits(seconds=0.5))
    assert [failure.item for failure in error.value.failures] == [60.0]
    assert time.monotonic() - began < 30


def test_an_item_that_takes_too_much_memory_is_given_up():
    with pytest.raises(WorkError, match="bytes of memory, and may take 1,200,000,000$") as error:
        done(large, [1000, 1_600_000_000], limits=Limits(memory=1_200_000_000))
    assert [failure.item for failure in error.value.failures] == [1_600_000_000]


def test_a_worker_that_gives_no_sign_of_life_is_replaced(tmp_path):
    found, events = done(partial(stopped_at_first, tmp_path), [7], limits=Limits(silence=2.0))
    assert found == {7: 7}
    assert Lost(7, "silent for 2 seconds") in events


def test_a_result_that_cannot_travel_is_told():
    with pytest.raises(WorkError, match="pickle"):
        done(unsendable, [0])


def test_a_worker_keeps_to_its_threads():
    assert done(threads, [0], limits=Limits(cpus=1))[0] == {0: 1}


def test_workers_share_devices_as_items_ask_for_them():
    engine = Local(4, devices=("0", "1"))
    found = dict(perform(engine, devices, range(8), limits=Limits(gpus=0.5), preload=NOTHING))
    assert set(found.values()) == {"0", "1"}


def test_items_that_need_more_devices_than_there_are_are_refused():
    with pytest.raises(ValueError, match="an item needs 2 GPUs, and this machine shows 1"):
        Local(2, devices=("0",)).open(doubled, Limits(gpus=2.0))


def test_modules_that_cannot_be_imported_end_the_work():
    with pytest.raises(WorkError, match="processes end before they begin anything: exit code 1"):
        dict(perform(Local(2), doubled, [1], preload=["surefoot.not_there"]))


def interrupted(times, items, workers=2):
    """What was finished, and how often it was told, when Ctrl-C was pressed so often."""
    finished, told = [], []
    timers = [Timer(0.5 + 0.2 * time_, os.kill, (os.getpid(), signal.SIGINT)) for time_ in range(times)]

    def carry_out():
        work = perform(Local(workers), asleep, items, preload=NOTHING, on_interrupt=lambda: told.append("stopping"), tell=begin)
        with closing(work):
            finished.extend(item for item, _ in work)

    def begin(event):
        if isinstance(event, Began) and not any(timer.is_alive() or timer.finished.is_set() for timer in timers):
            for timer in timers:
                timer.start()

    with pytest.raises(KeyboardInterrupt):
        carry_out()
    return finished, told


def test_ctrl_c_lets_items_under_way_be_finished():
    finished, told = interrupted(1, [1.5, 1.6, 1.7, 1.8, 1.9])
    assert told == ["stopping"]
    assert set(finished) == {1.5, 1.6}


def test_a_second_ctrl_c_drops_them():
    began = time.monotonic()
    finished, told = interrupted(2, [60.0, 61.0])
    assert (finished, told) == ([], ["stopping"])
    assert time.monotonic() - began < 30


def of_the_server():
    """The processes that were forked from the server that has imported what they need."""
    servers = [child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline())]
    return [worker for server in servers for worker in server.children()]


def test_no_process_is_left_behind():
    with closing(perform(Local(2), asleep, [0.0, 60.0, 60.0], preload=NOTHING)) as finished:
        next(finished)
        workers = of_the_server()
    assert len(workers) >= 2
    psutil.wait_procs(workers, timeout=10)
    assert of_the_server() == []


def test_a_killed_server_of_processes_is_replaced():
    found = {}
    for item, result in perform(Local(2), asleep, [0.3] * 1 + [0.31, 0.32, 0.33, 0.34, 0.35], preload=NOTHING):
        found[item] = result
        if len(found) == 1:
            for child in psutil.Process().children():
                if "forkserver" in " ".join(child.cmdline()):
                    child.kill()
    assert len(found) == 6


class Counter:
    def __init__(self, start):
        self.value = start

    def add(self, more):
        self.value += more
        return self.value

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(self):
        raise ValueError("three is too many")


@pytest.fixture
def counter():
    actor = Local().actor(Counter, 5, preload=NOTHING)
    yield actor
    actor.close()


def test_an_actor_keeps_what_it_knows(counter):
    counter.ask("add", 2)
    assert counter.answer() == 7
    counter.ask("add", 2)
    assert counter.answer() == 9


def test_what_an_actor_raises_is_told_and_it_lives_on(counter):
    counter.ask("fail")
    with pytest.raises(WorkError, match="^three is too many"):
        counter.answer()
    counter.ask("add", 1)
    assert counter.answer() == 6


def test_the_death_of_an_actor_is_told(counter):
    counter.ask("die")
    with pytest.raises(WorkerDiedError, match="the process of an actor ended with code -9"):
        counter.answer()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"retries": -1}, "retries must be a whole number, 0 or more, got -1"),
        ({"seconds": 0.0}, "seconds must be above 0, got 0.0"),
        ({"memory": 0}, "memory must be a whole number, 1 or more, got 0"),
        ({"silence": -1.0}, "silence must be above 0, got -1.0"),
        ({"cpus": 0}, "cpus must be a whole number, 1 or more, got 0"),
        ({"gpus": 1.5}, "gpus above 1 must be a whole number, got 1.5"),
    ],
)
def test_a_limit_outside_its_range_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Limits(**settings)


def test_a_failure_is_told_when_it_happens():
    events = []
    with pytest.raises(WorkError):
        dict(perform(Local(1), reciprocal, [0, 1], preload=NOTHING, tell=events.append))
    assert [type(event) for event in events if event.item == 0] == [Began, Failed]


def test_the_tests_leave_ctrl_c_as_it_was():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert Path.cwd().is_dir()
