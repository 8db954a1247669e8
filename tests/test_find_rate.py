"""The rate finder finds a rate in spite of noise, and leaves no trace."""

import io
import json
from math import inf, isclose, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from surefoot.put_back import put_back
from surefoot.range_seen import RangeSeen
from surefoot.torch import GreedyLR, PolicyLR, RateFound, find_rate

TARGET = torch.linspace(-1.0, 1.0, 8)[:, None]


def batches(count=20, size=4, noise=0.0, seed=0):
    made = torch.Generator().manual_seed(seed)
    x = torch.randn(count, size, 8, generator=made)
    return list(zip(x, x @ TARGET + noise * torch.randn(count, size, 1, generator=made), strict=True))


def loss_of(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


def network():
    """One that has all that could be forgotten: parameters, running statistics, and random numbers."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))


def trained(optimizer_of, steps=3):
    """A model and its optimizer after a few steps, with a gradient there."""
    model = network()
    optimizer = optimizer_of(model.parameters())
    for batch in batches(steps):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
    return model, optimizer


def picture(model, optimizer):
    """Every bit of a training, and the identity of every object in it."""
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()], file)
    grads = [None if p.grad is None else (id(p.grad), p.grad.tolist()) for p in model.parameters()]
    tensors = [id(t) for t in [*model.parameters(), *model.buffers()]]
    tensors += [id(t) for state in optimizer.state.values() for t in state.values()]
    tensors += [id(group["lr"]) for group in optimizer.param_groups if isinstance(group["lr"], torch.Tensor)]
    modes = [module.training for module in model.modules()]
    keys = [sorted(group) for group in optimizer.param_groups]
    return file.getvalue(), grads, tensors, modes, keys, [group["lr"] for group in optimizer.param_groups]


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True),
    "tensor rate": lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-3)),
}


@pytest.mark.parametrize("optimizer_of", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_nothing_is_left_of_the_test(optimizer_of):
    model, optimizer = trained(optimizer_of)
    before = picture(model, optimizer)
    find_rate(model, optimizer, batches(), loss_of, steps=40)
    assert picture(model, optimizer) == before


def test_a_training_goes_on_as_if_there_had_been_no_test():
    def trained_on(looked):
        model, optimizer = trained(OPTIMIZERS["adam"])
        if looked:
            find_rate(model, optimizer, batches(), loss_of, steps=40)
        losses = []
        for batch in batches(5, seed=9):
            optimizer.zero_grad()
            losses.append(loss_of(model, batch))
            losses[-1].backward()
            optimizer.step()
        return [loss.item() for loss in losses]

    assert trained_on(looked=True) == trained_on(looked=False)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_after_an_error_or_ctrl_c(error):
    model, optimizer = trained(OPTIMIZERS["adam"])
    before, calls = picture(model, optimizer), []

    def failing(model, batch):
        calls.append(batch)
        if len(calls) == 30:
            raise error
        return loss_of(model, batch)

    with pytest.raises(error):
        find_rate(model, optimizer, batches(), failing)
    assert picture(model, optimizer) == before


def test_an_optimizer_that_has_made_no_step_has_no_state_afterwards():
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    find_rate(model, optimizer, batches(), loss_of, steps=30)
    assert not optimizer.state


def test_a_model_in_eval_is_tested_in_train_and_is_in_eval_afterwards():
    model, optimizer = trained(OPTIMIZERS["sgd"])
    model.eval()
    seen = set()

    def watched(model, batch):
        seen.add(model.training)
        return loss_of(model, batch)

    find_rate(model, optimizer, batches(), watched, steps=30)
    assert seen == {True}
    assert not any(module.training for module in model.modules())


def test_a_frozen_part_of_a_model_in_train_stays_frozen():
    model, optimizer = trained(OPTIMIZERS["sgd"])
    model[1].eval()
    modes = set()
    find_rate(model, optimizer, batches(), lambda m, b: (modes.add(m[1].training), loss_of(m, b))[1], steps=30)
    assert modes == {False}


def test_a_buffer_that_is_replaced_is_the_same_object_again():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 1)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count = self.count + 1.0
            return self.linear(x)

    model = Counting()
    count = model.count
    find_rate(model, torch.optim.SGD(model.parameters(), lr=0.1), batches(), loss_of, steps=30)
    assert model.count is count
    assert count.item() == 0.0


def test_data_loaders_that_shuffle_go_on_with_the_same_order():
    loader = torch.utils.data.DataLoader(torch.arange(20.0), batch_size=4, shuffle=True)
    model = nn.Linear(1, 1)

    def first():
        torch.manual_seed(5)
        find_rate(
            model, torch.optim.SGD(model.parameters(), lr=0.1), loader, lambda m, x: m(x[:, None]).square().mean(), steps=30
        )
        return next(iter(loader)).tolist()

    torch.manual_seed(5)
    assert next(iter(loader)).tolist() == first()


def test_groups_keep_their_ratios():
    model = network()
    optimizer = torch.optim.SGD([
        {"params": model[0].parameters(), "lr": 0.01},
        {"params": [*model[1].parameters(), *model[4].parameters()], "lr": 0.1},
    ])  # fmt: skip
    seen = []

    def watched(model, batch):
        seen.append([group["lr"] for group in optimizer.param_groups])
        return loss_of(model, batch)

    found = find_rate(model, optimizer, batches(), watched, low=1e-4, steps=60)
    assert all(isclose(low, 0.1 * high) for low, high in seen)
    assert isclose(seen[0][1], 1e-4)
    assert found.groups == (pytest.approx(0.1 * found.rate), found.rate)


@pytest.mark.parametrize("lr", [0.3, torch.tensor(0.3)])
def test_what_was_found_is_used_in_place(lr):
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    found = find_rate(model, optimizer, batches(), loss_of)
    found.use(optimizer)
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(found.rate)
    assert (optimizer.param_groups[0]["lr"] is lr) == isinstance(lr, torch.Tensor)


def test_a_scheduler_made_afterwards_has_the_found_rate_as_its_base():
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    found = find_rate(model, optimizer, batches(), loss_of)
    found.use(optimizer)
    assert GreedyLR(optimizer).base_lrs == [found.rate]


def test_the_rate_of_a_quadratic_is_near_what_its_curvature_allows():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    found = find_rate(model, torch.optim.SGD(model.parameters(), lr=1.0), batches(100, size=64), loss_of)
    assert 0.02 < found.rate < 1.0  # Gradients of these are twice as steep as far as one is from the target: 2 / 2 is the edge.
    assert found.falls < found.rate < found.lowest < found.explodes <= 10.0


def test_labels_of_noise_move_the_rate_by_little_over_seeds():
    rates = []
    for seed in range(6):
        torch.manual_seed(seed)
        model = nn.Linear(8, 1)
        found = find_rate(model, torch.optim.SGD(model.parameters(), lr=1.0), batches(100, 4, 1.0, seed), loss_of)
        rates.append(found.rate)
    assert None not in rates
    assert max(rates) < 8.0 * min(rates)


def test_a_loss_that_nothing_can_lower_gives_no_rate_and_says_so():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = torch.Generator().manual_seed(0)
    found = find_rate(model, optimizer, batches(), lambda m, b: 0.0 * loss_of(m, b) + torch.randn((), generator=noise))
    assert found.rate is None
    assert "no fall of the loss was to be told from noise" in found.reason
    with pytest.raises(ValueError, match="there is no rate to use: no fall"):
        found.use(optimizer)


def test_a_fall_that_goes_on_to_the_end_asks_for_more():
    model = nn.Linear(8, 1)
    found = find_rate(model, torch.optim.SGD(model.parameters(), lr=1.0), batches(100, 64), loss_of, high=1e-2)
    assert found.explodes is None
    assert "it was still falling there, so try a higher `high`" in found.reason


def test_few_batches_are_gone_through_again_and_those_of_a_generator_are_remembered():
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    some = batches(7)
    assert find_rate(model, optimizer, some, loss_of) == find_rate(model, optimizer, iter(some), loss_of)


def test_dropout_masks_are_the_same_before_and_now():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1))
    met = []

    def watched(model, batch):
        met.append(loss_of(model, batch).item())
        return loss_of(model, batch)

    find_rate(model, torch.optim.SGD(model.parameters(), lr=1.0), batches(), watched, low=1e-12, high=1e-11, steps=30)
    assert met[0::2] == pytest.approx(met[1::2])


def test_gradients_may_be_computed_by_somebody_else():
    model, calls = nn.Linear(8, 1), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    usual = find_rate(model, optimizer, batches(), loss_of)
    assert find_rate(model, optimizer, batches(), loss_of, backward=lambda loss: (calls.append(1), loss.backward())) == usual
    assert len(calls) == len(usual.losses)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"low": 0.0}, "low must be above 0 and below high"),
        ({"low": 1.0, "high": 0.1}, "low must be above 0 and below high"),
        ({"steps": 10}, "steps must be a whole number, 30 or more"),
        ({"batches": []}, "batches must hold one batch or more"),
        ({"loss_of": lambda m, b: m(b[0])}, r"one loss, got a tensor of shape \(4, 1\)"),
        ({"loss_of": lambda m, b: nan * loss_of(m, b)}, "before the first step must be finite, got nan"),
    ],
)
def test_wrong_use_gets_a_sentence(settings, said):
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=said):
        find_rate(model, optimizer, **{"batches": batches(), "loss_of": loss_of, **settings})


def test_what_is_no_model_no_optimizer_or_no_tensor_is_refused():
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="needs the model"):
        find_rate(optimizer, model, batches(), loss_of)
    with pytest.raises(TypeError, match="is not an Optimizer"):
        find_rate(model, model, batches(), loss_of)
    with pytest.raises(TypeError, match="must return the loss as a tensor, got 1.0"):
        find_rate(model, optimizer, batches(), lambda m, b: 1.0)


def test_an_optimizer_that_has_a_scheduler_is_refused():
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    GreedyLR(optimizer)
    with pytest.raises(ValueError, match="has a scheduler already"):
        find_rate(model, optimizer, batches(), loss_of)


def test_rates_of_0_alone_are_refused():
    model = nn.Linear(8, 1)
    with pytest.raises(ValueError, match="one group must have a rate above 0"):
        find_rate(model, torch.optim.SGD(model.parameters(), lr=0.0), batches(), loss_of)


@given(
    losses=st.lists(st.floats(-1e3, 1e3), min_size=8, max_size=60),
    window=st.integers(8, 12),
    power=st.integers(-20, 20),
)
def test_what_is_seen_does_not_depend_on_the_units_of_the_loss(losses, window, power):
    def seen(unit):
        watched = RangeSeen(window)
        for loss in losses:
            if watched.add(unit * loss, unit * 2.0):
                break
        return watched.falls, watched.lowest, watched.explodes

    assert seen(2.0**power) == seen(1.0)


@given(place=st.integers(0, 40), bad=st.sampled_from([nan, inf, -inf]))
def test_a_loss_that_is_no_number_ends_the_test_where_it_stands(place, bad):
    watched = RangeSeen(8)
    over = [watched.add(bad if step == place else 1.0 - 0.01 * step, 1.0) for step in range(place + 1)]
    assert over == [False] * place + [True]
    assert watched.explodes == place
    assert len(watched.smoothed()) == place


def test_settings_of_groups_are_put_back():
    model, optimizer = trained(OPTIMIZERS["sgd"])
    group = optimizer.param_groups[0]
    before = dict(group)
    with put_back(model, optimizer):
        group.update(momentum=0.0, more="of it")
        del group["nesterov"]
    assert group == before


def test_the_plot_shows_every_place_that_was_found():
    pytest.importorskip("vl_convert")
    model = nn.Linear(8, 1)
    found = find_rate(model, torch.optim.SGD(model.parameters(), lr=1.0), batches(), loss_of)
    svg = found.plot().svg()
    assert all(f">{word}<" in svg for word in ("falls", "lowest", "explodes", "suggested"))
    assert json.dumps(found.reason)[1:-1] in svg


def test_a_test_that_found_nothing_can_be_drawn_too():
    pytest.importorskip("vl_convert")
    found = RateFound(None, (), (0.1, 0.2), (nan,), (), None, None, 0.1, "nothing")
    assert "nothing" in found.plot().svg()


def test_policies_take_the_found_rate(tmp_path):
    from surefoot import Cosine

    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    find_rate(model, optimizer, batches(), loss_of).use(optimizer)
    assert PolicyLR(optimizer, Cosine(100)).get_last_lr() == [optimizer.param_groups[0]["lr"]]
