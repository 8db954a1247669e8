"""Schedulers that went through `accelerator.prepare`, in one process and in two."""

import copy
import pickle

import pytest
import torch

pytest.importorskip("accelerate")

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, GradientState

from processes import in_processes, like_torchrun
from surefoot import Cosine, Greedy
from surefoot.torch import GreedyLR, PolicyLR

QUICK = Greedy(factor=0.7, patience=1, window=3)
MICRO_BATCHES = 2


@pytest.fixture(autouse=True)
def fresh():
    """Accelerate keeps what it knows of the machine in one place per process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def begin(policy=QUICK):
    """All that a training consists of."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=MICRO_BATCHES)
    model = torch.nn.Linear(4, 1)
    torch.nn.init.ones_(model.weight), torch.nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return accelerator, *accelerator.prepare(model, optimizer, PolicyLR(optimizer, policy))


def go_on(training, batches):
    """The loop of accelerate's own pages; the loss of every micro-batch, and the rate after it."""
    accelerator, model, optimizer, scheduler = training
    path = []
    for batch in batches:
        noise = torch.Generator().manual_seed(batch * accelerator.num_processes + accelerator.process_index)
        with accelerator.accumulate(model):
            x = torch.randn(8, 4, generator=noise)
            loss = (model(x) - x.mean(dim=1, keepdim=True)).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step(loss)
            optimizer.zero_grad()
        path.append((loss.item(), scheduler.get_last_lr()[0]))
    return path


def step(training, loss):
    """One step of the optimizer, and of the scheduler with a made-up loss."""
    *_, optimizer, scheduler = training
    optimizer.step()
    scheduler.step(loss)


def in_two(rank, folder):
    """A whole training, and one that goes on in its middle."""
    like_torchrun(rank)
    whole = begin()
    path = go_on(whole, range(20))
    whole[0].save_state(folder)
    later = go_on(whole, range(20, 40))
    resumed = begin()
    resumed[0].load_state(folder)
    return path, later, go_on(resumed, range(20, 40)), whole[0].num_processes, type(whole[3]).__name__


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return in_processes(in_two, str(tmp_path_factory.mktemp("state")))


def test_a_prepared_scheduler_is_still_itself():
    *_, optimizer, scheduler = begin()
    assert isinstance(optimizer, AcceleratedOptimizer)
    assert type(scheduler) is PolicyLR


def test_two_processes_have_the_same_rate_after_every_step(two):
    (path, *_, count, kind), (path_there, *_) = two
    assert (count, kind) == (2, "PolicyLR")
    assert [rate for _, rate in path] == [rate for _, rate in path_there]
    assert [loss for loss, _ in path] != [loss for loss, _ in path_there]


def test_it_decides_once_per_optimizer_step_by_the_mean_over_micro_batches_and_processes(two):
    (path, *_), (path_there, *_) = two
    losses = torch.tensor([[loss for loss, _ in path], [loss for loss, _ in path_there]])
    by_hand = PolicyLR(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.05), QUICK)
    expected = []
    for loss in losses.reshape(2, -1, MICRO_BATCHES).mean(dim=2).mean(dim=0):
        expected += [by_hand.get_last_lr()[0]]
        by_hand.step(loss)
        expected += [by_hand.get_last_lr()[0]]
    assert [rate for _, rate in path] == expected
    assert len(set(expected)) > 3


def test_two_processes_go_on_from_a_saved_state_as_if_they_had_never_stopped(two):
    for _, later, resumed, *_ in two:
        assert resumed == later


@pytest.mark.parametrize("cut", [2, 8, 14])
def test_one_process_goes_on_from_a_saved_state_as_if_it_had_never_stopped(tmp_path, cut):
    whole, resumed = begin(), begin()
    go_on(whole, range(cut))
    whole[0].save_state(tmp_path)
    later = go_on(whole, range(cut, 20))
    resumed[0].load_state(tmp_path)
    assert go_on(resumed, range(cut, 20)) == later


def test_a_schedule_of_time_counts_optimizer_steps_and_needs_no_loss():
    accelerator, model, optimizer, scheduler = begin(Cosine(steps=4))
    for _ in range(2 * MICRO_BATCHES):
        with accelerator.accumulate(model):
            accelerator.backward(model(torch.ones(1, 4)).sum())
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    assert scheduler.state.step == 2
    assert scheduler.get_last_lr() == pytest.approx([0.025])


def test_losses_may_be_numbers():
    *_, scheduler = training = begin()
    step(training, 3.0)
    step(training, 4.0)
    assert scheduler.state_dict()["state"]["window"][-2:] == [3.0, 4.0]


def test_observed_losses_count_as_well():
    *_, scheduler = training = begin()
    scheduler.observe(1.0)
    step(training, 3.0)
    assert scheduler.state_dict()["state"]["window"][-1] == 2.0


def test_a_second_call_after_the_same_optimizer_step_decides_nothing():
    *_, scheduler = training = begin()
    step(training, 3.0)
    before = scheduler.state
    scheduler.step(2.0)
    assert scheduler.state == before


def test_a_step_that_a_gradient_scaler_leaves_out_is_no_step_of_the_schedule():
    Accelerator(cpu=True)
    weights = torch.nn.Parameter(torch.ones(1))
    plain = torch.optim.SGD([weights], lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1000)
    optimizer = AcceleratedOptimizer(plain, scaler=scaler)
    scheduler = Accelerator(cpu=True).prepare(PolicyLR(plain, QUICK))
    seen = []
    for gradient in (1.0, float("inf"), 1.0):
        scaler.scale(weights * gradient).sum().backward()
        optimizer.step()
        scheduler.step(2.0)
        optimizer.zero_grad()
        seen.append((optimizer.step_was_skipped, scheduler.last_epoch))
    assert seen == [(False, 1), (True, 1), (False, 2)]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda scheduler: pickle.loads(pickle.dumps(scheduler))])  # noqa: S301 - our own
def test_a_copy_goes_by_its_own_optimizer(copied):
    accelerator, model, _, scheduler = begin()
    other = copied(scheduler)
    other.optimizer.step()
    other.step(3.0)
    step((accelerator, model, scheduler.optimizer, scheduler), 4.0)
    assert [one.state_dict()["state"]["window"][-1] for one in (scheduler, other)] == [4.0, 3.0]


def test_one_that_was_not_prepared_goes_by_its_calls():
    scheduler = GreedyLR(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.05))
    scheduler.step(3.0)
    assert scheduler.last_epoch == 1
