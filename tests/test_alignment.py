"""What a user's loop measures is what a fleet measures, so that a policy sees in deployment what it saw in training."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from policy_files import made  # noqa: E402
from surefoot import Clip, Constant, Learned, train  # noqa: E402
from surefoot.control import Control  # noqa: E402
from surefoot.episodes import Episodes, Task  # noqa: E402
from surefoot.features import Features  # noqa: E402
from surefoot.networks import OPTIMIZERS, network  # noqa: E402
from surefoot.timed import WarmupStableDecay  # noqa: E402
from surefoot.torch import Alignment, PolicyLR  # noqa: E402

COPIES = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]  # noqa: S301 - our own


def parameter(*numbers):
    return torch.nn.Parameter(torch.tensor(numbers))


def go(optimizer, *gradients):
    """One step along these gradients, one for each parameter."""
    parameters = [weights for group in optimizer.param_groups for weights in group["params"]]
    for weights, gradient in zip(parameters, gradients, strict=True):
        weights.grad = None if gradient is None else torch.tensor(gradient)
    optimizer.step()


def taken(measured):
    return tuple(float(value) for value in measured.take().values())


def test_all_groups_count_together_each_with_its_rate():
    one, other = parameter(3.0), parameter(0.0, 4.0)
    optimizer = torch.optim.SGD([{"params": [one], "lr": 1.0}, {"params": [other], "lr": 0.5}], lr=0.1)
    measured = Alignment(optimizer)
    go(optimizer, [3.0], [0.0, 8.0])
    assert taken(measured) == pytest.approx((0.0, 1.0))
    go(optimizer, [4.0], [0.0, 3.0])
    assert taken(measured)[0] == pytest.approx((3.0 * 4.0 + 4.0 * 3.0) / 25.0)


def test_a_group_that_is_added_later_counts_from_then_on():
    one, other = parameter(3.0), parameter(4.0)
    optimizer = torch.optim.SGD([one], lr=1.0)
    measured = Alignment(optimizer)
    go(optimizer, [0.0])
    optimizer.add_param_group({"params": [other], "lr": 0.5})
    go(optimizer, [3.0], [8.0])
    assert taken(measured) == pytest.approx((0.0, 1.0))


def test_a_parameter_without_a_gradient_stays_where_it_is_and_one_that_requires_none_does_not_count():
    one, idle, frozen = parameter(3.0), parameter(4.0), parameter(100.0).requires_grad_(False)
    optimizer = torch.optim.SGD([one, idle, frozen], lr=1.0)
    measured = Alignment(optimizer)
    go(optimizer, [1.0], None, None)
    assert taken(measured) == pytest.approx((0.0, 0.2))
    go(optimizer, [2.0], None, None)
    assert taken(measured)[0] == pytest.approx(1.0)


def test_an_overshoot_points_back():
    one = parameter(1.0)
    optimizer = torch.optim.SGD([one], lr=1.5)
    measured = Alignment(optimizer)
    for _ in range(2):
        go(optimizer, [one.item()])
    assert taken(measured) == pytest.approx((-1.0, 1.5))


def test_a_step_that_a_scaler_leaves_out_measures_nothing():
    one, other = parameter(1.0), torch.nn.Parameter(torch.tensor(1.0))
    optimizer, scaler = torch.optim.SGD([one, other], lr=0.1), torch.amp.GradScaler("cpu", init_scale=2.0)
    measured, seen = Alignment(optimizer), []
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((one * other).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append(taken(measured))
    assert seen[0][0] == 0.0
    assert all(map(isnan, seen[1]))
    assert seen[2][0] == pytest.approx(1.0)


def test_a_gradient_that_is_not_finite_measures_nothing():
    optimizer = torch.optim.SGD([parameter(1.0)], lr=0.0)
    measured = Alignment(optimizer)
    go(optimizer, [nan])
    assert all(map(isnan, taken(measured)))


def test_half_precision_is_summed_in_single():
    many = torch.nn.Parameter(torch.full((4096,), 1.0, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([many], lr=0.5)
    measured = Alignment(optimizer)
    many.grad = torch.full_like(many, 1.0)
    optimizer.step()
    assert taken(measured)[1] == 0.5


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    Alignment(optimizer)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="dense to be measured, got one that is sparse"):
        optimizer.step()


def test_closures_are_refused():
    optimizer = torch.optim.SGD([parameter(1.0)], lr=0.1)
    Alignment(optimizer)
    with pytest.raises(ValueError, match="got a closure"):
        optimizer.step(lambda: 1.0)


def test_only_an_optimizer_can_be_measured():
    with pytest.raises(TypeError, match="one of PyTorch's, got 3"):
        Alignment(3)


def test_nothing_is_measured_any_more_once_it_is_removed():
    optimizer = torch.optim.SGD([parameter(1.0)], lr=0.1)
    measured = Alignment(optimizer)
    measured.remove()
    go(optimizer, [1.0])
    assert all(map(isnan, taken(measured)))


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("wrapped", [lambda policy: policy, lambda policy: Clip(policy, max_scale=2.0)])
def test_a_scheduler_measures_if_its_policy_asks_for_it(gradient, wrapped):
    optimizer = torch.optim.SGD([parameter(1.0)], lr=0.1)
    policy = wrapped(Control(Features(tier="gradient" if gradient else "loss")))
    PolicyLR(optimizer, policy)
    assert len(optimizer._optimizer_step_pre_hooks) == gradient


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_of_a_scheduler_measures_its_own_optimizer(copied):
    optimizer = torch.optim.SGD([parameter(1.0)], lr=0.5)
    scheduler = PolicyLR(optimizer, Control(Features(tier="gradient")))
    go(optimizer, [1.0])
    scheduler.step(1.0)
    other = copied(scheduler)
    before = scheduler.state
    go(other.optimizer, [-1.0])
    other.step(1.0)
    assert (scheduler.state, other.state.seen.alignment) == (before, -0.5)


def test_after_a_checkpoint_the_first_alignment_is_not_known():
    optimizer = torch.optim.SGD([parameter(1.0)], lr=0.5)
    scheduler = PolicyLR(optimizer, Control(Features(tier="gradient")))
    for _ in range(3):
        go(optimizer, [1.0])
        scheduler.step(1.0)
    before = scheduler.state.seen.alignment
    scheduler.load_state_dict(scheduler.state_dict())
    go(optimizer, [1.0])
    scheduler.step(1.0)
    assert scheduler.state.seen.alignment == before
    assert scheduler.state.seen.step == 4.0
    go(optimizer, [1.0])
    scheduler.step(1.0)
    assert scheduler.state.seen.alignment > before


@pytest.mark.parametrize("optimizer", ["plain-sgd", "sgd", "adamw"])
def test_a_single_run_measures_what_a_fleet_does(optimizer):
    problem = replace(network("wine-mlp"), optimizer=optimizer, gradients=True)
    fleet, run = problem.fleet(), problem.init(0)
    runs = fleet.init([0])
    for _ in range(8):
        runs, together = fleet.step(runs, np.array([0.01]))
        run, alone = problem.step(run, 0.01)
        assert alone == pytest.approx({name: float(value[0]) for name, value in together.items()}, rel=1e-3, abs=1e-4)


@dataclass(frozen=True)
class Scripted:
    """A learned policy that has learned to recite."""

    control: Control
    actions: tuple[float, ...]

    def init(self) -> Any:
        return self.control.act(self.control.init(), self.actions[0])

    def update(self, state: Any, loss: Any, **signals: Any) -> Any:
        state = self.control.update(state, loss, **signals)
        return self.control.act(state, self.actions[state.decision]) if self.control.due(state) else state


@pytest.mark.parametrize("tier", ["loss", "gradient"])
@pytest.mark.parametrize(("name", "optimizer"), [("digits-mlp", "sgd"), ("wine-mlp", "adamw"), ("wine-mlp", "plain-sgd")])
def test_deployment_sees_what_training_saw(tier, name, optimizer):
    problem = replace(network(name), optimizer=optimizer, base=0.02, gradients=tier == "gradient")
    settings = {"schedule": WarmupStableDecay(steps=60), "steps": 60, "first": (1, 2), "alarm": 3.0}
    control = Control(Features(window=10, tier=tier), **settings)
    actions = (0.5, -1.0, 1.0, 0.3, -0.2, 0.7, -0.5, 0.1, 0.0)

    task = Task(problem.fleet(), control, 60)
    episodes = Episodes(task, 2)
    episodes.begin([0, 1], [4, 5])
    trained, rates = [], []
    for action in actions[:7]:
        episodes.advance(np.full(2, action), np.ones(2, bool))
        trained.append(episodes.view()[0])
        rates.append(episodes.rate[0] * episodes.state.scale[0])

    torch.manual_seed(123)
    run, examples = problem.init(4), problem.data()
    user = OPTIMIZERS[optimizer](run.model.parameters(), lr=task.rate(4))
    scheduler = PolicyLR(user, Scripted(control, actions))
    deployed, reached = [], []
    for _ in range(sum((1, 2, 10, 10, 10, 10, 10))):
        x, y = (torch.from_numpy(table[rows]) for rows in [run.batches.draw()] for table in examples[:2])
        loss = torch.nn.functional.cross_entropy(run.model(x), y.long())
        user.zero_grad()
        loss.backward()
        user.step()
        decisions = scheduler.state.decision
        scheduler.step(loss)
        if scheduler.state.decision != decisions:
            deployed.append(control.view(scheduler.state))
            reached.append(scheduler.state.decision)
    assert reached == [*range(2, 9)]
    np.testing.assert_allclose(deployed, trained, rtol=2e-3, atol=2e-3)


def test_a_learned_policy_of_gradients_goes_by_what_is_measured_alone_and_in_a_fleet(tmp_path):
    policy = Learned(made(tmp_path, tier="gradient"), steps=20)
    problem = network("wine-mlp", gradients=True)
    alone = [row.rate for row in train(problem, policy, seed=3, steps=20)]
    together = [float(row.rate[0]) for row in train(problem, policy, seeds=[3], steps=20)]
    assert alone == pytest.approx(together, rel=1e-3)
    run, examples = problem.init(3), problem.data()
    user = OPTIMIZERS["sgd"](run.model.parameters(), lr=problem.base)
    scheduler, rates = PolicyLR(user, policy), []
    for _ in range(20):
        x, y = (torch.from_numpy(table[rows]) for rows in [run.batches.draw()] for table in examples[:2])
        user.zero_grad()
        loss = torch.nn.functional.cross_entropy(run.model(x), y.long())
        loss.backward()
        user.step()
        rates.append(user.param_groups[0]["lr"])
        scheduler.step(loss)
    assert rates == pytest.approx(alone, rel=1e-3)


def test_a_policy_without_signals_measures_nothing():
    optimizer = torch.optim.SGD([parameter(1.0)], lr=0.1)
    PolicyLR(optimizer, Constant())
    assert not optimizer._optimizer_step_pre_hooks
