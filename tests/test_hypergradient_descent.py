"""Hypergradient descent against its formulas, autograd and PyTorch's own optimizers."""

from __future__ import annotations

import copy
import io
import pickle
from math import inf, nan

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from surefoot import Constant, Cosine  # noqa: E402
from surefoot.hypergradient_descent import HypergradientDescent  # noqa: E402
from surefoot.torch import PolicyLR  # noqa: E402

PEERS = {
    "sgd": torch.optim.SGD,
    "momentum": lambda params, **own: torch.optim.SGD(params, momentum=0.9, **own),
    "nesterov": lambda params, **own: torch.optim.SGD(params, momentum=0.9, nesterov=True, **own),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
DIRECTIONS, RULES, GRANULARITIES = list(PEERS), ["multiplicative", "additive"], ["all", "group", "tensor", "element"]
SHAPES = [(3, 2), (4,), ()]
STEPS = {"multiplicative": 0.3, "additive": 0.01}


def parameters(seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=random, dtype=dtype)) for shape in SHAPES]


def loss_of(weights):
    """Smooth, with no direction like another, and not separable."""
    row = torch.cat([piece.flatten() for piece in weights])
    return ((1.0 + torch.arange(len(row), dtype=row.dtype)) * row.square()).sum() / 10.0 + (row.sum() - 1.0).cos()


def train(optimizer, weights, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(weights).backward()
        optimizer.step()


def in_groups(weights, **own):
    return [{"params": weights[:2]}, {"params": weights[2:], **own}]


def twin(weights, steps, *, direction, rule, per, lr=0.05, hyper_rate=0.01, decay=0.0, beta=0.9, betas=(0.9, 0.999), eps=1e-8):
    """The formulas number by number, slow and obvious; groups are the first two tensors and the rest."""
    numbers = [w.item() for piece in weights for w in piece.detach().flatten()]
    tensors = [place for place, piece in enumerate(weights) for _ in range(piece.numel())]
    unit = {"all": lambda k: 0, "group": lambda k: tensors[k] // 2, "tensor": lambda k: tensors[k], "element": lambda k: k}[per]
    units = [unit(k) for k in range(len(numbers))]
    rates = dict.fromkeys(units, lr)
    buffers, means, squares, last = ([0.0] * len(numbers) for _ in range(4))
    for count in range(1, steps + 1):
        places = iter(numbers)
        pieces = [
            torch.tensor([next(places) for _ in range(piece.numel())], dtype=torch.float64).view(piece.shape)
            for piece in weights
        ]
        for piece in pieces:
            piece.requires_grad_()
        loss_of(pieces).backward()
        gradient = [g.item() for piece in pieces for g in piece.grad.flatten()]
        if direction != "adamw":
            gradient = [g + decay * w for g, w in zip(gradient, numbers, strict=True)]
        for one in rates:
            mine = [k for k, its in enumerate(units) if its == one]
            slope = sum(gradient[k] * last[k] for k in mine)
            size = (sum(gradient[k] ** 2 for k in mine) * sum(last[k] ** 2 for k in mine)) ** 0.5
            if rule == "additive":
                rates[one] = max(0.0, rates[one] + hyper_rate * slope)
            elif size:
                rates[one] *= 1.0 + hyper_rate * slope / size
        for k, g in enumerate(gradient):
            buffers[k] = beta * buffers[k] + g
            means[k] = betas[0] * means[k] + (1.0 - betas[0]) * g
            squares[k] = betas[1] * squares[k] + (1.0 - betas[1]) * g * g
            root = (squares[k] / (1.0 - betas[1] ** count)) ** 0.5
            last[k] = {
                "sgd": g,
                "momentum": buffers[k],
                "nesterov": g + beta * buffers[k],
                "adam": means[k] / (1.0 - betas[0] ** count) / (root + eps),
                "adamw": means[k] / (1.0 - betas[0] ** count) / (root + eps) + decay * numbers[k],
            }[direction]
            numbers[k] -= rates[units[k]] * last[k]
    return numbers, [rates[one] for one in units]


@pytest.mark.parametrize("per", GRANULARITIES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_is_its_twin(direction, rule, per):
    weights, own = parameters(), {"direction": direction, "rule": rule, "per": per, "hyper_rate": STEPS[rule]}
    expected, rates = twin(weights, 12, decay=0.1, **own)
    optimizer = HypergradientDescent(in_groups(weights), lr=0.05, weight_decay=0.1, **own)
    train(optimizer, weights, 12)
    assert [w.item() for piece in weights for w in piece.detach().flatten()] == pytest.approx(expected, rel=1e-9)
    used = [rate for group in optimizer.rates() for rate in group]
    each = [r for rate, piece in zip(used, weights, strict=True) for r in (torch.ones_like(piece) * rate).flatten().tolist()]
    assert each == pytest.approx(rates, rel=1e-9)
    assert each != pytest.approx([0.05] * len(each), rel=1e-3)


@pytest.mark.parametrize("per", GRANULARITIES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), steps=st.integers(1, 4), lr=st.floats(1e-3, 0.1))
def test_the_additive_rule_descends_along_the_derivative_of_the_loss_with_respect_to_the_rate(direction, per, seed, steps, lr):
    weights, beta = parameters(seed), 1e-4
    optimizer = HypergradientDescent(
        in_groups(weights), lr=lr, direction=direction, rule="additive", per=per, hyper_rate=beta, weight_decay=0.0
    )
    train(optimizer, weights, steps)
    before = [torch.as_tensor(rate, dtype=torch.float64) for group in optimizer.rates() for rate in group]
    ways = [optimizer.state[piece]["direction"] for piece in weights]
    starts = [piece.detach() + rate * way for piece, rate, way in zip(weights, before, ways, strict=True)]
    if per in {"all", "group"}:
        shared = [torch.tensor(rate, requires_grad=True) for rate in (before[0].item(), before[2].item())]
        shared[1] = shared[0] if per == "all" else shared[1]
        leaves = [shared[0], shared[0], shared[1]]
    else:
        leaves = [rate.clone().requires_grad_() for rate in before]
    loss = loss_of([start - rate * way for start, rate, way in zip(starts, leaves, ways, strict=True)])
    hypergradients = torch.autograd.grad(loss, leaves)
    train(optimizer, weights, 1)
    after = [rate for group in optimizer.rates() for rate in group]
    for old, new, slope in zip(before, after, hypergradients, strict=True):
        expected = (old - beta * slope).clamp(min=0.0) * torch.ones_like(torch.as_tensor(new))
        assert torch.allclose(torch.as_tensor(new, dtype=torch.float64), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("per", ["all", "group", "tensor"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_with_hyper_rate_0_it_is_pytorchs_optimizer_bit_for_bit(direction, rule, per, decay):
    ours, theirs = (parameters(dtype=torch.float32) for _ in range(2))
    own = {"lr": 0.03, "weight_decay": decay}
    train(HypergradientDescent(ours, direction=direction, rule=rule, per=per, hyper_rate=0.0, **own), ours, 20)
    train(PEERS[direction](theirs, **own), theirs, 20)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rule=st.sampled_from(RULES),
    per=st.sampled_from(GRANULARITIES),
    size=st.floats(1e-6, 1e6),
    limits=st.tuples(st.floats(0.0, 1.0), st.floats(1.0, 5.0)),
)
def test_scales_stay_within_their_limits(seed, rule, per, size, limits):
    weights, random = parameters(seed), torch.Generator().manual_seed(seed)
    optimizer = HypergradientDescent(weights, 0.1, rule=rule, per=per, hyper_rate=0.9, min_scale=limits[0], max_scale=limits[1])
    for _ in range(8):
        for piece in weights:
            piece.grad = size * torch.randn(piece.shape, generator=random, dtype=piece.dtype)
        optimizer.step()
        for rate in optimizer.rates()[0]:
            scale = torch.as_tensor(rate, dtype=torch.float64) / 0.1
            assert (scale >= limits[0] * (1 - 1e-12)).all()
            assert (scale <= limits[1] * (1 + 1e-12)).all()


@pytest.mark.parametrize("per", ["all", "group", "tensor", "element"])
def test_the_multiplicative_rule_does_not_care_about_the_units_of_the_loss(per):
    def rates_for(unit):
        weights = parameters()
        optimizer = HypergradientDescent(weights, lr=0.05 / unit, per=per)
        for _ in range(10):
            optimizer.zero_grad()
            (unit * loss_of(weights)).backward()
            optimizer.step()
        return [unit * torch.as_tensor(rate) for rate in optimizer.rates()[0]]

    assert all(torch.equal(one, other) for one, other in zip(rates_for(1.0), rates_for(1024.0), strict=True))


@pytest.mark.parametrize("bad", [nan, inf, -inf])
@pytest.mark.parametrize("per", GRANULARITIES)
@pytest.mark.parametrize("direction", ["nesterov", "adamw"])
def test_a_gradient_that_is_not_finite_changes_nothing(direction, per, bad):
    weights = parameters()
    optimizer = HypergradientDescent(weights, lr=0.05, direction=direction, per=per, rule="additive", hyper_rate=0.01)
    train(optimizer, weights, 3)
    before = copy.deepcopy((weights, optimizer.state_dict()))
    loss_of(weights).backward()
    weights[0].grad.view(-1)[1] = bad
    optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before[0], weights, strict=True))
    assert str(before[1]) == str(optimizer.state_dict())


@pytest.mark.parametrize("per", GRANULARITIES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_going_on_from_a_snapshot_equals_never_stopping(direction, per):
    own = {"lr": 0.05, "direction": direction, "per": per}
    weights = parameters()
    optimizer = HypergradientDescent(in_groups(weights, lr=0.02), **own)
    train(optimizer, weights, 4)
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), [piece.data for piece in weights]), file)
    file.seek(0)
    snapshot, values = torch.load(file, weights_only=True)
    again = [torch.nn.Parameter(value) for value in values]
    other = HypergradientDescent(in_groups(again, lr=0.02), **own)
    other.load_state_dict(snapshot)
    train(optimizer, weights, 4)
    train(other, again, 4)
    assert all(torch.equal(one, two) for one, two in zip(weights, again, strict=True))


def test_it_can_be_pickled_and_copied():
    optimizer = HypergradientDescent(parameters(), per="tensor", rule="additive")
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):  # noqa: S301 - our own
        assert (other.per, other.rule, other.hyper_rate, other.max_scale) == ("tensor", "additive", 1e-6, inf)


def test_one_scale_for_all_keeps_the_ratios_of_the_groups():
    weights = parameters()
    optimizer = HypergradientDescent(in_groups(weights, lr=0.01), lr=0.05, per="all", hyper_rate=0.2)
    train(optimizer, weights, 8)
    (first, second), (third,) = optimizer.rates()
    assert first == second == pytest.approx(5.0 * third)
    assert first != pytest.approx(0.05)


def test_a_group_added_later_shares_the_scale_of_all():
    weights = parameters()
    optimizer = HypergradientDescent(weights[:2], lr=0.05, per="all", hyper_rate=0.2)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(weights).backward()
        optimizer.step()
    optimizer.add_param_group({"params": weights[2:]})
    assert optimizer.param_groups[1]["scale"] == optimizer.param_groups[0]["scale"] != 1.0


def test_a_policy_multiplies_what_is_learned():
    def scales(policy):
        weights = parameters()
        optimizer = HypergradientDescent(weights, lr=0.05, hyper_rate=0.2)
        scheduler = PolicyLR(optimizer, policy)
        for _ in range(5):
            train(optimizer, weights, 1)
            used = optimizer.rates()[0][0]
            learned = optimizer.param_groups[0]["scale"]
            assert used == pytest.approx(scheduler.get_last_lr()[0] * learned)
            scheduler.step()
        return scheduler.get_last_lr()[0], learned

    assert scales(Constant())[0] == 0.05
    assert scales(Cosine(steps=10))[0] < 0.05


def test_a_parameter_without_gradient_stays_and_has_no_part_in_the_next_hypergradient():
    still, moving = (torch.nn.Parameter(torch.tensor([value])) for value in (1.0, 2.0))
    optimizer = HypergradientDescent([still, moving], lr=0.1, hyper_rate=0.5)
    still.grad, moving.grad = torch.tensor([1.0]), torch.tensor([1.0])
    optimizer.step()
    still.grad = None
    optimizer.step()
    was = optimizer.param_groups[0]["scale"]
    still.grad, moving.grad = torch.tensor([-1e3]), torch.tensor([0.0])
    optimizer.step()
    assert still.item() == pytest.approx(0.9 + 1e3 * 0.1 * was)
    assert optimizer.param_groups[0]["scale"] == was == 1.5


def test_a_rate_that_reached_0_may_rise_again():
    weights = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = HypergradientDescent([weights], lr=0.1, rule="additive", hyper_rate=1.0)
    seen = []
    for gradient in (1.0, -1.0, -1.0, -1.0):
        weights.grad = torch.tensor([gradient])
        optimizer.step()
        seen.append(optimizer.rates()[0][0])
    assert seen == pytest.approx([0.1, 0.0, 1.0, 2.0])


def test_a_closure_finds_the_gradients():
    weights = parameters()
    optimizer = HypergradientDescent(weights, lr=0.01)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(weights)
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > optimizer.step(closure).item()


@pytest.mark.parametrize("per", GRANULARITIES)
def test_half_precision_is_trained_too(per):
    weights = torch.nn.Parameter(torch.tensor([2.0, 3.0], dtype=torch.bfloat16))
    optimizer = HypergradientDescent([weights], lr=0.1, per=per, direction="adam")
    for _ in range(5):
        weights.grad = weights.detach().clone()
        optimizer.step()
    assert (weights < torch.tensor([2.0, 3.0])).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"direction": "lion"}, "direction must be one of 'sgd'"),
        ({"per": "layer"}, "per must be one of 'all'"),
        ({"rule": "both"}, "rule must be one of"),
        ({"hyper_rate": 1.0}, "hyper_rate must be below 1, got 1.0"),
        ({"hyper_rate": -1.0}, "hyper_rate must be finite and 0 or more, got -1.0"),
        ({"lr": -0.1}, "lr must be finite and 0 or more, got -0.1"),
        ({"momentum": 1.0}, "momentum must be below 1, got 1.0"),
        ({"betas": (0.9, 1.0)}, "betas must be below 1, got 1.0"),
        ({"min_scale": 2.0}, "min_scale must lie between 0 and 1, got 2.0"),
        ({"max_scale": 0.5}, "max_scale must be finite and 1 or more, got 0.5"),
        ({"max_scale": nan}, "max_scale must be finite and 1 or more, got nan"),
    ],
)
def test_a_setting_outside_its_range_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        HypergradientDescent(parameters(), **given)


def test_complex_parameters_and_sparse_gradients_are_refused():
    with pytest.raises(TypeError, match="parameters must be real numbers, got one of torch.complex64"):
        HypergradientDescent([torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = HypergradientDescent(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="gradients must be dense, got a sparse one"):
        optimizer.step()
