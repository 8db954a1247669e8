"""MoMo against its formulas, the model that it minimises, and methods that it contains."""

from __future__ import annotations

import copy
import io
import pickle
from math import inf, nan

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from surefoot import Cosine  # noqa: E402
from surefoot.momo import MoMo  # noqa: E402
from surefoot.torch import PolicyLR  # noqa: E402

SHAPES = [(3, 2), (4,), ()]
DIRECTIONS = ["sgd", "adam"]


def parameters(seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=random, dtype=dtype)) for shape in SHAPES]


def loss_of(weights, place=0):
    """One of many batches: smooth, positive, not separable."""
    row = torch.cat([piece.flatten() for piece in weights])
    target = torch.sin(torch.arange(len(row), dtype=row.dtype) * (1 + place % 5))
    return (row - target).square().mean() + (row.sum() - 1.0).cosh().log() + 0.1


def train(optimizer, weights, places):
    for place in places:
        optimizer.zero_grad()
        loss = loss_of(weights, place)
        loss.backward()
        optimizer.step(loss=loss)


def twin(weights, steps, *, direction, lr, decay, least, estimate, beta=0.9, second=0.999, eps=1e-8):
    """The articles' formulas number by number, slow and obvious."""
    numbers = [w.item() for piece in weights for w in piece.detach().flatten()]
    mean, product, slopes, squares, bound = 0.0, 0.0, [0.0] * len(numbers), [0.0] * len(numbers), least
    for count in range(1, steps + 1):
        places = iter(numbers)
        pieces = [
            torch.tensor([next(places) for _ in range(piece.numel())], dtype=torch.float64).view(piece.shape)
            for piece in weights
        ]
        for piece in pieces:
            piece.requires_grad_()
        loss = loss_of(pieces, count - 1)
        loss.backward()
        gradient = [g.item() for piece in pieces for g in piece.grad.flatten()]
        along = sum(g * w for g, w in zip(gradient, numbers, strict=True))
        if direction == "sgd" and count == 1:
            mean, product, slopes = loss.item(), along, gradient
        mean = (1.0 - beta) * loss.item() + beta * mean
        product = (1.0 - beta) * along + beta * product
        slopes = [(1.0 - beta) * g + beta * d for g, d in zip(gradient, slopes, strict=True)]
        squares = [(1.0 - second) * g * g + second * v for g, v in zip(gradient, squares, strict=True)]
        total = 1.0 if direction == "sgd" else 1.0 - beta**count
        metric = [1.0 if direction == "sgd" else eps + (v / (1.0 - second**count)) ** 0.5 for v in squares]
        inner = sum(d * w for d, w in zip(slopes, numbers, strict=True))
        norm = sum(d * d / m for d, m in zip(slopes, metric, strict=True))
        grown = 1.0 + lr * decay
        cap = grown * (mean - product) + inner
        if estimate and cap < grown * total * bound:
            bound = max(cap / (2.0 * grown * total), least)
        rate = min(lr / total, max(cap - grown * total * bound, 0.0) / norm)
        if estimate:
            bound = max((mean + inner - product - 0.5 * rate * norm) / total, least)
        numbers = [(w - rate * d / m) / grown for w, d, m in zip(numbers, slopes, metric, strict=True)]
    return numbers, bound


@pytest.mark.parametrize("estimate", [False, True])
@pytest.mark.parametrize("least", [0.0, 0.4])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("lr", [0.02, 5.0])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_is_its_twin(direction, lr, decay, least, estimate):
    weights = parameters()
    expected, bound = twin(weights, 30, direction=direction, lr=lr, decay=decay, least=least, estimate=estimate)
    optimizer = MoMo(weights, lr, direction=direction, weight_decay=decay, lower_bound=least, estimate=estimate)
    train(optimizer, weights, range(30))
    assert [w.item() for piece in weights for w in piece.detach().flatten()] == pytest.approx(expected, rel=1e-6)
    assert optimizer.lower_bound == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shared=st.tuples(*[st.tuples(st.floats(1e-3, 10.0), st.floats(0.0, 1.0))] * 2),
    bound=st.floats(-1.0, 1.0),
    steps=st.integers(0, 5),
)
def test_a_step_minimises_the_model_plus_the_distance_and_the_decay(direction, seed, shared, bound, steps):
    weights = parameters(seed)
    pieces = (weights[:2], weights[2:])
    groups = [{"params": own, "lr": rate, "weight_decay": decay} for own, (rate, decay) in zip(pieces, shared, strict=True)]
    optimizer = MoMo(groups, direction=direction, lower_bound=bound)
    train(optimizer, weights, range(steps))
    start = [piece.detach().clone() for piece in weights]
    train(optimizer, weights, [steps])

    beta, model = 0.9, optimizer.param_groups[0]["model"]
    total = 1.0 - beta ** (steps + 1) if direction == "adam" else 1.0
    means = [optimizer.state[piece]["mean"] for piece in weights]
    metrics = [torch.ones_like(mean) for mean in means]
    if direction == "adam":
        corrected = 1.0 - 0.999 ** (steps + 1)
        metrics = [(optimizer.state[piece]["square"] / corrected).sqrt() + 1e-8 for piece in weights]

    def objective(places):
        plane = model["loss"] - model["product"] + sum((m * w).sum() for m, w in zip(means, places, strict=True))
        value = torch.clamp(plane / total, min=bound)
        for place, here, metric, (rate, decay) in zip(places, start, metrics, [shared[0], *shared], strict=True):
            value = value + (metric * (place - here).square()).sum() / (2.0 * rate)
            value = value + decay / 2.0 * (metric * place.square()).sum()
        return value.item()

    found = [piece.detach() for piece in weights]
    least = objective(found)
    random = torch.Generator().manual_seed(seed)
    for size in (1e-3, 1e-2, 1e-1, 1.0):
        for _ in range(5):
            moves = [size * torch.randn(piece.shape, generator=random, dtype=piece.dtype) for piece in found]
            assert objective([piece + move for piece, move in zip(found, moves, strict=True)]) >= least - 1e-9 * (
                1 + abs(least)
            )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), lr=st.floats(1e-3, 100.0), bound=st.floats(-1.0, 1.0))
def test_without_momentum_it_is_the_polyak_step_with_a_ceiling(seed, lr, bound):
    weights, other = parameters(seed), parameters(seed)
    optimizer = MoMo(weights, lr, momentum=0.0, lower_bound=bound)
    for place in range(4):
        train(optimizer, weights, [place])
        loss = loss_of(other, place)
        gradients = torch.autograd.grad(loss, other)
        polyak = max(loss.item() - bound, 0.0) / sum(g.square().sum().item() for g in gradients)
        for piece, gradient in zip(other, gradients, strict=True):
            piece.data -= min(lr, polyak) * gradient
    assert all(torch.allclose(one, two, rtol=1e-8, atol=1e-10) for one, two in zip(weights, other, strict=True))


def test_with_a_bound_far_below_it_is_momentum_at_the_largest_rate():
    weights, other = parameters(), parameters()
    peer = torch.optim.SGD(other, lr=0.05, momentum=0.9, dampening=0.9)
    optimizer = MoMo(weights, 0.05, lower_bound=-1e9)
    for place in range(10):
        train(optimizer, weights, [place])
        peer.zero_grad()
        loss_of(other, place).backward()
        peer.step()
        assert optimizer.scale == 1.0
    assert all(torch.allclose(one, two) for one, two in zip(weights, other, strict=True))


def test_with_a_bound_far_below_its_adam_is_pytorchs_at_the_largest_rate():
    weights, other = parameters(), parameters()
    peer = torch.optim.Adam(other, lr=0.05)
    optimizer = MoMo(weights, 0.05, direction="adam", lower_bound=-1e9)
    for place in range(10):
        train(optimizer, weights, [place])
        peer.zero_grad()
        loss_of(other, place).backward()
        peer.step()
    assert all(torch.allclose(one, two) for one, two in zip(weights, other, strict=True))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_ceiling_does_not_bind_where_the_model_does(direction):
    ends = []
    for lr in (1e4, 1e6):
        weights = parameters()
        train(MoMo(weights, lr, direction=direction), weights, range(10))
        ends.append(weights)
    assert all(torch.allclose(one, two) for one, two in zip(*ends, strict=True))


def test_an_estimated_bound_never_goes_below_the_one_given():
    weights = parameters()
    optimizer = MoMo(weights, 5.0, lower_bound=0.05, estimate=True)
    for place in range(30):
        train(optimizer, weights, [place])
        assert optimizer.lower_bound >= 0.05


@pytest.mark.parametrize("bad", [nan, inf, -inf])
@pytest.mark.parametrize("of_loss", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_is_not_finite_changes_nothing(direction, of_loss, bad):
    weights = parameters()
    optimizer = MoMo(weights, direction=direction, estimate=True)
    train(optimizer, weights, range(3))
    before = copy.deepcopy((weights, optimizer.state_dict()))
    loss = loss_of(weights)
    loss.backward()
    if not of_loss:
        weights[0].grad.view(-1)[1] = bad
    optimizer.step(loss=bad if of_loss else loss)
    assert all(torch.equal(one, other) for one, other in zip(before[0], weights, strict=True))
    assert str(before[1]) == str(optimizer.state_dict())


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_going_on_from_a_snapshot_equals_never_stopping(direction):
    weights = parameters()
    optimizer = MoMo(weights, direction=direction, estimate=True)
    train(optimizer, weights, range(4))
    snapshot, file = optimizer.state_dict(), io.BytesIO()
    torch.save((snapshot, [piece.data for piece in weights]), file)
    file.seek(0)
    snapshot, values = torch.load(file, weights_only=True)
    again = [torch.nn.Parameter(value) for value in values]
    other = MoMo(again, direction=direction, estimate=True)
    other.load_state_dict(snapshot)
    train(optimizer, weights, range(4, 8))
    train(other, again, range(4, 8))
    assert all(torch.equal(one, two) for one, two in zip(weights, again, strict=True))
    assert other.lower_bound == optimizer.lower_bound


def test_it_can_be_pickled_and_copied():
    optimizer = MoMo(parameters(), direction="adam", lower_bound=-1.0, estimate=True)
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):  # noqa: S301 - our own
        assert (other.direction, other.lower_bound, other.estimate, other.scale) == ("adam", -1.0, True, 1.0)


def test_a_closure_may_find_the_loss():
    weights, other = parameters(), parameters()
    optimizer, peer = MoMo(weights), MoMo(other)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(weights)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
        train(peer, other, [0])
    assert all(torch.equal(one, two) for one, two in zip(weights, other, strict=True))


def test_a_policy_lowers_the_largest_rate():
    weights = parameters()
    optimizer = MoMo(weights, 0.05, lower_bound=-1e9)
    scheduler = PolicyLR(optimizer, Cosine(steps=4))
    train(optimizer, weights, [0])
    scheduler.step(1.0)
    before = [piece.detach().clone() for piece in weights]
    train(optimizer, weights, [1])
    for piece, old in zip(weights, before, strict=True):
        assert torch.allclose(old - piece, scheduler.get_last_lr()[0] * optimizer.state[piece]["mean"])


def test_a_parameter_without_gradient_counts_as_one_with_zeros():
    ends = []
    for is_left_out in (True, False):
        one, two = (torch.nn.Parameter(torch.tensor([value])) for value in (1.0, 2.0))
        never = torch.nn.Parameter(torch.tensor([7.0]))
        optimizer = MoMo([one, two, never])
        one.grad, two.grad = torch.tensor([1.0]), torch.tensor([1.0])
        optimizer.step(loss=3.0)
        one.grad, two.grad = torch.tensor([1.0]), None if is_left_out else torch.tensor([0.0])
        optimizer.step(loss=2.0)
        assert never.item() == 7.0
        ends.append((one.item(), two.item()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"direction": "lion"}, "direction must be one of 'sgd', 'adam'"),
        ({"lower_bound": -inf}, "lower_bound must be finite, got -inf .a loss without one needs no MoMo."),
        ({"lr": -0.1}, "lr must be finite and 0 or more, got -0.1"),
        ({"momentum": 1.0}, "momentum must be below 1, got 1.0"),
        ({"betas": (1.0, 0.9)}, "betas must be below 1, got 1.0"),
    ],
)
def test_a_setting_outside_its_range_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        MoMo(parameters(), **given)


def test_a_momentum_of_one_group_alone_is_refused():
    with pytest.raises(ValueError, match="momentum must be the same in all groups, got 0.5 in one of them"):
        MoMo([{"params": parameters(), "momentum": 0.5}])


def test_a_step_needs_one_loss():
    weights = parameters()
    optimizer = MoMo(weights)
    with pytest.raises(ValueError, match="a step needs either a closure or a loss, got neither"):
        optimizer.step()
    with pytest.raises(ValueError, match="a step needs either a closure or a loss, got both"):
        optimizer.step(lambda: 1.0, loss=1.0)
    with pytest.raises(ValueError, match="expected one loss, got a tensor of shape .2,.; reduce it first"):
        optimizer.step(loss=torch.ones(2))


def test_complex_parameters_and_sparse_gradients_are_refused():
    with pytest.raises(TypeError, match="parameters must be real numbers, got one of torch.complex64"):
        MoMo([torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = MoMo(table.parameters())
    loss = table(torch.tensor([1])).sum()
    loss.backward()
    with pytest.raises(ValueError, match="gradients must be dense, got a sparse one"):
        optimizer.step(loss=loss)
