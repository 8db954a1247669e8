"""Backtracking against its article's algorithm, what it promises of every step, and what its trials must leave alone."""

from __future__ import annotations

import copy
import io
import pickle
from functools import partial
from math import inf, nan

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from surefoot import Greedy, Step  # noqa: E402
from surefoot.backtracking import RESETS, Backtracking  # noqa: E402
from surefoot.torch import PolicyLR  # noqa: E402

EPOCH = 6


def batches(seed=0, columns=5):
    """Linear equations that one solution fits, in batches of fewer than there are unknowns."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((EPOCH, 3, columns))
    return x, x @ random.standard_normal(columns)


def fresh(seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(size, generator=random, dtype=dtype)) for size in (2, 3)]


def loss_of(weights, x, y):
    return (torch.as_tensor(x, dtype=weights[0].dtype) @ torch.cat(weights) - torch.as_tensor(y)).square().mean()


def train(optimizer, weights, places, seed=0):
    x, y = batches(seed)
    return [optimizer.step(partial(loss_of, weights, x[place % EPOCH], y[place % EPOCH])).item() for place in places]


def twin(weights, rates, steps, *, reset, decrease, shrink, growth, most):
    """The article's algorithm with a list of rates, one for each number, slow and obvious."""
    x, y = batches()
    largest, last, trials = max(rates), None, 0
    ratios = np.array(rates) / largest
    for step in range(steps):
        rows, targets = x[step % EPOCH], y[step % EPOCH]
        loss = np.mean((rows @ weights - targets) ** 2)
        gradient = 2.0 * rows.T @ (rows @ weights - targets) / len(rows)
        if last is None or reset == "full":
            rate = largest
        elif reset == "keep":
            rate = last
        else:
            rate = min(largest, last * growth ** (1.0 / EPOCH))
        for _ in range(most):
            trials += 1
            there = weights - rate * ratios * gradient
            if np.mean((rows @ there - targets) ** 2) <= loss - decrease * rate * np.sum(ratios * gradient**2):
                weights, last = there, rate
                break
            rate = shrink * rate
        else:
            last = rate / shrink if last is None else last
    return weights, trials


@pytest.mark.parametrize("most", [3, 100])
@pytest.mark.parametrize("rates", [(0.2, 0.2), (100.0, 100.0), (7.0, 0.5)])
@pytest.mark.parametrize(
    "chosen", [{"decrease": 0.1, "shrink": 0.9, "growth": 2.0}, {"decrease": 0.5, "shrink": 0.5, "growth": 30.0}]
)
@pytest.mark.parametrize("reset", RESETS)
def test_it_is_its_twin(reset, chosen, rates, most):
    weights = fresh()
    start, chosen = torch.cat(weights).detach().numpy(), {**chosen, "reset": reset}
    expected, trials = twin(start, [rates[0]] * 2 + [rates[1]] * 3, 20, most=most, **chosen)
    groups = [{"params": [piece], "lr": rate} for piece, rate in zip(weights, rates, strict=True)]
    optimizer = Backtracking(groups, steps_per_epoch=EPOCH, max_trials=most, **chosen)
    train(optimizer, weights, range(20))
    assert torch.cat(weights).tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    assert (optimizer.steps, optimizer.trials) == (20, trials)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    lr=st.floats(1e-3, 1e3),
    chosen=st.fixed_dictionaries(
        {"decrease": st.floats(0.01, 0.9), "shrink": st.floats(0.3, 0.9), "reset": st.sampled_from(RESETS)}
    ),
    steps=st.integers(0, 10),
)
def test_a_step_lowers_the_loss_of_its_batch_by_as_much_as_is_asked_for(seed, lr, chosen, steps):
    weights = fresh(seed)
    optimizer = Backtracking(weights, lr, **chosen)
    train(optimizer, weights, range(steps), seed)
    (before,) = train(optimizer, weights, [steps], seed)
    square = sum(piece.grad.square().sum().item() for piece in weights)
    x, y = batches(seed)
    after = loss_of(weights, x[steps % EPOCH], y[steps % EPOCH]).item()
    assert after <= before - chosen["decrease"] * optimizer.scale * lr * square * (1.0 - 1e-12) + 1e-15 * before
    assert 0.0 < optimizer.scale <= 1.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.floats(1e-4, 1e4))
def test_in_float32_no_step_raises_the_loss_of_its_batch(seed, size):
    weights = fresh(seed, torch.float32)
    optimizer = Backtracking(weights, 10.0)
    x, y = batches(seed)
    for place in range(30):
        closure = partial(loss_of, weights, x[place % EPOCH] * size, torch.tensor(y[place % EPOCH], dtype=torch.float32))
        assert closure().item() >= (optimizer.step(closure), closure().item())[1]


@pytest.mark.parametrize("lr", [1.0, 1e3])
@pytest.mark.parametrize("reset", RESETS)
def test_it_solves_equations_that_have_a_solution(reset, lr):
    weights = fresh()
    losses = train(Backtracking(weights, lr, reset=reset, steps_per_epoch=EPOCH), weights, range(600))
    assert max(losses[-EPOCH:]) < 1e-9 * max(losses[:EPOCH])


def test_a_rate_that_always_will_do_makes_it_gradient_descent():
    weights, other = fresh(), fresh()
    optimizer, peer = Backtracking(weights, 0.01), torch.optim.SGD(other, lr=0.01)
    train(optimizer, weights, range(10))
    x, y = batches()
    for place in range(10):
        peer.zero_grad()
        loss_of(other, x[place % EPOCH], y[place % EPOCH]).backward()
        peer.step()
    assert all(torch.equal(one, two) for one, two in zip(weights, other, strict=True))
    assert (optimizer.scale, optimizer.steps, optimizer.trials, optimizer.failures) == (1.0, 10, 10, 0)


def quadratic(curvature):
    """One weight at 1, whose loss at decrease 0.5 accepts rates up to 1 / curvature, and what computes it."""
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    return weight, lambda: curvature * weight.square() / 2.0


@pytest.mark.parametrize(
    ("reset", "expected"),
    [("keep", [0.25, 0.25, 0.25, 0.125]), ("full", [0.25, 1.0, 1.0, 0.125]), ("grow", [0.25, 0.5, 1.0, 0.125])],
)
def test_a_search_begins_where_reset_says(reset, expected):
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = Backtracking([weight], 1.0, decrease=0.5, shrink=0.5, reset=reset, growth=4.0, steps_per_epoch=2)
    scales = []
    for curvature in (4.0, 0.9, 0.9, 8.0):
        weight.data.fill_(1.0)
        optimizer.step(lambda curvature=curvature: curvature * weight.square() / 2.0)
        scales.append(optimizer.scale)
    assert scales == expected


def test_a_search_without_success_leaves_the_weights_and_the_next_goes_on_from_it():
    weight, closure = quadratic(1.0)
    optimizer = Backtracking([weight], 2.0**10, shrink=0.5, max_trials=6)
    assert optimizer.step(closure).item() == 0.5
    assert (weight.item(), optimizer.scale, optimizer.failures, optimizer.trials) == (1.0, 0.0, 1, 6)
    optimizer.step(closure)
    assert (optimizer.failures, optimizer.trials) == (1, 6 + 6)
    assert weight.item() != 1.0


def test_a_search_without_success_does_not_lose_the_rate_of_others():
    weight, closure = quadratic(1.0)
    optimizer = Backtracking([weight], 1.0, reset="keep", max_trials=3)
    optimizer.step(closure)
    noise = iter([1.0, 2.0, 2.0, 2.0])
    weight.data.fill_(1.0)
    optimizer.step(lambda: closure() + next(noise))
    assert (weight.item(), optimizer.scale, optimizer.failures) == (1.0, 0.0, 1)
    optimizer.step(closure)
    assert optimizer.scale == 1.0


def test_a_trial_that_is_not_finite_is_too_high():
    weight = nn.Parameter(torch.tensor(1.0))
    Backtracking([weight], 1e3, shrink=0.5).step(lambda: weight.log().square() + 4.0 * weight)  # No logarithm below 0.
    assert 0.0 < weight.item() < 1.0
    Backtracking([weight], 1e3).step(lambda: weight - 1.0 / (weight > -1.0))  # A loss of -inf is none either.
    assert -1.0 < weight.item() < 0.0


@pytest.mark.parametrize("bad", [nan, inf, -inf])
@pytest.mark.parametrize("of_loss", [True, False])
def test_what_is_not_finite_changes_nothing_but_the_count_of_steps(of_loss, bad):
    weights = fresh()
    optimizer = Backtracking(weights)
    train(optimizer, weights, range(3))
    before, scale = [piece.detach().clone() for piece in weights], optimizer.scale
    rate, trials = optimizer.param_groups[0]["found"]["rate"], optimizer.trials
    if not of_loss:
        weights[1].register_hook(lambda gradient: gradient * bad)
    x, y = batches()
    optimizer.step(lambda: loss_of(weights, x[0], y[0]) + (bad if of_loss else 0.0))
    assert all(torch.equal(one, two) for one, two in zip(before, weights, strict=True))
    assert (optimizer.scale, optimizer.trials, optimizer.steps) == (scale, trials, 4)
    assert optimizer.param_groups[0]["found"]["rate"] == rate


@pytest.mark.parametrize("exponent", [-30, 30])
def test_gradients_whose_squares_leave_float32_are_searched_all_the_same(exponent):
    weight, unit = nn.Parameter(torch.tensor(1.0)), 10.0**exponent
    Backtracking([weight], 1.0 / unit).step(lambda: weight.square() * unit)
    assert abs(weight.item()) < 1.0


@pytest.mark.parametrize(("lr", "slope"), [(0.0, 1.0), (1.0, 0.0)])
def test_where_nothing_can_move_nothing_is_tried(lr, slope):
    weight = nn.Parameter(torch.tensor(1.0))
    optimizer = Backtracking([weight], lr)
    optimizer.step(lambda: slope * weight)
    assert (weight.item(), optimizer.steps, optimizer.trials, optimizer.failures) == (1.0, 1, 0, 0)


def test_a_parameter_without_gradient_stays():
    weights, idle = fresh(), nn.Parameter(torch.tensor([7.0]))
    optimizer = Backtracking([*weights, idle], 1.0)
    train(optimizer, weights, range(3))
    assert (idle.item(), idle.grad) == (7.0, None)


def dropped(seed, steps=4, trials=True, **settings):
    """Losses of a model with dropout and batch normalisation, and what it has become."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 1))
    lr = 100.0 if trials else 0.0
    optimizer = Backtracking(model.parameters(), lr, module=model, **settings)
    random = torch.Generator().manual_seed(seed)
    for x in torch.randn(steps, 8, 4, generator=random):
        optimizer.step(lambda x=x: (model(x) - x.sum(1, keepdim=True)).square().mean())
    return model, optimizer, torch.rand(3)


def test_random_numbers_go_on_as_after_one_pass_a_step():
    _, many, after_many = dropped(0)
    _, none, after_none = dropped(0, trials=False)
    assert many.trials > 10
    assert none.trials == 0
    assert torch.equal(after_many, after_none)


def test_all_passes_of_a_step_see_one_dropout_mask():
    weight, seen = nn.Parameter(torch.ones(50)), []

    def closure():
        kept = nn.functional.dropout(torch.ones(50), 0.5)
        seen.append(kept)
        return (kept * weight).square().sum()

    optimizer = Backtracking([weight], 10.0)
    optimizer.step(closure)
    first = len(seen)
    optimizer.step(closure)
    assert first > 3
    assert all(torch.equal(seen[0], mask) for mask in seen[:first])
    assert all(torch.equal(seen[first], mask) for mask in seen[first:])
    assert not torch.equal(seen[0], seen[first])


def test_buffers_are_those_of_one_pass():
    model, optimizer, _ = dropped(3, steps=1)
    other, _, _ = dropped(3, steps=1, trials=False)
    assert optimizer.trials > 10
    for one, two in zip(model.buffers(), other.buffers(), strict=True):
        assert torch.equal(one, two)


def test_a_buffer_that_is_exchanged_in_a_pass_is_put_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("nothing", None)
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self):
            self.count = self.count + 1.0
            return self.count * self.weight.square()

    model = Counting()
    optimizer = Backtracking(model.parameters(), 10.0, module=model)
    for _ in range(3):
        optimizer.step(model)
    assert optimizer.trials > 10
    assert model.count.item() == 3.0


def test_when_a_trial_fails_all_is_as_before():
    model, optimizer, _ = dropped(0, steps=1)
    weights = copy.deepcopy(model.state_dict())
    calls = []

    def closure():
        calls.append(torch.rand(()))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 0.0 * model(torch.ones(2, 4)).sum() + model[0].weight.square().sum()

    torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert all(torch.equal(weights[name], now) for name, now in model.named_parameters())
    assert model[1].num_batches_tracked.item() == 2
    assert calls[0] == calls[1]


def test_going_on_from_a_snapshot_equals_never_stopping():
    weights = fresh()
    optimizer = Backtracking(weights, 10.0, steps_per_epoch=EPOCH)
    train(optimizer, weights, range(7))
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), [piece.data for piece in weights]), file)
    file.seek(0)
    snapshot, values = torch.load(file, weights_only=True)
    again = [nn.Parameter(value) for value in values]
    other = Backtracking(again, 3.0, steps_per_epoch=EPOCH)
    other.load_state_dict(snapshot)
    assert train(optimizer, weights, range(7, 20)) == train(other, again, range(7, 20))
    assert all(torch.equal(one, two) for one, two in zip(weights, again, strict=True))
    assert str(other.state_dict()) == str(optimizer.state_dict())
    assert snapshot["param_groups"][0]["found"]["steps"] == 7


def test_it_can_be_pickled_and_copied():
    model = nn.Linear(2, 1)
    optimizer = Backtracking(model.parameters(), decrease=0.3, reset="keep", module=model, steps_per_epoch=4)
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):  # noqa: S301 - our own
        assert (other.decrease, other.reset, other.steps_per_epoch, other.scale) == (0.3, "keep", 4, 1.0)
        assert other.module.weight is other.param_groups[0]["params"][0]


def test_a_policy_sets_the_ceiling():
    weight, closure = quadratic(0.1)
    optimizer = Backtracking([weight], 0.5)
    scheduler = PolicyLR(optimizer, Step(milestones=(2,), factor=0.5))
    rates = []
    for _ in range(4):
        before = weight.item()
        loss = optimizer.step(closure)
        rates.append((before - weight.item()) / (0.1 * before))
        scheduler.step(loss)
    assert rates == pytest.approx([0.5, 0.5, 0.25, 0.25])
    greedy = PolicyLR(Backtracking([weight], 0.5), Greedy(factor=0.5, patience=0))
    for _ in range(3):
        greedy.step(greedy.optimizer.step(closure))
    assert greedy.get_last_lr()[0] > 0.5


def test_a_policy_that_needs_gradients_before_the_step_is_refused():
    from surefoot.alignment import Alignment

    weight, closure = quadratic(0.1)
    optimizer = Backtracking([weight], 0.5)
    Alignment(optimizer)
    with pytest.raises(ValueError, match="gradients must be there before the step, got a closure"):
        optimizer.step(closure)


def test_a_rate_may_be_a_tensor():
    weight, closure = quadratic(1.0)
    Backtracking([weight], torch.tensor(0.5)).step(closure)
    assert weight.item() == 0.5


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"lr": -0.1}, ValueError, "lr must be finite and 0 or more, got -0.1"),
        ({"decrease": 1.0}, ValueError, "decrease must lie strictly between 0 and 1, got 1.0"),
        ({"shrink": 0.0}, ValueError, "shrink must lie strictly between 0 and 1, got 0.0"),
        ({"reset": "never"}, ValueError, "reset must be one of 'grow', 'keep', 'full', got 'never'"),
        ({"growth": 0.5}, ValueError, "growth must be finite and 1 or more, got 0.5 .rates that never rise: reset="),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be a whole number, 1 or more, got 0"),
        ({"max_trials": 2.5}, TypeError, "max_trials must be a whole number, got 2.5"),
        ({"module": "model"}, TypeError, "module must be the model whose buffers are put back, got 'model'"),
    ],
)
def test_a_setting_outside_its_range_is_refused(given, kind, message):
    with pytest.raises(kind, match=message):
        Backtracking(fresh(), **given)


def sent_backward(weight):
    loss = weight.square().sum()
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("closure", "kind", "message"),
    [
        (lambda _: 1.0, TypeError, "the closure must return the loss as a tensor, got 1.0 .leave out .item"),
        (lambda weight: weight * 2.0, ValueError, "expected one loss, got a tensor of shape .2,.; reduce it first"),
        (lambda weight: weight.detach().sum(), ValueError, "loss must depend on the parameters, got one without a graph"),
        (sent_backward, ValueError, "the closure must only compute the loss, got gradients from it .leave out loss.backward"),
    ],
)
def test_a_closure_that_does_something_else_is_refused(closure, kind, message):
    weight = nn.Parameter(torch.ones(2))
    optimizer = Backtracking([weight])
    with pytest.raises(kind, match=message):
        optimizer.step(lambda: closure(weight))
    assert weight.tolist() == [1.0, 1.0]


def test_a_step_without_a_closure_is_refused():
    with pytest.raises(TypeError, match="a line search computes the loss several times, so a step needs a closure, got None"):
        Backtracking(fresh()).step()


def test_complex_parameters_and_sparse_gradients_are_refused():
    with pytest.raises(TypeError, match="parameters must be real numbers, got one of torch.complex64"):
        Backtracking([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
    table = nn.Embedding(4, 2, sparse=True)
    before = table.weight.detach().clone()
    with pytest.raises(ValueError, match="gradients must be dense, got a sparse one"):
        Backtracking(table.parameters()).step(lambda: table(torch.tensor([1])).square().sum())
    assert torch.equal(before, table.weight)


def normed(made, base=10.0):
    pytest.importorskip("sklearn")
    from surefoot import data
    from surefoot.models import perceptron
    from surefoot.networks import Network

    return Network("mlp", "sgd", base, 60, 32, data.digits, partial(perceptron, 64, (16,), 10, batch_norm=True), made=made)


def test_a_network_of_the_problems_is_trained_one_run_at_a_time():
    from surefoot.fleet import OneByOne

    together = OneByOne(normed(Backtracking))
    runs = together.init([0, 1])
    for _ in range(60):
        runs, signals = together.step(runs, [10.0, 0.1])
    assert (signals["loss"] < 0.8).all()
    optimizer = runs[0].optimizer
    assert (optimizer.steps_per_epoch, optimizer.steps, optimizer.failures) == (
        len(together.problem.data().train_x) // 32,
        60,
        0,
    )
    assert 60 < optimizer.trials < 240
    assert runs[0].model[1].num_batches_tracked.item() == 60


def test_a_network_keeps_the_epoch_that_it_was_told():
    problem = normed(partial(Backtracking, steps_per_epoch=7))
    assert problem.init(0).optimizer.steps_per_epoch == 7


def test_a_fleet_takes_its_runs_one_by_one_and_settings_of_a_fleet_are_refused():
    assert type(normed(Backtracking).fleet()).__name__ == "OneByOne"
    with pytest.raises(ValueError, match="the optimizer of a fleet must be one of .*, got Backtracking"):
        normed(Backtracking).fleet(gradients=True)
