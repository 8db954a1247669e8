"""The optimizers of the comparison are what their authors ship, and evaluating them changes nothing."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from functools import partial
from math import isfinite
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
schedulefree = pytest.importorskip("schedulefree")
prodigyopt = pytest.importorskip("prodigyopt")

from torch.nn.functional import cross_entropy  # noqa: E402

from surefoot import Constant, averaged, train  # noqa: E402
from surefoot.batches import Batches  # noqa: E402
from surefoot.contest import optimizers, tasks  # noqa: E402
from surefoot.contest.optimizers import CELLS, OPTIMIZERS  # noqa: E402
from surefoot.fleet import OneByOne, fleet  # noqa: E402
from surefoot.hypergradient_descent import HypergradientDescent  # noqa: E402
from surefoot.momo import MoMo  # noqa: E402
from surefoot.stacked.optimizers import is_known  # noqa: E402

PAGE = Path(__file__).parent.parent / "docs" / "contest-optimizers.md"
PLAIN = next(task for task in tasks.load() if task.name == "digits-mlp")
NORMED = tasks.ContestTask(
    "normed", "development", "vision", "digits", 449, "normed-perceptron", (16,), 32, "cross-entropy", 60, ("scikit-learn",)
)
TWINS = {
    "schedule-free-sgd": schedulefree.SGDScheduleFree,
    "schedule-free-adamw": schedulefree.AdamWScheduleFree,
    "prodigy": prodigyopt.Prodigy,
}
MODES = [name for name, optimizer in OPTIMIZERS.items() if optimizer.has_modes]

every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
with_modes = pytest.mark.parametrize("name", MODES)


def made_of(name):
    return OPTIMIZERS[name].make([torch.nn.Parameter(torch.ones(2))], lr=OPTIMIZERS[name].rate)


def losses(problem, run, steps, rate=None):
    seen = []
    for _ in range(steps):
        run, signals = problem.step(run, problem.base if rate is None else rate)
        seen.append(signals["loss"])
    return seen


def in_bytes(value):
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else value


def state_of(run):
    """All that a training is, in bytes."""
    tensors = {**run.model.state_dict(), **{f"{name}.grad": weights.grad for name, weights in run.model.named_parameters()}}
    memory = run.optimizer.state_dict()
    kept = [(name, in_bytes(value)) for of_one in memory["state"].values() for name, value in of_one.items()]
    layers = [layer.training for layer in run.model.modules()]
    order = run.batches.copy().take(100).tobytes()
    own = {name: in_bytes(tensor) for name, tensor in tensors.items()}
    return own, kept, repr(memory["param_groups"]), layers, order, in_bytes(torch.get_rng_state())


def twin(task, kind, rate, steps, seed):
    """The loop that anyone would write, with the package alone: losses, and the held-out loss after them."""
    split, build = task.problem().data(), task.problem().model
    torch.manual_seed(seed)
    model = build()
    optimizer = kind(model.parameters(), lr=rate)
    has_modes = hasattr(optimizer, "train")
    batches, seen = Batches(len(split.train_x), task.batch_size, seed), []
    x, y, held_out_x, held_out_y = (torch.from_numpy(array) for array in split)
    if has_modes:
        optimizer.train()
    for _ in range(steps):
        rows = batches.draw()
        loss = cross_entropy(model(x[rows]), y[rows].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    if has_modes:
        optimizer.eval()
        with torch.no_grad():
            for _ in range(50):
                model(x[batches.draw()])
    model.eval()
    with torch.no_grad():
        return seen, cross_entropy(model(held_out_x), held_out_y.long()).item()


@pytest.mark.parametrize("task", [PLAIN, NORMED], ids=lambda task: task.name)
@pytest.mark.parametrize("factor", [0.1, 1.0])
@pytest.mark.parametrize("name", TWINS)
def test_a_package_trains_as_in_a_loop_of_its_own(name, factor, task):
    problem = task.problem(name)
    rate = factor * problem.base
    run = problem.init(3)
    found = losses(problem, run, 40, rate), problem.held_out(run)
    with torch.random.fork_rng():
        assert found == twin(task, TWINS[name], rate, 40, 3)


@pytest.mark.parametrize("task", [PLAIN, NORMED], ids=lambda task: task.name)
@with_modes
def test_evaluating_changes_no_bit_of_the_training(name, task):
    problem = task.problem(name)
    run, undisturbed = problem.init(0), losses(problem, problem.init(0), 12)
    for loss in undisturbed:
        before = state_of(run)
        first = problem.held_out(run)
        assert problem.held_out(run) == first
        assert state_of(run) == before
        run, signals = problem.step(run, problem.base)
        assert signals["loss"] == loss


@with_modes
def test_a_network_is_judged_at_the_average_and_trained_elsewhere(name):
    problem = PLAIN.problem(name)
    run = problem.init(0)
    losses(problem, run, 30)
    _, _, x, y = (torch.from_numpy(array) for array in problem.data())
    with torch.no_grad():
        trained_at = cross_entropy(run.model(x), y.long()).item()
    judged, twin_run = problem.held_out(run), copy.deepcopy(run)
    twin_run.optimizer.eval()
    with torch.no_grad():
        assert judged == cross_entropy(twin_run.model(x), y.long()).item()
    assert abs(judged - trained_at) > 1e-4


@with_modes
def test_running_statistics_are_found_anew_where_the_network_is_judged(name):
    problem = NORMED.problem(name)
    run = problem.init(0)
    losses(problem, run, 30)
    inputs = torch.from_numpy(problem.data().train_x)
    judged = averaged.as_judged(run.model, run.optimizer, [inputs] * 200)
    activations = judged[0](inputs)
    torch.testing.assert_close(judged[1].running_mean, activations.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(judged[1].running_var, activations.var(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))], ids=["copy", "pickle"])  # noqa: S301 - our own
@every_optimizer
def test_a_copy_goes_on_alike(name, copied):
    problem = NORMED.problem(name)
    run = problem.init(0)
    losses(problem, run, 5)
    other = copied(run)
    assert [group.get("train_mode") for group in other.optimizer.param_groups] == [True if name in MODES else None]
    assert losses(problem, run, 5) == losses(problem, other, 5)
    assert problem.held_out(run) == problem.held_out(other)


@every_optimizer
def test_every_optimizer_says_of_itself_what_is_so(name):
    optimizer = OPTIMIZERS[name]
    assert optimizer.name == name
    assert optimizer.cell in CELLS
    assert optimizer.in_fleet == is_known(optimizer.make)
    assert optimizer.has_modes == averaged.has_modes(made_of(name))
    assert (type(made_of(name)).__module__.partition(".")[0] == optimizer.package) == bool(optimizer.package)


@every_optimizer
def test_the_default_rate_is_the_authors(name):
    made = made_of(name)
    usual = inspect.signature(type(made).__init__).parameters["lr"].default
    if isinstance(made, MoMo):
        usual = MoMo([torch.nn.Parameter(torch.ones(2))], direction=made.direction).defaults["lr"]
    assert OPTIMIZERS[name].rate == usual


@every_optimizer
def test_a_task_can_be_trained_by_every_optimizer(name):
    problem = PLAIN.problem(name)
    assert (problem.name, problem.optimizer, problem.base) == ("digits-mlp", name, OPTIMIZERS[name].rate)
    assert pickle.loads(pickle.dumps(problem)).optimizer == name  # noqa: S301 - our own
    run = problem.init(0)
    assert all(map(isfinite, losses(problem, run, 20)))
    assert isfinite(problem.held_out(run))


@every_optimizer
def test_a_fleet_trains_each_run_as_one_alone(name):
    problem = NORMED.problem(name)
    assert isinstance(fleet(problem), OneByOne) != OPTIMIZERS[name].in_fleet
    rows = list(train(problem, Constant(), seeds=[0, 1], steps=15))
    for seed in (0, 1):
        alone = losses(problem, problem.init(seed), 15)
        np.testing.assert_allclose([row.loss[seed] for row in rows], alone, rtol=0.0 if not OPTIMIZERS[name].in_fleet else 1e-4)


@pytest.mark.parametrize("rate", [1e-12, 1e6, 1e15, 1e300])
@pytest.mark.parametrize("name", TWINS)
def test_a_rate_far_too_high_diverges_and_does_not_crash(name, rate):
    problem = PLAIN.problem(name)
    assert len(losses(problem, problem.init(0), 20, rate)) == 20


@pytest.mark.parametrize("name", TWINS)
def test_a_rate_of_zero_changes_no_loss(name):
    problem = PLAIN.problem(name)
    run = problem.init(0)
    before = problem.held_out(run)
    losses(problem, run, 5, 0.0)
    assert problem.held_out(run) == before


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rule", ["additive", "multiplicative"])
def test_a_group_of_the_hypergradient_is_a_tensor(rule, cell):
    make = partial(OPTIMIZERS[f"hypergradient-group-{rule}-{cell}"].make, hyper_rate=1e-4)
    kept = make([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    found = []
    for by_hand in (False, True):
        problem = PLAIN.problem(cell)
        run = problem.init(0)
        parameters = list(run.model.parameters())
        if by_hand:
            settings = {"direction": kept.direction, "rule": rule, "per": "group", "hyper_rate": 1e-4}
            groups = [{"params": [tensor]} for tensor in parameters]
            run.optimizer = HypergradientDescent(groups, 0.1, **settings)
        else:
            run.optimizer = make(parameters, lr=0.1)
        found.append(losses(problem, run, 20, 0.1))
    assert found[0] == found[1]


def test_a_method_has_at_most_one_form_in_a_cell():
    for cell in CELLS:
        assert optimizers.of_cell(cell)[0].name == cell
        methods = [optimizer.method for optimizer in optimizers.of_cell(cell)]
        assert len(methods) == len(set(methods))


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(ValueError, match="optimizer must be one of 'sgd', 'adamw', 'schedule-free-sgd', .*, got 'lion'"):
        PLAIN.problem("lion")
    with pytest.raises(ValueError, match="cell must be one of 'sgd', 'adamw', got 'adam'"):
        optimizers.of_cell("adam")


@pytest.mark.parametrize("name", TWINS)
def test_a_missing_package_is_named_with_the_way_to_get_it(name, monkeypatch):
    optimizer = OPTIMIZERS[name]
    assert optimizer.missing() is None
    monkeypatch.setitem(sys.modules, optimizer.package, None)
    sentence = rf"package {optimizer.package} must be installed, got none \(run `pip install 'surefoot\[contest\]'`\)"
    with pytest.raises(ModuleNotFoundError, match=sentence):
        PLAIN.problem(name)
    with pytest.raises(ModuleNotFoundError, match=sentence):
        made_of(name)


def test_a_fleet_with_settings_needs_an_optimizer_that_it_knows():
    with pytest.raises(ValueError, match="the optimizer of a fleet must be one of SGD, .*, got Prodigy"):
        PLAIN.problem("prodigy").fleet(device="cpu")


@every_optimizer
def test_the_page_lists_every_optimizer(name):
    optimizer = OPTIMIZERS[name]
    way, package = ("together" if optimizer.in_fleet else "one by one"), optimizer.package or "none"
    row = f"| {name} | {optimizer.cell} | {optimizer.rate:g} | {way} | {package} | {optimizer.source} |"
    assert row in PAGE.read_text(encoding="utf-8").splitlines()
