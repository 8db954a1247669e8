"""Policies as PyTorch schedulers, with real optimizers."""

import copy
import gc
import inspect
import io
import math
import pickle
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

from strategies import EXAMPLES, finite_losses, losses, policies
from surefoot import Cosine, Greedy, Plateau, Then, Warmup, schedule
from surefoot.torch import GreedyLR, PolicyLR

QUICK = Greedy(factor=0.5, patience=0, window=1)


def optimizer(*rates, kind=torch.optim.SGD):
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates or (0.1,)]
    return kind(groups, lr=1.0)


def rates(opt):
    return [float(group["lr"]) for group in opt.param_groups]


def saved(scheduler):
    """What comes back from a checkpoint that nobody has to trust."""
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_it_is_a_scheduler_of_pytorch():
    assert isinstance(GreedyLR(optimizer()), LRScheduler)


@given(policies, losses)
def test_a_rate_is_the_base_rate_times_the_scale(policy, values):
    opt = optimizer(0.1)
    scheduler = PolicyLR(opt, policy)
    path = [rates(opt)[0], *(scheduler.step(value) or rates(opt)[0] for value in values)]
    assert path == [0.1 * state.scale for state in schedule(policy, values)]


@given(finite_losses)
def test_the_ratios_between_groups_never_change(values):
    opt = optimizer(0.1, 0.025, 0.4)
    scheduler = PolicyLR(opt, Greedy(factor=0.5, patience=0, window=1, min_scale=0.25, max_scale=2.0))
    for value in values:
        scheduler.step(value)
        assert rates(opt) == [0.1 * scheduler.state.scale, 0.025 * scheduler.state.scale, 0.4 * scheduler.state.scale]


@given(finite_losses, st.integers(1, 12))
def test_plateau_equals_reduce_lr_on_plateau(values, cooldown):
    opt, reference = optimizer(1.0), optimizer(1.0)
    ours = PolicyLR(opt, Plateau(factor=0.3, patience=2, cooldown=cooldown, min_scale=0.01))
    theirs = ReduceLROnPlateau(reference, factor=0.3, patience=2, cooldown=cooldown, min_lr=0.01, eps=0.0)
    for value in values:
        loss = 9.0 + value  # PyTorch's relative threshold is wrong for negative losses.
        ours.step(loss)
        theirs.step(loss)
        assert rates(opt) == rates(reference)


@pytest.mark.parametrize("count", [1, 3])
def test_observed_micro_batches_are_averaged(count):
    direct, observing = PolicyLR(optimizer(), QUICK), PolicyLR(optimizer(), QUICK)
    for loss in (3.0, 2.0, 1.0, 4.0):
        direct.step(loss)
        for part in range(count):
            observing.observe(torch.tensor(loss + part - (count - 1) / 2, requires_grad=True))
        observing.step()
    assert observing.get_last_lr() == direct.get_last_lr()
    assert observing.state == direct.state


def test_the_loss_can_be_named_metrics():
    scheduler = PolicyLR(optimizer(), QUICK)
    scheduler.step(metrics=3.0)
    assert scheduler.get_last_lr() == [0.2]


@pytest.mark.parametrize("loss", [3.0, torch.tensor(3.0)])
def test_a_loss_given_to_step_replaces_what_was_observed(loss):
    scheduler = PolicyLR(optimizer(), QUICK)
    scheduler.observe(100.0)
    scheduler.step(loss)
    assert scheduler.state.best == 3.0
    assert not scheduler.state_dict()["observed"]


@pytest.mark.parametrize(
    "loss", [3, np.float32(3.0), np.array(3.0), torch.tensor([3.0]), torch.tensor(3.0, dtype=torch.bfloat16)]
)
def test_a_loss_may_be_any_single_number(loss):
    scheduler = PolicyLR(optimizer(), QUICK)
    scheduler.step(loss)
    assert scheduler.state.best == 3.0


@pytest.mark.parametrize("method", ["step", "observe"])
def test_several_losses_are_refused_with_advice(method):
    with pytest.raises(ValueError, match=r"expected one loss, got a tensor of shape \(8,\); reduce it first"):
        getattr(PolicyLR(optimizer(), QUICK), method)(torch.ones(8))


@pytest.mark.parametrize("method", ["step", "observe"])
@pytest.mark.parametrize("loss", ["0.5", {"loss": 0.5}, [0.5]])
def test_what_is_not_a_number_is_refused(method, loss):
    with pytest.raises(TypeError, match="a loss must be a number or a tensor with one element"):
        getattr(PolicyLR(optimizer(), QUICK), method)(loss)


def test_a_bare_step_drives_a_schedule_of_time_without_a_word():
    scheduler = PolicyLR(optimizer(1.0), Cosine(steps=2))
    scheduler.step()
    assert scheduler.get_last_lr() == [0.5]


def test_a_policy_that_never_gets_a_loss_says_so_once():
    scheduler = GreedyLR(optimizer())
    with pytest.warns(UserWarning, match="step\\(\\) got no loss and none was observed, so Greedy leaves the rate as it is"):
        scheduler.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.1]


@pytest.mark.parametrize("when", [0, 1, 5])
def test_a_group_added_at_any_time_follows_from_the_next_step_on(when):
    opt = optimizer(0.1)
    scheduler = PolicyLR(opt, QUICK)
    falling = [8.0 - step for step in range(6)]
    for loss in falling[:when]:
        scheduler.step(loss)
    opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.3})
    for loss in falling[when:]:
        scheduler.step(loss)
    assert rates(opt) == [0.1 * scheduler.state.scale, 0.3 * scheduler.state.scale]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_tensor_rate_is_filled_in_place(kind):
    rate = torch.tensor(0.1)
    opt = kind([torch.nn.Parameter(torch.ones(2))], lr=rate)
    scheduler = PolicyLR(opt, QUICK)
    for loss in (3.0, 2.0):
        opt.step()
        scheduler.step(loss)
    group = opt.param_groups[0]
    assert group["lr"] is rate
    assert rate.item() == pytest.approx(0.4)
    assert group["initial_lr"] is not rate
    scheduler.get_last_lr()[0].zero_()
    assert rate.item() == pytest.approx(0.4)


@pytest.mark.parametrize("policy", EXAMPLES, ids=repr)
def test_resuming_from_a_checkpoint_at_any_step_equals_never_stopping(policy):
    values = [5.0, 4.0, math.nan, 3.5, 3.75, 3.75, 2.0, 2.5, 2.5, 2.25, 1.0, 0.5, 0.75, 0.75, 0.5, 0.25]
    whole = PolicyLR(optimizer(0.1, 0.7), policy)
    path = [whole.step(value) or (whole.get_last_lr(), whole.state) for value in values]
    for cut in range(len(values)):
        before, after = PolicyLR(optimizer(0.1, 0.7), policy), PolicyLR(optimizer(0.1, 0.7), policy)
        for value in values[:cut]:
            before.step(value)
        after.load_state_dict(saved(before))
        assert [after.step(value) or (after.get_last_lr(), after.state) for value in values[cut:]] == path[cut:]


def test_a_snapshot_does_not_change_with_the_scheduler():
    scheduler = GreedyLR(optimizer(), window=3, patience=0)
    scheduler.step(3.0)
    snapshot = scheduler.state_dict()
    before = repr(snapshot)
    scheduler.step(2.0)
    assert repr(snapshot) == before


def test_a_checkpoint_between_micro_batches_keeps_what_was_observed():
    first, second = PolicyLR(optimizer(), QUICK), PolicyLR(optimizer(), QUICK)
    first.observe(torch.tensor(3.0))
    second.load_state_dict(saved(first))
    second.observe(5.0)
    second.step()
    assert second.state.best == 4.0


def test_a_checkpoint_does_not_override_settings():
    old, new = GreedyLR(optimizer(), factor=0.5, patience=0), GreedyLR(optimizer(), factor=0.9, patience=7)
    old.step(3.0)
    new.load_state_dict(saved(old))
    assert new.policy == Greedy(factor=0.9, patience=7)
    assert new.get_last_lr() == [0.2]


@pytest.mark.parametrize(
    ("taken", "loaded", "message"),
    [
        (Plateau(), Greedy(), "this snapshot is not that of a Greedy"),
        (Greedy(window=5), Greedy(window=3), "taken with other settings than Greedy.*lengths of its windows"),
        (Warmup(Greedy(), steps=3), Warmup(Plateau(), steps=3), "this snapshot is not that of a Warmup"),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(taken, loaded, message):
    scheduler = PolicyLR(optimizer(), loaded)
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(PolicyLR(optimizer(), taken).state_dict())
    assert scheduler.state == loaded.init()


def test_the_snapshot_of_another_scheduler_is_refused():
    with pytest.raises(ValueError, match="this is no snapshot of a PolicyLR: it lacks observed, state, total"):
        PolicyLR(optimizer(), QUICK).load_state_dict(LinearLR(optimizer()).state_dict())


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_it_takes_over_from_a_warmup_of_pytorch():
    opt = optimizer(0.1)
    warmup, greedy = LinearLR(opt, 0.25, 1.0, total_iters=4), PolicyLR(opt, QUICK)
    both = SequentialLR(opt, [warmup, greedy], milestones=[4])
    path = []
    for loss in (9.0, 8.0, 7.0, 6.0, 5.0, 4.0):
        path.append(rates(opt)[0])
        opt.step()
        greedy.observe(loss)
        both.step()
    assert path == pytest.approx([0.025, 0.04375, 0.0625, 0.08125, 0.1, 0.2])


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_it_hands_over_to_a_scheduler_of_pytorch():
    opt = optimizer(0.1)
    greedy = PolicyLR(opt, QUICK)
    both = SequentialLR(opt, [greedy, LinearLR(opt, 0.5, 1.0, total_iters=2)], milestones=[2])
    path = []
    for loss in (9.0, 8.0, 7.0, 6.0):
        path.append(rates(opt)[0])
        opt.step()
        greedy.observe(loss)
        both.step()
    assert path == pytest.approx([0.1, 0.2, 0.05, 0.075])


def test_what_sequential_lr_refuses_is_a_policy():
    opt = optimizer(0.1)
    scheduler = PolicyLR(opt, Then(QUICK, Plateau(factor=0.1, patience=0), after=2))
    path = []
    for loss in (9.0, 8.0, 7.0, 7.0):
        scheduler.step(loss)
        path.append(rates(opt)[0])
    assert path == pytest.approx([0.2, 0.1, 0.1, 0.01])


def test_the_rate_of_the_optimizer_is_the_one_it_steps_with():
    opt = optimizer(0.5)
    scheduler = PolicyLR(opt, Cosine(steps=2))
    parameter = opt.param_groups[0]["params"][0]
    for moved in (0.5, 0.25):
        before = parameter.detach().clone()
        parameter.grad = torch.ones(2)
        opt.step()
        scheduler.step()
        assert (before - parameter).tolist() == [moved, moved]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda scheduler: pickle.loads(pickle.dumps(scheduler))])  # noqa: S301 - our own
def test_a_copy_goes_on_by_itself(copied):
    scheduler = GreedyLR(optimizer(), factor=0.5, patience=0, window=3)
    scheduler.step(3.0)
    other = copied(scheduler)
    other.step(2.0)
    assert (scheduler.get_last_lr(), other.get_last_lr()) == ([0.2], [0.4])
    assert rates(scheduler.optimizer) == [0.2]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda scheduler: pickle.loads(pickle.dumps(scheduler))])  # noqa: S301 - our own
def test_a_copy_that_judges_by_the_trend_goes_on_by_itself(copied):
    falling = [9.0 - step for step in range(9)]
    scheduler = GreedyLR(optimizer(), factor=0.5, patience=3, window=8, evidence=2.0)
    for loss in falling[:6]:
        scheduler.step(loss)
    other, before = copied(scheduler), scheduler.state
    for loss in falling[6:]:
        other.step(loss)
    assert scheduler.state == before
    for loss in falling[6:]:
        scheduler.step(loss)
    assert other.state == scheduler.state
    assert other.get_last_lr() == [0.2]


def test_greedy_lr_takes_the_settings_of_greedy():
    assert GreedyLR(optimizer()).policy == Greedy()
    settings = {
        "factor": 0.5,
        "patience": 1,
        "window": 9,
        "evidence": 3.0,
        "threshold": 0.1,
        "threshold_mode": "absolute",
        "raise_stage": 1,
    }
    settings |= {"cut_stage": 2, "stage": "hold", "min_scale": 0.5, "max_scale": 2.0, "reset_after": 9, "mode": "max"}
    assert set(settings) == set(inspect.signature(Greedy).parameters)
    assert GreedyLR(optimizer(), **settings).policy == Greedy(**settings)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PolicyLR("sgd", QUICK), TypeError, "str is not an Optimizer"),
        (lambda: PolicyLR(optimizer(), Greedy), TypeError, "got the class Greedy \\(call it to make one\\)"),
        (lambda: PolicyLR(optimizer(), 0.1), TypeError, "policy must be a policy, such as Greedy\\(\\)"),
        (lambda: PolicyLR(optimizer(), QUICK, last_epoch=3), ValueError, "use load_state_dict"),
        (lambda: GreedyLR(optimizer(), factor=1.2), ValueError, "factor must lie strictly between 0 and 1, got 1.2"),
    ],
)
def test_mistakes_are_refused_at_the_door(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("make", [GreedyLR, lambda opt: PolicyLR(opt, Warmup(Greedy(evidence=4.0), steps=3))])
def test_a_scheduler_is_gone_with_its_last_name(make):
    opt = optimizer()
    scheduler = make(opt)
    for loss in (3.0, 2.0, 1.0):
        scheduler.observe(loss)
        scheduler.step()
    was = weakref.ref(scheduler)
    gc.disable()
    try:
        del scheduler
        assert was() is None  # No cycle keeps it for the collector.
    finally:
        gc.enable()
