"""A training that explodes goes on from where it was well."""

import copy
import gc
import pickle
import weakref
from math import isfinite

import pytest
import torch
from torch import nn

from policy_files import made
from surefoot import Clip, Greedy, Learned
from surefoot.rollback import Rollback
from surefoot.torch import PolicyLR

OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
    "tensor": lambda parameters: torch.optim.AdamW(parameters, lr=torch.tensor(0.1)),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=2),
}


class Training:
    """A small network with batch norm, and everything in it that a step changes."""

    def __init__(self, make=OPTIMIZERS["momentum"]):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
        self.optimizer = make(self.model.parameters())
        self.x = torch.randn(32, 3)
        self.y = self.x.sum(dim=1, keepdim=True)

    def loss(self):
        self.optimizer.zero_grad()
        loss = (self.model(self.x) - self.y).square().mean()
        loss.backward()
        return loss

    def step(self):
        loss = self.optimizer.step(self.loss) if isinstance(self.optimizer, torch.optim.LBFGS) else self._plain()
        return loss.item()

    def _plain(self):
        loss = self.loss()
        self.optimizer.step()
        return loss

    def everything(self):
        return copy.deepcopy((self.model.state_dict(), self.optimizer.state_dict()["state"]))


def same(first, second):
    return pickle.dumps(_plain(first)) == pickle.dumps(_plain(second))


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_alarm_puts_back_model_and_optimizer_to_the_last_bit(make):
    training = Training(make)
    rollback, past = Rollback(training.model, training.optimizer, every=2), []
    for _ in range(7):
        training.step()
        assert not rollback.step(alarms=0)
        past.append(training.everything())
    assert rollback.step(alarms=1)
    assert same(training.everything(), past[3])  # Copied after steps 2, 4 and 6; the last was not tried for 2 steps yet.
    assert rollback.count == 1


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_after_an_early_alarm_all_is_as_before_the_first_step(make):
    training = Training(make)
    rollback, before = Rollback(training.model, training.optimizer), training.everything()
    training.step()
    assert rollback.step(alarms=1)
    weights = {name: value for name, value in before[0].items() if "running" not in name and "tracked" not in name}
    assert same({name: training.model.state_dict()[name] for name in weights}, weights)
    assert same(training.everything()[1], {} if make is not OPTIMIZERS["sgd"] else before[1])


def test_what_was_copied_does_not_change_with_the_training():
    training = Training()
    rollback = Rollback(training.model, training.optimizer, every=1)
    for _ in range(3):
        training.step()
        rollback.step(0)
    for alarm in (1, 2):
        training.step()
        rollback.step(alarm)
        if alarm == 1:
            first = training.everything()
    assert same(training.everything(), first)


def test_the_rates_stay_those_of_the_policy():
    training = Training()
    rollback = Rollback(training.model, training.optimizer)
    training.step()
    training.optimizer.param_groups[0].update(lr=0.025, momentum=0.5)
    rollback.step(1)
    assert training.optimizer.param_groups[0]["lr"] == 0.025
    assert training.optimizer.param_groups[0]["momentum"] == 0.9


def test_a_ruined_model_is_never_copied():
    training = Training()
    rollback = Rollback(training.model, training.optimizer, every=1)
    training.step()
    rollback.step(0)
    for _ in range(5):
        with torch.no_grad():
            training.model[0].weight.fill_(float("nan"))
        rollback.step(0)
    rollback.step(1)
    assert isfinite(training.step())


def test_a_copy_that_is_broken_off_leaves_the_last_one(monkeypatch):
    training = Training()
    rollback = Rollback(training.model, training.optimizer, every=1)
    for _ in range(3):
        training.step()
        rollback.step(0)
        believed = training.everything()
    training.step()

    def stopped(_self):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.Tensor, "clone", stopped)
    with pytest.raises(KeyboardInterrupt):
        rollback.step(0)
    monkeypatch.undo()
    rollback.step(1)
    assert same(training.everything(), believed)


def test_tensors_are_filled_in_place():
    training = Training(OPTIMIZERS["adamw"])
    rollback = Rollback(training.model, training.optimizer, every=1)
    for alarms in (0, 0, 0):
        training.step()
        rollback.step(alarms)
    parameter = training.model[0].weight
    held = training.optimizer.state[parameter]["exp_avg"]
    rollback.step(1)
    assert training.model[0].weight is parameter
    assert training.optimizer.state[parameter]["exp_avg"] is held


def test_loading_the_model_after_the_scheduler_is_made_counts(tmp_path):
    training, loaded = Training(), Training()
    loaded.step()
    scheduler = PolicyLR(training.optimizer, Learned(made(tmp_path, seed=None)), rollback=training.model)
    training.model.load_state_dict(loaded.model.state_dict())
    expected = copy.deepcopy(training.model[0].weight)
    scheduler.step(training.step())
    scheduler.step(1e9)
    assert torch.equal(training.model[0].weight, expected)


def test_going_on_from_a_checkpoint_is_no_alarm(tmp_path):
    training = Training()
    policy = Learned(made(tmp_path, seed=None))
    first = PolicyLR(training.optimizer, policy, rollback=training.model)
    for loss in (1.0, 1e9):
        training.step()
        first.step(loss)
    assert first.state.alarms == 1
    second = PolicyLR(training.optimizer, policy, rollback=training.model)
    second.load_state_dict(first.state_dict())
    training.step()
    after = training.everything()
    second.step(1.0)
    assert same(training.everything(), after)


def trained(policy, make, rate, *, rollback):
    """The mean loss of the last steps of a network that finds the norm of a vector, from this rate."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer, losses = make(model.parameters(), lr=rate), []
    scheduler = PolicyLR(optimizer, policy, rollback=model if rollback else None)
    for _ in range(200):
        x = torch.randn(32, 8)
        loss = (model(x) - x.norm(dim=1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        losses.append(loss.item())
    return sum(losses[-20:]) / 20


# Stochastic gradient descent diverges from 1.5 on; AdamW learns best at 0.03.
@pytest.mark.parametrize(("make", "rate"), [(torch.optim.SGD, 15.0), (torch.optim.SGD, 45.0), (torch.optim.AdamW, 0.9)])
def test_a_network_survives_a_rate_that_is_ten_to_thirty_times_too_high(make, rate, tmp_path):
    policy = Learned(made(tmp_path, seed=None, window=5, alarm=3.0))  # One that does nothing but take alarm.
    assert not trained(policy, make, rate, rollback=False) < 2.0
    assert trained(policy, make, rate, rollback=True) < 0.5


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301 - our own
def test_a_copy_rolls_back_its_own_training(copied):
    training = Training()
    training.rollback = Rollback(training.model, training.optimizer)
    training.step()
    other = copied(training)
    before, mine = copy.deepcopy(other.model[0].weight), copy.deepcopy(training.model[0].weight)
    other.step()
    other.rollback.step(1)
    assert torch.equal(other.model[0].weight, before)
    assert torch.equal(training.model[0].weight, mine)


def test_it_is_gone_with_its_last_name():
    training = Training()
    rollback = Rollback(training.model, training.optimizer)
    was = weakref.ref(rollback)
    gc.disable()
    try:
        del rollback
        assert was() is None
    finally:
        gc.enable()
    training.step()


def test_a_clipped_policy_counts_alarms_too(tmp_path):
    training = Training()
    policy = Clip(Learned(made(tmp_path, seed=None)), max_scale=1.0)
    scheduler = PolicyLR(training.optimizer, policy, rollback=Rollback(training.model, training.optimizer, every=5))
    before = copy.deepcopy(training.model[0].weight)
    for loss in (training.step(), 1e9):
        scheduler.step(loss)
    assert torch.equal(training.model[0].weight, before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda t: PolicyLR(t.optimizer, Greedy(), rollback=t.model), ValueError, "goes by the alarms .* Greedy counts none"),
        (lambda t: Rollback("model", t.optimizer), TypeError, "needs the model whose parameters are trained, got a str"),
        (lambda t: Rollback(t.model, "adam"), TypeError, "str is not an Optimizer"),
        (lambda t: Rollback(nn.Linear(1, 1), t.optimizer), ValueError, "a model that has all parameters of the optimizer"),
        (lambda t: Rollback(t.model, t.optimizer, every=0), ValueError, "every must be a whole number, 1 or more, got 0"),
    ],
)
def test_mistakes_are_refused_at_the_door(make, error, message):
    with pytest.raises(error, match=message):
        make(Training())
