"""Trainings by several ranks: processes of one group, inside of a worker."""

import json
import os
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import pytest
import torch
from torch import distributed

from surefoot import Constant, Greedy, compare, tables
from surefoot.backtracking import Backtracking
from surefoot.catalogue import problem
from surefoot.engine import Limits, Local, Lost, WorkerDiedError, WorkError, on_ranks
from surefoot.loop import train
from surefoot.momo import MoMo
from surefoot.runs import Store

TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "ROLE_RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "ROLE_WORLD_SIZE": "2",
    "GROUP_RANK": "0",
    "GROUP_WORLD_SIZE": "1",
    "ROLE_NAME": "default",
    "MASTER_ADDR": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
}
"""What rank 1 of 2 is told."""
NERVOUS = Greedy(factor=0.7, patience=1, window=3)


def from_all(found):
    """What was found on every rank, in their order."""
    every = [None] * distributed.get_world_size()
    distributed.all_gather_object(every, found)
    return every


def environment():
    return from_all(dict(os.environ))


def test_ranks_are_told_what_torchrun_would_tell_them():
    told = on_ranks(environment, count=2)[1]
    assert {name: told[name] for name in TORCHRUN} == TORCHRUN


def sum_in_a_group_of_its_own_making():
    distributed.destroy_process_group()
    distributed.init_process_group("gloo", init_method="env://")
    ones = torch.ones(2)
    distributed.all_reduce(ones)
    return ones.tolist()


def test_a_group_can_be_made_anew_from_the_environment():
    assert on_ranks(sum_in_a_group_of_its_own_making, count=2) == [2.0, 2.0]


def fail(way):
    """Rank 1 fails, and rank 0 waits for it."""
    if distributed.get_rank():
        if way == "raise":
            raise ValueError("this rank has had enough")
        os.kill(os.getpid(), 9) if way == "kill" else sys.exit(3)
    distributed.barrier()


def test_the_exception_of_one_rank_ends_all_of_them_and_is_told_in_a_sentence():
    with pytest.raises(WorkError, match=r"^rank 1 of 2: this rank has had enough$") as caught:
        on_ranks(fail, "raise", count=2)
    assert "in fail" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("way", "how"),
    [("kill", r"^rank 1 of 2 was killed by signal 9 \(SIGKILL\)$"), ("exit", r"^rank 1 of 2 ended with exit code 3$")],
)
def test_the_death_of_one_rank_ends_all_of_them_and_is_told_in_a_sentence(way, how):
    with pytest.raises(WorkerDiedError, match=how):
        on_ranks(fail, way, count=2)


def number():
    return distributed.get_rank()


def test_what_has_to_be_the_same_on_all_ranks_and_is_not_is_an_error():
    with pytest.raises(WorkError, match=r"rank 1 of 2 came to something else than rank 0, where all have to come to the same"):
        on_ranks(number, count=2, same=abs)


@pytest.mark.skipif(not distributed.is_nccl_available() or torch.cuda.device_count() < 2, reason="needs two GPUs and NCCL")
def test_ranks_with_a_gpu_each_talk_through_nccl():
    assert on_ranks(sum_on_gpus, count=2) == ("cuda:0", 2.0)


def sum_on_gpus():
    one = torch.ones((), device="cuda")
    distributed.all_reduce(one)
    return str(one.device), one.item()


ASKED = {
    "sgd": {"optimizer": "sgd"},
    "adam, batches that do not halve": {"optimizer": "adam", "batch_size": 33},
    "an optimizer that is told the loss": {"made": partial(MoMo, direction="sgd")},
    "every step measured": {"gradients": True},
}


def trained(asked, ranks, steps=40):
    """All rows and signals of a training, and its held-out loss."""
    network = problem("digits-mlp", **asked, ranks=ranks)
    run, policy, found = network.init(0), NERVOUS, []
    state = policy.init()
    for _ in range(steps):
        rate = network.base * state.scale
        run, signals = network.step(run, rate)
        state = policy.update(state, signals["loss"])
        found.append([rate, *signals.values()])
    return np.array(found), network.held_out(run)


def all_trained(ranks):
    return [from_all(trained(asked, ranks)) for asked in ASKED.values()]


@pytest.fixture(scope="module")
def by_two():
    """The trainings that are asked for, each as both ranks saw it."""
    return dict(zip(ASKED, on_ranks(all_trained, 2, count=2), strict=True))


@pytest.mark.parametrize("name", ASKED)
def test_all_ranks_see_the_same_losses_and_set_the_same_rates_to_the_last_bit(by_two, name):
    (found, held_out), (found_there, held_out_there) = by_two[name]
    np.testing.assert_array_equal(found, found_there)
    assert held_out == held_out_there
    assert len(set(found[:, 0])) > 5


@pytest.mark.parametrize("name", ASKED)
def test_a_training_by_two_ranks_is_that_by_one_but_for_rounding(by_two, name, one_thread):
    (found, held_out), _ = by_two[name]
    expected, expected_held_out = trained(ASKED[name], 1)
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=1e-3, atol=1e-5)
    assert held_out == pytest.approx(expected_held_out, rel=1e-4)


PLAN = partial(compare.plan, ["digits-mlp"], ["sgd"], ["greedy"], seeds=1, steps=150)


@pytest.fixture(scope="module")
def run():
    """A trial of two ranks that nothing happened to."""
    (trial,) = PLAN(ranks=2).trials
    return compare.run_trial(trial)


def assert_same(found, expected):
    for name in ("loss", "rate", "held_out_step", "held_out"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_trial_of_two_ranks_is_the_same_each_time(run):
    assert run.status == "finished"
    assert_same(compare.run_trial(run.trial), run)


def is_rank(process, worker):
    """Whether it was forked by the server of the worker, not started by the worker itself."""
    return process.ppid() not in (worker.ppid(), worker.pid)


class Killer:
    """Kills a worker that has begun, or one of its ranks, once."""

    def __init__(self, victim):
        self.events, self.victim, self.ranks = [], victim, []

    def __call__(self, event):
        if not self.events:
            threading.Thread(target=self.kill, args=(int(event.where.partition(":")[2]),), daemon=True).start()
        self.events.append(event)

    def kill(self, number):
        worker = psutil.Process(number)
        while len(self.ranks) < 2:
            time.sleep(0.02)
            self.ranks = [process for process in worker.children(recursive=True) if is_rank(process, worker)]
        time.sleep(0.2)
        (self.ranks[1] if self.victim == "rank" else worker).kill()


@pytest.mark.parametrize(
    ("victim", "why"),
    [("rank", "because rank 1 of 2 was killed by signal 9 (SIGKILL)"), ("worker", "killed by signal 9 (SIGKILL)")],
)
def test_a_trial_that_lost_a_rank_is_begun_again_and_ends_the_same(run, victim, why):
    killer = Killer(victim)
    with Local(2) as engine, Store(":memory:") as store:
        (pair,) = compare.execute(PLAN(ranks=2), store, engine=engine, tell=killer)
        kept = store.get(pair[0])
    assert [event.why for event in killer.events if isinstance(event, Lost)] == [why]
    assert_same(kept, run)
    _, left = psutil.wait_procs(killer.ranks, timeout=10)
    assert left == []


def test_a_store_keeps_runs_of_one_rank_and_of_two_apart(run):
    (trial,) = PLAN().trials
    with Store(":memory:") as store:
        store.add(run, replace(run, trial=trial))
        titles = [tables.of_cell(cell).title for cell in compare.collect(store)]
        assert store.get(run.trial).trial == run.trial
    assert titles == [f"digits-mlp, sgd, base rate 0.1, 150 steps, {ranks}1 seeds, untuned" for ranks in ("2 ranks, ", "")]


def test_a_trial_of_one_rank_is_written_as_if_there_were_no_others():
    (trial,), (other,) = PLAN().trials, PLAN(ranks=2).trials
    assert "ranks" not in json.loads(trial.to_json())
    assert json.loads(other.to_json())["ranks"] == 2


def test_trials_of_several_ranks_are_alone_and_keep_as_many_processors_busy():
    planned = compare.plan(["digits-mlp"], ["sgd"], ["greedy", "constant"], seeds=3, ranks=2)
    assert [len(crew) for crew in compare.crews(planned.trials)] == [1] * 6
    engine = Unwilling()
    with Store(":memory:") as store, pytest.raises(RuntimeError, match="unwilling"):
        list(compare.execute(planned, store, engine=engine, limits=Limits(retries=1)))
    assert engine.limits == Limits(retries=1, cpus=2)


class Unwilling:
    """An engine that hears of limits, and does nothing."""

    def open(self, _function, limits, _preload):
        self.limits = limits
        raise RuntimeError("unwilling")


def test_what_several_ranks_cannot_train_is_refused():
    with pytest.raises(ValueError, match=r"digits-nmf is trained by one process \(leave it out, or train it with ranks=1\)"):
        compare.plan(["digits-nmf"], ["sgd"], ["greedy"], seeds=1, ranks=2)
    with pytest.raises(ValueError, match="batch_size must be an example for each of 3 ranks, or more, got 2"):
        problem("wine-mlp", batch_size=2, ranks=3)
    with pytest.raises(ValueError, match="Backtracking tries losses out within a step, where ranks do not talk"):
        problem("wine-mlp", made=Backtracking, ranks=2).init(0)
    with pytest.raises(ValueError, match="a fleet is trained by one process, got a network of 2 ranks"):
        train(problem("wine-mlp", ranks=2), Constant(), seeds=[0])


def test_several_ranks_without_a_group_are_refused():
    with pytest.raises(RuntimeError, match="a training of 2 ranks must be called in a process group of 2, found none"):
        problem("wine-mlp", ranks=2).init(0)


@pytest.mark.parametrize("count", [0, 1.5])
def test_a_number_of_ranks_that_is_none_is_refused(count):
    with pytest.raises((TypeError, ValueError), match="count must be a whole number"):
        on_ranks(number, count=count)
