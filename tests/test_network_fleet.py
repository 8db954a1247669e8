"""Networks stacked: each run as PyTorch alone would train it."""

from __future__ import annotations

import pickle
import warnings
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import nn  # noqa: E402

from surefoot import data  # noqa: E402
from surefoot.batches import Batches  # noqa: E402
from surefoot.networks import OPTIMIZERS, Network, network  # noqa: E402
from surefoot.stacked import NetworkFleet, engines, memory  # noqa: E402
from surefoot.stacked.chain import Chain  # noqa: E402
from surefoot.stacked.optimizers import Stacked, Step  # noqa: E402
from surefoot.stacked.traced import Traced  # noqa: E402


class Lines(nn.Module):
    """An LSTM that reads digits line by line."""

    def __init__(self):
        super().__init__()
        self.memory, self.scores = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 10)

    def forward(self, x):
        return self.scores(self.memory(x.unflatten(1, (8, 8)))[0][:, -1])


class Letters(nn.Module):
    """A small transformer over the eight lines of a digit."""

    def __init__(self):
        super().__init__()
        self.into, self.places, self.norm = nn.Linear(8, 16), nn.Parameter(torch.zeros(8, 16)), nn.LayerNorm(16)
        self.heads, self.out = nn.Linear(16, 48), nn.Linear(16, 10)

    def forward(self, x):
        x = self.into(x.unflatten(1, (8, 8))) + self.places
        query, key, value = self.heads(self.norm(x)).unflatten(-1, (3, 2, 8)).movedim(-3, 0).transpose(-3, -2)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out((x + mixed.transpose(-3, -2).flatten(-2)).mean(1))


def perceptron():
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def convolutions(*, norm):
    between = [nn.BatchNorm2d(4)] if norm else []
    first = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1, bias=not norm), *between, nn.ReLU(), nn.MaxPool2d(2)]
    last = [nn.Conv2d(4, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 10)]
    return nn.Sequential(*first, *last)


def normed():
    return nn.Sequential(nn.Linear(64, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


MODELS = {
    "mlp": perceptron,
    "cnn": partial(convolutions, norm=False),
    "batch-norm cnn": partial(convolutions, norm=True),
    "batch-norm mlp": normed,
    "lstm": Lines,
    "gpt": Letters,
}
RATES = {"sgd": 0.05, "adam": 3e-3, "adamw": 3e-3}
STACKED = ["mlp", "cnn", "batch-norm cnn", "batch-norm mlp"]


def made(model, optimizer="sgd"):
    return Network(model, optimizer, RATES[optimizer], 100, 16, data.digits, MODELS[model])


def rates_of(problem):
    return problem.base * np.array([0.5, 1.0, 1.5])


def run(together, rates, steps, seeds=(0, 1, 2)):
    runs, seen = together.init(seeds), []
    for _ in range(steps):
        runs, signals = together.step(runs, rates)
        seen.append(signals["loss"])
    return runs, np.array(seen)


CASES = [(model, "stacked") for model in STACKED] + [
    ("cnn", "traced"),
    ("batch-norm cnn", "traced"),
    ("lstm", None),
    ("gpt", None),
]


@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize(("model", "engine"), CASES)
def test_a_fleet_trains_each_run_as_pytorch_does_alone(model, engine, optimizer):
    problem = made(model, optimizer)
    rates, together = rates_of(problem), problem.fleet(engine=engine)
    runs, seen = run(together, rates, 100)
    held_out = together.held_out(runs)
    for seed, rate in enumerate(rates):
        alone = problem.init(seed)
        expected = []
        for _ in range(100):
            alone, signals = problem.step(alone, rate)
            expected.append(signals["loss"])
        np.testing.assert_allclose(seen[:, seed], expected, rtol=1e-5, atol=1e-5)
        assert held_out[seed] == pytest.approx(problem.held_out(alone), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stacked_optimizer_takes_the_steps_of_pytorchs(name):
    random = torch.Generator().manual_seed(0)
    shapes, runs, rates = [(4, 3), (5,)], 3, torch.tensor([1e-3, 1e-2, 3e-2])
    stacked, weights = Stacked(OPTIMIZERS[name]), torch.randn(51, generator=random)
    start = [piece.view(runs, *shape) for piece, shape in zip(weights.clone().split([36, 15]), shapes, strict=True)]
    gradients = torch.randn(100, 51, generator=random)
    step = Step(
        weights,
        torch.empty(51),
        [torch.zeros(51) for _ in range(stacked.memories)],
        rates,
        torch.zeros(runs, dtype=torch.float64),
        [(runs, *shape) for shape in shapes],
    )
    for gradient in gradients:
        step.gradient.copy_(gradient)
        step.counts.add_(1.0)
        stacked.step(step)
    for place in range(runs):
        alone = [nn.Parameter(piece[place].clone()) for piece in start]
        optimizer = OPTIMIZERS[name](alone, lr=float(rates[place]))
        for gradient in gradients:
            for parameter, piece in zip(alone, gradient.split([36, 15]), strict=True):
                parameter.grad = piece.view(runs, *parameter.shape)[place].clone()
            optimizer.step()
        for parameter, piece in zip(alone, step.by_run(weights), strict=True):
            assert torch.allclose(piece[place], parameter.detach().flatten(), rtol=1e-5, atol=1e-6)


def test_a_fleet_starts_from_the_weights_of_each_seed():
    problem = made("mlp")
    (part,) = problem.fleet().init([5, 2]).parts
    for place, seed in enumerate([5, 2]):
        model = problem.init(seed).model
        assert torch.equal(part.weights[:2048].view(2, 16, 64)[place], model[0].weight)


def test_batches_taken_together_are_those_drawn_one_by_one():
    one, many = Batches(10, 3, seed=4), Batches(10, 3, seed=4)
    assert np.array_equal(many.take(5), [one.draw() for _ in range(5)])
    assert np.array_equal(many.copy().take(4), [one.draw() for _ in range(4)])


@pytest.mark.parametrize("model", STACKED)
def test_both_engines_find_the_same_losses(model):
    rates = rates_of(made(model))
    (_, by_hand), (_, traced) = (run(made(model).fleet(engine=engine), rates, 10) for engine in ("stacked", "traced"))
    np.testing.assert_allclose(by_hand, traced, rtol=1e-5)


@pytest.mark.parametrize("model", ["mlp", "cnn", "batch-norm cnn", "lstm"])
def test_half_the_precision_gives_nearly_the_same_losses(model):
    rates = rates_of(made(model))
    (_, full), (_, half) = (run(made(model).fleet(precision=kind), rates, 30) for kind in ("float32", "bfloat16"))
    np.testing.assert_allclose(half, full, rtol=0.1)
    assert not np.array_equal(half, full)


@pytest.mark.parametrize("model", ["cnn", "batch-norm cnn", "gpt"])
def test_a_diverged_run_changes_no_bit_of_the_others(model):
    together, rates = made(model).fleet(), rates_of(made(model))
    _, healthy = run(together, rates, 12)
    _, spoilt = run(together, np.where([False, True, False], 1e30, rates), 12)
    assert np.isnan(spoilt[-1, 1])
    assert np.array_equal(healthy[:, [0, 2]], spoilt[:, [0, 2]])


def test_running_statistics_belong_to_each_run():
    problem = made("batch-norm cnn")
    (part,) = run(problem.fleet(), rates_of(problem), 3)[0].parts
    for seed, rate in enumerate(rates_of(problem)):
        alone = problem.init(seed)
        for _ in range(3):
            problem.step(alone, rate)
        mean, variance = part.buffers.view(2, 3, 4)[:, seed]
        assert torch.allclose(mean, alone.model[2].running_mean, rtol=1e-5, atol=1e-6)
        assert torch.allclose(variance, alone.model[2].running_var, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", ["mlp", "batch-norm cnn"])
def test_how_many_are_worked_on_together_changes_nothing_but_rounding(model):
    rates = rates_of(made(model))
    _, whole = run(made(model).fleet(at_once=3), rates, 10)
    _, parts = run(made(model).fleet(at_once=2), rates, 10)
    np.testing.assert_allclose(whole, parts, rtol=1e-5)


def test_a_fleet_that_does_not_fit_is_split_and_says_so():
    problem = made("cnn")
    order, kept, working, _ = memory.per_run(problem.fleet())
    small = problem.fleet(capacity=int((4 * (order + kept) + 2.5 * working) / 0.7))
    with pytest.warns(UserWarning, match="4 runs of cnn do not fit on cpu at once: worked on 2 by 2"):
        runs = small.init(range(4))
    assert [part.runs for part in runs.parts] == [2, 2]
    with warnings.catch_warnings():
        assert len(problem.fleet().init(range(4)).parts) == 1


def test_a_fleet_whose_parameters_do_not_fit_is_refused_with_the_number_that_would():
    problem = made("mlp")
    with pytest.raises(
        MemoryError, match=r"1000 runs of mlp must find .* of memory, and there are .* \(train at most \d+ at once"
    ):
        problem.fleet(capacity=2_000_000).init(range(1000))


def test_runs_can_be_pickled_and_go_on_alike():
    problem = made("mlp")
    together = problem.fleet(at_once=2)
    runs, _ = run(together, rates_of(problem), 3)
    twin = pickle.loads(pickle.dumps(runs))  # noqa: S301 - our own bytes
    _, expected = together.step(runs, rates_of(problem))
    _, found = together.step(twin, rates_of(problem))
    assert np.array_equal(expected["loss"], found["loss"])


def test_a_fleet_leaves_the_random_numbers_of_others_alone():
    before = torch.random.get_rng_state()
    fleet = NetworkFleet(network("digits-mlp"))
    runs, _ = fleet.step(fleet.init([0, 1]), [0.1, 0.1])
    fleet.held_out(fleet.restart(runs, [0], [2]))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_step_leaves_the_processor_as_it_was():
    assert np.float32(1e-30) * np.float32(1e-10) > 0.0
    run(made("mlp").fleet(), np.full(3, 0.1), 1)
    assert np.float32(1e-30) * np.float32(1e-10) > 0.0


def test_a_chain_of_known_layers_is_stacked_and_everything_else_traced():
    assert isinstance(engines.engine(perceptron()), Chain)
    assert isinstance(engines.engine(perceptron(), "traced"), Traced)
    assert isinstance(engines.engine(Lines()), Traced)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(1, 2, 3, dilation=2),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(1, 2, 3, padding="same"),
        nn.MaxPool2d(3, stride=2),
        nn.BatchNorm2d(1, affine=False),
        nn.Flatten(0),
        nn.Tanh(),
    ],
    ids=str,
)
def test_a_layer_that_is_not_known_by_hand_is_traced(module):
    assert Chain.of(nn.Sequential(nn.Unflatten(1, (1, 8, 8)), module)) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": "float16"}, "precision must be one of 'float32', 'bfloat16', got 'float16'"),
        ({"engine": "fast"}, "engine must be one of 'stacked', 'traced', got 'fast'"),
        ({"at_once": 0}, "at_once must be a whole number, 1 or more, got 0"),
        ({"capacity": 0}, "capacity must be a whole number, 1 or more, got 0"),
    ],
)
def test_a_setting_outside_its_range_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        NetworkFleet(made("mlp"), **given)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(64, 10), nn.Dropout(0.5)), "must draw no random numbers, got Dropout"),
        (lambda: nn.Sequential(nn.LSTM(64, 10)), "an LSTM in a fleet must be batch_first"),
        (lambda: nn.Sequential(nn.Linear(64, 10), nn.Tanh(), nn.BatchNorm1d(10, momentum=None)), "must be affine and have a"),
    ],
)
def test_a_network_that_cannot_be_stacked_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        run(Network("odd", "sgd", 0.1, 10, 16, data.digits, model).fleet(), np.full(3, 0.1), 1)


def test_a_chain_of_unknown_layers_cannot_be_stacked_by_hand():
    with pytest.raises(ValueError, match="a stacked engine needs a chain of layers that it knows"):
        run(made("lstm").fleet(engine="stacked"), np.full(3, 0.1), 1)


def test_an_optimizer_with_settings_that_are_not_known_is_refused():
    with pytest.raises(ValueError, match="SGD of a fleet must leave nesterov at False, got True"):
        Stacked(partial(torch.optim.SGD, momentum=0.9, nesterov=True))
    with pytest.raises(ValueError, match="the optimizer of a fleet must be one of SGD, .*, got Rprop"):
        Stacked(torch.optim.Rprop)


def test_a_network_that_is_not_there_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="no problem is called 'mnist'; choose from digits-mlp"):
        network("mnist").fleet()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", ["mlp", "cnn", "batch-norm cnn", "gpt"])
def test_a_fleet_on_a_gpu_finds_the_losses_of_the_one_on_the_cpu(model):
    rates = rates_of(made(model))
    _, here = run(made(model).fleet(), rates, 20)
    together = made(model).fleet(device="cuda")
    runs, there = together.init(range(3)), []
    for _ in range(20):
        runs, signals = together.step(runs, torch.from_numpy(rates).cuda())
        there.append(signals["loss"].cpu().numpy())
    np.testing.assert_allclose(np.array(there), here, rtol=1e-3)
