"""Situations in which other implementations of GreedyLR are known to break, each with the outcome that is right.

Every one of them is a training: a loss that falls, an optimizer that makes it fall, and a scheduler in between. What the policy
does on bare numbers is in `test_greedy.py`, and what the scheduler does by itself in `test_torch.py`.
"""

import functools
import math

import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, LinearLR, LRScheduler, SequentialLR

from processes import in_processes
from surefoot import Greedy
from surefoot.torch import GreedyLR, PolicyLR, mean_over_ranks

QUICK = {"factor": 0.5, "patience": 0, "window": 1}


class Training:
    """Linear regression on a full batch: the loss falls at every step as long as the rate is small."""

    def __init__(self, lr=1e-3, kind=torch.optim.SGD, **settings):
        self.inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
        self.targets = self.inputs.sum(dim=1)
        self.weight = torch.nn.Parameter(torch.zeros(4))
        self.optimizer = kind([self.weight], lr=lr)
        self.scheduler = GreedyLR(self.optimizer, **settings)
        self.losses, self.rates = [], [lr]

    def loss(self):
        return (self.inputs @ self.weight - self.targets).square().mean()

    def step(self, told=lambda loss: loss):
        """Make one step, and hand the scheduler what `told` makes of its loss."""
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step(told(loss))
        self.losses.append(loss.item())
        self.rates.append(float(self.optimizer.param_groups[0]["lr"]))

    def steps(self, count, told=lambda loss: loss):
        for _ in range(count):
            self.step(told)
        return self


# 1
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_loss_that_is_not_finite_leaves_no_trace_in_the_window(broken, mode):
    sign = 1.0 if mode == "min" else -1.0
    settings = {"factor": 0.9, "patience": 1, "window": 5, "mode": mode}
    healthy, ill = (Training(**settings).steps(8, lambda loss: sign * loss) for _ in range(2))
    ill.scheduler.step(broken)
    for training in (healthy, ill):
        training.steps(20, lambda loss: sign * loss)
    assert ill.rates == healthy.rates
    assert ill.scheduler.state == healthy.scheduler.state
    assert ill.rates[-1] > ill.rates[0]


# 1
def test_a_huge_loss_is_out_of_the_window_for_ever_after_its_length():
    training = Training(lr=1e-4, factor=0.9, patience=0, window=5).steps(8)
    training.step(lambda _: 1e17)
    before = training.steps(5).rates[-1]
    training.steps(5)
    assert training.scheduler.state.best == pytest.approx(sum(training.losses[-5:]) / 5)
    assert training.rates[-1] > before


# 2
@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_an_infinitely_good_loss_is_no_unbeatable_best(mode, sign):
    training = Training(lr=1e-6, mode=mode, **QUICK).steps(3, lambda loss: sign * loss)
    training.step(lambda _: -sign * math.inf)
    training.step(lambda loss: sign * loss)
    assert training.scheduler.state.best == training.losses[-1]
    assert training.rates[1:] == pytest.approx([2e-6, 4e-6, 8e-6, 8e-6, 1e-5])


# 3
def test_the_rate_of_fine_tuning_can_fall_as_well_as_rise():
    falling = Training(5e-5, torch.optim.AdamW).steps(400)
    rising = Training(5e-5, torch.optim.AdamW, mode="max").steps(400)
    assert 5e-5 < falling.rates[-1] <= 5e-4
    assert 5e-7 <= rising.rates[-1] < 5e-5


# 4
@pytest.mark.parametrize("spread", [0.01, 0.05, 0.2])
def test_a_falling_loss_raises_the_rate_through_noise_and_is_not_cut(spread):
    noise = torch.randn(500, generator=torch.Generator().manual_seed(0)).double() * spread
    falling = (2.0 + 3.0 * torch.exp(-torch.arange(500).double() / 2000.0) + noise).tolist()
    training = Training(window=200, evidence=4.5)
    for loss in falling:
        training.scheduler.step(loss)
        training.rates.append(training.optimizer.param_groups[0]["lr"])
    assert training.rates == sorted(training.rates)
    assert training.rates[-1] > 1.5 * training.rates[0]


# 4
def test_noise_alone_neither_raises_nor_cuts():
    training = Training(window=200, evidence=4.5)
    for loss in torch.randn(5000, generator=torch.Generator().manual_seed(0)).tolist():
        training.scheduler.step(loss)
    assert training.scheduler.get_last_lr() == [training.rates[0]]


# 5
def test_a_steady_fall_after_a_spike_is_not_cut_for_ever_where_resets_are_on():
    training = Training(0.003, factor=0.8, patience=2, window=1, min_scale=0.1, reset_after=3).steps(20)
    old_best = min(training.losses)
    training.targets = 10.0 * training.targets  # Another task, and a hundred times the loss.
    training.steps(150)
    after = [rate for rate, loss in zip(training.rates[20:], training.losses[20:], strict=False) if loss > old_best]
    assert sorted(training.losses[20:], reverse=True) == training.losses[20:]
    assert min(after) == pytest.approx(0.1 * 0.003)
    assert after[-1] > 0.003


# 5
def test_a_steady_fall_after_a_spike_raises_the_rate_where_the_trend_is_judged():
    training = Training(3e-4, evidence=2.0).steps(200)
    old_best = min(training.losses)
    training.targets = 10.0 * training.targets
    training.steps(400)
    assert training.losses[-1] > old_best
    assert training.rates[-1] > training.rates[200] > 3e-4


# 6
@pytest.mark.parametrize("when", [0, 30, 60])
def test_ratios_between_groups_survive_the_limits_and_new_groups(when):
    training = Training(2e-3, torch.optim.AdamW, factor=0.5, patience=0, window=1, min_scale=0.5, max_scale=4.0)
    others = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    training.optimizer.add_param_group({"params": [others[0]], "lr": 5e-4})
    for step in range(90):
        if step == when:
            training.optimizer.add_param_group({"params": [others[1]], "lr": 0.03})
        for parameter in others:
            parameter.grad = torch.ones(2)
        training.step(lambda loss, sign=(1.0 if step < 45 else -1.0): sign + loss if sign > 0.0 else 9.0)
        now = [group["lr"] for group in training.optimizer.param_groups]
        assert now == [base * training.scheduler.state.scale for base in (2e-3, 5e-4, 0.03)[: len(now)]]
    assert {0.004, 0.008, 0.001} <= set(training.rates)


# 7
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, functools.partial(torch.optim.Adam, foreach=False)])
def test_a_rate_that_is_a_tensor_stays_the_same_tensor(kind):
    rate = torch.tensor(1e-3)
    training = Training(rate, kind, **QUICK)
    groups = training.optimizer.param_groups
    for _ in range(5):
        training.step()
        assert groups[0]["lr"] is rate
        assert rate.item() == pytest.approx(1e-3 * training.scheduler.state.scale)
    assert training.rates[-1] > 1e-3


# 8
@pytest.mark.parametrize("window", [1, 5])
def test_a_loss_on_the_device_of_the_rates_is_not_read(window):
    weight = torch.nn.Parameter(torch.ones(2, device="meta"))
    rate = torch.tensor(0.1, device="meta")
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.param_groups[0]["lr"] = rate  # The optimizer's constructor would read it.
    scheduler = PolicyLR(optimizer, Greedy(window=window))
    loss = weight.square().sum()
    with pytest.raises(RuntimeError, match="meta"):
        loss.item()  # On this device there is nothing to be read.
    for _ in range(3):
        scheduler.observe(loss)
        scheduler.step()
        scheduler.step(loss)
    assert optimizer.param_groups[0]["lr"] is rate


# 9
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_it_is_a_scheduler_that_pytorch_can_put_together_with_others():
    training = Training(1e-3, **QUICK)
    assert isinstance(training.scheduler, LRScheduler)
    warmup = LinearLR(training.optimizer, 0.25, 1.0, total_iters=3)
    both = ChainedScheduler([SequentialLR(training.optimizer, [warmup, training.scheduler], milestones=[3])])
    path = []
    for _ in range(6):
        path.append(training.optimizer.param_groups[0]["lr"])
        loss = training.loss()
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        training.scheduler.observe(loss)
        both.step()
    assert path == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 2e-3, 4e-3])


def decide(rank):
    """The states of a scheduler on this rank, whose losses differ from the other's and are broken once."""
    training, states = Training(factor=0.5, patience=0, window=3), []
    for step in range(12):
        loss = torch.tensor([3.0, 1.0, 2.0, 0.5][step % 4] + rank * (step % 3) - 0.1 * step, requires_grad=True)
        if step == 5 and rank == 1:
            loss = loss * math.nan
        before = repr(loss)
        training.scheduler.step(mean_over_ranks(loss))
        assert repr(loss) == before
        states.append(tuple(training.scheduler.state))
    return states


# 10
def test_ranks_with_different_losses_decide_alike():
    first, second = in_processes(decide)
    assert first == second
    assert len({state[0] for state in first}) > 2
    assert first[5] == first[4]  # The step on which one rank's loss was NaN.


# 10
def test_no_batch_size_becomes_the_loss():
    def step_as_deepspeed_does(scheduler, train_batch_size=512):
        try:
            scheduler.step()
        except TypeError:
            scheduler.step(train_batch_size)

    training = Training(**QUICK)
    for loss in (3.0, 2.0, 1.0):
        training.scheduler.observe(loss)
        step_as_deepspeed_does(training.scheduler)
    assert training.scheduler.state.best == 1.0


# 11
def test_a_checkpoint_overrides_no_setting():
    old = Training(factor=0.5, patience=0, window=3, max_scale=4.0).steps(4)
    new = Training(factor=0.9, patience=2, window=3, max_scale=5.0)
    new.weight.data.copy_(old.weight)
    new.scheduler.load_state_dict(old.scheduler.state_dict())
    assert new.optimizer.param_groups[0]["lr"] == 4e-3
    assert new.steps(3).rates[-1] == pytest.approx(4e-3 / 0.9)


# 11
def test_two_trainings_from_one_checkpoint_share_nothing():
    first = Training(factor=0.5, patience=0, window=3).steps(2)
    first.scheduler.observe(1.0)
    snapshot = first.scheduler.state_dict()
    second = Training(factor=0.5, patience=0, window=3)
    second.scheduler.load_state_dict(snapshot)
    before = second.scheduler.state
    first.steps(3)
    snapshot["state"]["window"][0] = math.nan
    assert second.scheduler.state == before


# 11
@pytest.mark.parametrize(("taken", "loaded"), [(1, 50), (50, 1), (5, 3)])
def test_a_checkpoint_neither_switches_smoothing_on_nor_off(taken, loaded):
    snapshot = Training(window=taken).steps(3).scheduler.state_dict()
    with pytest.raises(ValueError, match=r"taken with other settings than Greedy\(.*lengths of its windows differ"):
        Training(window=loaded).scheduler.load_state_dict(snapshot)


# 12
@pytest.mark.parametrize(
    "settings",
    [
        {"factor": -0.5},
        {"factor": 0.0},
        {"factor": 1.0},
        {"factor": math.nan},
        {"patience": -1},
        {"threshold": -1e-6},
        {"threshold": math.nan},
        {"raise_stage": -1},
        {"cut_stage": -1},
        {"min_scale": 0.5, "max_scale": 0.25},
        {"min_scale": -1.0},
        {"min_scale": 2.0, "max_scale": 3.0},
        {"min_scale": 0.1, "max_scale": 0.5},
        {"max_scale": math.nan},
        {"window": 0},
        {"reset_after": 0},
        {"mode": "maximum"},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_before_the_optimizer_is_touched(settings):
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with pytest.raises(ValueError, match=r"must .*got|must be above 0"):
        GreedyLR(optimizer, **settings)
    assert "initial_lr" not in optimizer.param_groups[0]


# 12
@pytest.mark.parametrize("lr", [1e-9, 1e-3, 30.0])
def test_no_rate_lies_outside_the_limits_because_they_are_multiples_of_it(lr):
    weight = torch.nn.Parameter(torch.zeros(2))
    scheduler = GreedyLR(torch.optim.SGD([weight], lr=lr), factor=0.5, patience=0, window=1, min_scale=0.1)
    for _ in range(9):
        weight.grad = torch.ones(2)
        scheduler.optimizer.step()
        scheduler.step(1.0)
    assert scheduler.get_last_lr() == [pytest.approx(0.1 * lr)]


# 13
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_relative_threshold_calls_no_worse_loss_better_below_zero(mode):
    settings = {"threshold": 0.01, "factor": 0.9, "patience": 0, "window": 1, "mode": mode}
    improving, worsening = (lambda loss: loss - 100.0), (lambda loss: -loss - 100.0)
    if mode == "max":
        improving, worsening = worsening, improving
    better, worse = Training(0.05, **settings).steps(2, improving), Training(0.05, **settings).steps(10, worsening)
    assert better.rates[1] > better.rates[0]
    assert worse.rates[1] > worse.rates[-1]
    assert sorted(worse.rates[1:], reverse=True) == worse.rates[1:]


# 13
def test_a_rising_accuracy_raises_the_rate_in_max_mode():
    training = Training(1e-3, mode="max", factor=0.9, patience=0, window=1)
    training.steps(10, lambda loss: 1.0 / (1.0 + loss))
    assert sorted(set(training.rates)) == training.rates


# 14
def test_a_rate_of_a_billionth_moves_like_any_other():
    big, small = Training(1.0, **QUICK), Training(1e-9, **QUICK)
    for loss in [3.0, 2.0, 1.0, *[1.0] * 12, *[1.0 / step for step in range(2, 9)]]:
        for training in (big, small):
            training.scheduler.step(loss)
        assert small.optimizer.param_groups[0]["lr"] == 1e-9 * big.optimizer.param_groups[0]["lr"]
    assert small.scheduler.state.scale == 1.28


# 14
def test_the_floor_of_a_small_rate_is_reached_and_counts_towards_a_reset():
    training = Training(1e-9, **QUICK, min_scale=0.25, reset_after=2).steps(8, lambda _: 1.0)
    assert training.rates == pytest.approx([1e-9, 2e-9, 1e-9, 5e-10, 2.5e-10, 2.5e-10, 2.5e-10, 5e-10, 1e-9])


# 15
def test_after_a_reset_the_rate_climbs_and_does_not_jump():
    training = Training(1e-4, torch.optim.AdamW, factor=0.7, patience=1, window=2, min_scale=0.05, reset_after=2)
    training.steps(60, lambda _: 1.0)
    low = training.rates.index(min(training.rates))
    top = training.rates.index(1e-4, low)
    assert top > low + 8
    climb = [after / before for before, after in zip(training.rates[low:top], training.rates[low + 1 : top + 1], strict=True)]
    assert max(climb) == pytest.approx(1.0 / 0.7)
