"""Trainings by several ranks: processes of one group, inside of a worker."""

import json
from dataclasses import replace
from functools import partial
from operator import itemgetter

import numpy as np
import psutil
import pytest
import torch
from torch import distributed

import ranked
from surefoot import Constant, compare, crews, tables
from surefoot.backtracking import Backtracking
from surefoot.catalogue import problem
from surefoot.engine import Limits, Local, Lost, WorkerDiedError, WorkError, on_ranks, perform
from surefoot.loop import train
from surefoot.runs import Store

TORCHRUN = {
    **dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), "1"),
    **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), "2"),
    "GROUP_RANK": "0",
    "GROUP_WORLD_SIZE": "1",
    "ROLE_NAME": "default",
    "MASTER_ADDR": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
}
"""What rank 1 of 2 is told."""


def test_ranks_are_told_what_torchrun_would_tell_them():
    told = on_ranks(ranked.environment, count=2)[1]
    assert {name: told[name] for name in TORCHRUN} == TORCHRUN


def test_a_group_can_be_made_anew_from_the_environment():
    assert on_ranks(ranked.sum_in_a_group_of_its_own_making, count=2) == 2.0


def test_the_exception_of_one_rank_ends_all_of_them_and_is_told_in_a_sentence():
    with pytest.raises(WorkError) as caught:
        on_ranks(ranked.fail, "raise", count=2)
    assert str(caught.value) == "rank 1 of 2: this rank has had enough"
    assert "in fail" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("way", "how"),
    [("kill", r"^rank 1 of 2 was killed by signal 9 \(SIGKILL\)$"), ("exit", r"^rank 1 of 2 ended with exit code 3$")],
)
def test_the_death_of_one_rank_ends_all_of_them_and_is_told_in_a_sentence(way, how):
    with pytest.raises(WorkerDiedError, match=how):
        on_ranks(ranked.fail, way, count=2)


def test_what_has_to_be_the_same_on_all_ranks_and_is_not_is_an_error():
    with pytest.raises(WorkError, match=r"^rank 1 of 2 came to something else than rank 0, where all have to come to the same"):
        on_ranks(ranked.number, count=2, same=abs)


@pytest.mark.skipif(not distributed.is_nccl_available() or torch.cuda.device_count() < 2, reason="needs two GPUs and NCCL")
def test_ranks_with_a_gpu_each_talk_through_nccl():
    assert on_ranks(ranked.sum_on, "cuda", count=2) == 2.0


@pytest.fixture(scope="module")
def by_two():
    """The trainings that are asked for, each as both ranks saw it."""
    return on_ranks(ranked.all_trained, 2, count=2)


@pytest.mark.parametrize("name", ranked.asked())
def test_all_ranks_see_the_same_losses_and_set_the_same_rates_to_the_last_bit(by_two, name):
    (found, held_out), (found_there, held_out_there) = by_two[name]
    np.testing.assert_array_equal(found, found_there)
    assert held_out == held_out_there
    assert len(set(found[:, 0])) > 5


@pytest.mark.parametrize("name", ranked.asked())
def test_a_training_by_two_ranks_is_that_by_one_but_for_rounding(by_two, name, one_thread):
    (found, held_out), _ = by_two[name]
    expected, expected_held_out = ranked.trained(1, ranked.asked()[name])
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=1e-3, atol=1e-5)
    assert held_out == pytest.approx(expected_held_out, rel=1e-4)


@pytest.mark.slow
def test_a_training_that_lost_a_rank_and_then_its_worker_is_begun_again_and_ends_the_same(tmp_path, by_two):
    events = []
    with Local(2) as engine:
        work = perform(engine, ranked.work, [tmp_path], limits=Limits(cpus=2), tell=events.append)
        ((_, (found, held_out)),) = work
    lost = [event.why for event in events if isinstance(event, Lost)]
    assert lost == ["because rank 1 of 2 was killed by signal 9 (SIGKILL)", "killed by signal 9 (SIGKILL)"]
    (expected, expected_held_out), _ = by_two["momentum"]
    np.testing.assert_array_equal(found, expected)
    assert held_out == expected_held_out
    orphans = [int((tmp_path / name).read_text()) for name in ("rank", "worker")]
    assert not any(is_running(orphan) for orphan in orphans)


def test_ranks_go_on_together_from_the_checkpoint_of_the_first(tmp_path):
    resumed, whole = on_ranks(ranked.cut_and_resumed, tmp_path, count=2, same=itemgetter(0))
    assert resumed == whole


def is_running(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


PLAN = partial(compare.plan, ["wine-mlp"], ["sgd"], ["greedy"], seeds=1, steps=20)


@pytest.fixture(scope="module")
def run():
    """A trial of two ranks."""
    return crews.run_trial(*PLAN(ranks=2).trials)


def test_a_trial_of_two_ranks_is_that_of_one_but_for_rounding(run):
    alone = crews.run_trial(*PLAN().trials)
    assert run.status == "finished"
    np.testing.assert_array_equal(run.rate, alone.rate)
    np.testing.assert_allclose(run.loss, alone.loss, rtol=1e-5)
    np.testing.assert_allclose(run.held_out, alone.held_out, rtol=1e-5)


def test_a_store_keeps_runs_of_one_rank_and_of_two_apart(run):
    (trial,) = PLAN().trials
    with Store(":memory:") as store:
        store.add(run, replace(run, trial=trial))
        titles = [tables.of_cell(cell).title for cell in compare.collect(store)]
        assert store.get(run.trial).trial == run.trial
    assert titles == [f"wine-mlp, sgd, base rate 0.01, 20 steps, {ranks}1 seeds, untuned" for ranks in ("2 ranks, ", "")]


def test_a_trial_of_one_rank_is_written_as_if_there_were_no_others():
    (trial,), (other,) = PLAN().trials, PLAN(ranks=2).trials
    assert "ranks" not in json.loads(trial.to_json())
    assert json.loads(other.to_json())["ranks"] == 2


class Unwilling:
    """An engine that hears of limits, and does nothing."""

    def open(self, _function, limits, _preload):
        self.limits = limits
        raise RuntimeError("unwilling")


def test_trials_of_several_ranks_are_alone_and_keep_as_many_processors_busy():
    planned = compare.plan(["digits-mlp"], ["sgd"], ["greedy", "constant"], seeds=3, ranks=2)
    assert [len(crew) for crew in crews.crews(planned.trials)] == [1] * 6
    engine = Unwilling()
    with Store(":memory:") as store, pytest.raises(RuntimeError, match="unwilling"):
        list(compare.execute(planned, store, engine=engine, limits=Limits(retries=1)))
    assert engine.limits == Limits(retries=1, cpus=2)


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


@pytest.mark.parametrize("ranks", [0, 1.5])
def test_a_number_of_ranks_that_is_none_is_refused(ranks):
    with pytest.raises((TypeError, ValueError), match="count must be a whole number"):
        on_ranks(ranked.number, count=ranks)
    with pytest.raises((TypeError, ValueError), match="ranks must be a whole number"):
        PLAN(ranks=ranks)
