"""Learned policies do the same in every arithmetic and under every budget, and ask their network when it is time."""

import copy
import io
import pickle
from itertools import pairwise
from math import inf, nan
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_files import made
from strategies import LEARNED, learned, losses, odd
from surefoot import Clip, Cosine, Every, Greedy, Learned, Then, Warmup, WarmupStableDecay, schedule
from surefoot.arithmetic import lift
from surefoot.perceptron import Perceptron
from surefoot.runner import runner
from surefoot.torch import PolicyLR

jax.config.update("jax_enable_x64", True)

CALM, ALARMED = LEARNED
FALLING = [3.0 * 0.9**step + 0.1 * (step % 3) for step in range(40)]
# Whole numbers among them would be told from their neighbours by rounding alone, which every arithmetic does its own way.
uneven = st.lists(st.floats(0.01, 100.0) | odd, min_size=2, max_size=40).map(
    lambda values: [value * 1.001**place for place, value in enumerate(values)]
)


def scales(policy, values, **signals):
    path, state = [policy.init().scale], policy.init()
    for place, value in enumerate(values):
        state = policy.update(state, value, **{name: at[place] for name, at in signals.items()})
        path.append(state.scale)
    return path


@given(learned, uneven)
def test_floats_and_numpy_agree(policy, values):
    vectors = [float(np.ravel(scale)[0]) for scale in scales(policy, [np.array([value, 2.0, nan]) for value in values])]
    np.testing.assert_allclose(vectors, scales(policy, values), rtol=1e-9)


@settings(max_examples=30)
@given(learned, uneven)
def test_floats_and_torch_agree(policy, values):
    vectors = [float(np.ravel(scale)[0]) for scale in scales(policy, [torch.tensor([v, 2.0]).double() for v in values])]
    np.testing.assert_allclose(vectors, scales(policy, [float(np.float32(value)) for value in values]), rtol=1e-6)


@pytest.mark.parametrize("name", LEARNED, ids=lambda path: Path(path).stem)
def test_floats_and_compiled_jax_agree(name):
    policy, values = Learned(name, steps=30), [*FALLING[:20], nan, 300.0, *FALLING[20:]]

    def step(state, loss):
        state = policy.update(state, loss)
        return state, state.scale

    stacked = jnp.array([values, [*FALLING, 1.0, 2.0]]).T
    _, compiled = jax.jit(lambda of: jax.lax.scan(step, lift(policy.init(), of[0]), of))(stacked)
    np.testing.assert_allclose(compiled[:, 0], scales(policy, values)[1:], rtol=1e-9)


def test_single_precision_is_enough():
    policy = Learned(ALARMED, steps=40)
    single = [float(scale) for scale in scales(policy, [np.float32([loss])[0:1].reshape(()) for loss in FALLING])]
    np.testing.assert_allclose(single, scales(policy, FALLING), rtol=1e-3)


@given(learned, losses, st.data())
def test_a_copy_of_the_policy_goes_on_from_any_cut(policy, values, data):
    cut = data.draw(st.integers(0, len(values)))
    first, whole = runner(policy), runner(policy)
    for value in values[:cut]:
        first.advance(value)
    second = runner(copy.deepcopy(pickle.loads(pickle.dumps(policy))), first.state)  # noqa: S301 - our own
    resumed = [second.advance(value) for value in values[cut:]]
    assert resumed == [whole.advance(value) for value in values][cut:]


@given(learned, losses)
def test_the_scale_moves_within_the_limits_of_its_card(policy, values):
    flat = Learned(policy.name)  # No schedule moves it as well.
    low, high = 1.0 / 4.0 / 3.0, 2.0  # An alarm divides by 4, and a decision that follows at once by 3.
    path = scales(flat, values)
    for before, after in pairwise(path):
        assert low * (1 - 1e-9) <= after / before <= high * (1 + 1e-9)


@given(st.lists(st.floats(0.01, 100.0) | odd, min_size=1, max_size=40))
def test_a_loss_that_is_not_finite_is_forgotten_but_for_the_time(values):
    policy = Learned(CALM, steps=50)
    before = list(schedule(policy, values))[-1].seen
    after = policy.update(list(schedule(policy, values))[-1], nan).seen
    passing = {"step", "quiet", "usual", "scale", "progress"}
    assert {n: v for n, v in after._asdict().items() if n not in passing} == {
        n: v for n, v in before._asdict().items() if n not in passing
    }


def test_the_network_is_asked_only_when_a_decision_is_due(monkeypatch):
    asked, really = [], Perceptron.__call__
    policy = Learned(CALM)
    state = policy.init()
    monkeypatch.setattr(Perceptron, "__call__", lambda self, view: asked.append(step) or really(self, view))
    for step in range(1, 16):
        state = policy.update(state, 3.0 - 0.1 * step)
    assert asked == [1, 3, 6, 9, 12, 15]  # Windows of 1 and 2 steps at first, of 3 then.
    assert state.decision == 7


def test_a_fleet_skips_the_network_while_nobody_decides(monkeypatch):
    asked, really = [], Perceptron.__call__
    policy = Learned(CALM)
    state = lift(policy.init(), np.zeros(4))
    monkeypatch.setattr(Perceptron, "__call__", lambda self, view: asked.append(step) or really(self, view))
    for step in range(1, 10):
        state = policy.update(state, np.full(4, 3.0 - 0.1 * step))
    assert asked == [1, 3, 6, 9]


def test_the_first_decision_is_made_before_the_first_step():
    assert Learned(CALM).init().decision == 1
    assert Learned(CALM).init().scale != 1.0


def test_an_alarm_is_counted_and_cuts_the_scale():
    policy = Learned(ALARMED)
    *_, state = schedule(policy, [2.0] * 6)
    after = policy.update(state, 2.0e6)
    assert (state.alarms, after.alarms) == (0, 1)
    assert after.scale < 0.6 * state.scale  # Divided by 4, and at most doubled by the decision that it calls for.


def test_a_budget_in_another_unit_is_the_same_as_one_in_steps():
    done = [(step + 1) / 40 for step in range(40)]
    assert scales(Learned(CALM, timed=True), FALLING, progress=done) == scales(Learned(CALM, steps=40), FALLING)


def test_a_file_is_read_once(tmp_path, monkeypatch):
    from surefoot import policy_file

    path, read, really = made(tmp_path), [], policy_file.read
    monkeypatch.setattr(policy_file, "read", lambda name: read.append(name) or really(name))
    for steps in (None, 10, 20):
        Learned(path, steps).init()
    assert read == [path]


def test_the_card_can_be_looked_at():
    assert Learned(CALM).card.description == "Was never trained."


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Learned(3), TypeError, "name must be the name of a learned policy or the path of a file"),
        (lambda: Learned("nobody"), ValueError, "no learned policy is called 'nobody'"),
        (lambda: Learned(CALM, steps=0), ValueError, "steps must be a whole number, 1 or more"),
        (lambda: Learned(CALM, steps=5, timed=True), ValueError, "a budget must be counted in one way"),
        (
            lambda: scales(Learned(CALM, timed=True), [1.0]),
            ValueError,
            "must be told progress at every step, got only the loss",
        ),
    ],
)
def test_mistakes_are_refused_at_the_door(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_it_was_made_to_see_must_be_measured(tmp_path):
    policy = Learned(made(tmp_path, tier="gradient", bound=True))
    assert scales(policy, [1.0], alignment=[0.5], relative_step=[0.1], bound=[1.0])
    with pytest.raises(ValueError, match="must be told relative_step, bound at every step, got alignment"):
        scales(policy, [1.0], alignment=[0.5])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda policy: Clip(policy, max_scale=1.0),
        lambda policy: Warmup(policy, steps=3),
        lambda policy: Every(policy, steps=2),
        lambda policy: Then(policy, WarmupStableDecay(steps=10), after=10),
        lambda policy: Then(Greedy(), policy, after=5, carry=True),
    ],
)
def test_it_can_be_a_part_of_other_policies(wrap):
    policy = wrap(Learned(ALARMED, steps=30))
    vectors = [float(np.ravel(scale)[0]) for scale in scales(policy, [np.array([value]) for value in FALLING])]
    np.testing.assert_allclose(vectors, scales(policy, FALLING), rtol=1e-9)
    assert max(vectors) < inf


def optimizer(rate=0.1):
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=rate)


def steps(scheduler, values):
    return [scheduler.step(value) or scheduler.get_last_lr()[0] for value in values]


def saved(scheduler):
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_total_steps_is_the_budget():
    scheduler = PolicyLR(optimizer(), Learned(CALM), total_steps=40)
    assert scheduler.policy == Learned(CALM, steps=40)
    assert steps(scheduler, FALLING) == [0.1 * scale for scale in scales(Learned(CALM, steps=40), FALLING)[1:]]


@pytest.mark.parametrize(
    "policy", [Learned(CALM), Clip(Learned(CALM), max_scale=0.5), Cosine(steps=1)], ids=["it", "clip", "cosine"]
)
def test_total_seconds_is_the_budget(policy):
    now = [1000.0]
    scheduler, path = PolicyLR(optimizer(), policy, total_seconds=20.0, clock=lambda: now[0]), []
    for loss in FALLING:
        now[0] += 0.5
        path += steps(scheduler, [loss])
    assert path == steps(PolicyLR(optimizer(), policy, total_steps=40), FALLING)


def test_without_a_budget_the_schedule_is_constant():
    assert PolicyLR(optimizer(), Learned(CALM)).state.schedule.scale == 1.0


@pytest.mark.parametrize("cut", [0, 7, 30])
def test_resuming_goes_on_with_the_budget_in_seconds(cut):
    def run(values, now, scheduler):
        path = []
        for value in values:
            now[0] += 1.0
            path += steps(scheduler, [value])
        return path

    now, then = [0.0], [5000.0]
    first = PolicyLR(optimizer(), Learned(CALM), total_seconds=40.0, clock=lambda: now[0])
    run(FALLING[:cut], now, first)
    second = PolicyLR(optimizer(), Learned(CALM), total_seconds=40.0, clock=lambda: then[0])
    then[0] += 100.0  # What passes before the checkpoint is loaded does not count.
    second.load_state_dict(saved(first))
    assert run(FALLING[cut:], then, second) == steps(PolicyLR(optimizer(), Learned(CALM), total_steps=40), FALLING)[cut:]


def test_a_pickled_scheduler_goes_on_with_its_budget_in_seconds():
    scheduler = PolicyLR(optimizer(), Learned(CALM), total_seconds=1e9)
    scheduler.load_state_dict(scheduler.state_dict() | {"elapsed": 5e8})
    other = pickle.loads(pickle.dumps(scheduler))  # noqa: S301 - our own
    assert other.state_dict()["elapsed"] == pytest.approx(5e8, abs=60.0)


def test_a_step_without_a_loss_is_refused():
    with pytest.raises(ValueError, match="step\\(\\) got no loss .*Learned would take for an explosion; call step\\(loss\\)"):
        PolicyLR(optimizer(), Learned(CALM)).step()


def test_it_compiles_with_its_rates_on_the_device():
    ours = PolicyLR(optimizer(torch.tensor(0.1)), Learned(ALARMED), total_steps=40, on_device=True)
    step = torch.compile(ours.step, backend="eager", fullgraph=True)
    path = [step(torch.tensor(loss)) or ours.get_last_lr()[0].item() for loss in FALLING]
    assert path == pytest.approx(steps(PolicyLR(optimizer(), Learned(ALARMED), total_steps=40), FALLING), rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"policy": Greedy(), "total_steps": 10},
            ValueError,
            "total_steps is for policies whose `steps` are the length of the run",
        ),
        ({"policy": Warmup(Greedy(), steps=2), "total_steps": 10}, ValueError, "such as Cosine or Learned, got Warmup"),
        ({"total_steps": 0}, ValueError, "total_steps must be a whole number, 1 or more"),
        ({"total_steps": 10, "total_seconds": 1.0}, ValueError, "a budget must be in steps or in seconds"),
        ({"total_seconds": 0.0}, ValueError, "total_seconds must be above 0"),
        ({"total_seconds": "1h"}, TypeError, "total_seconds must be a number, got '1h'"),
        ({"total_seconds": 9.0, "on_device": True}, ValueError, "total_seconds needs its clock"),
        ({"policy": Learned(CALM, steps=10), "total_seconds": 9.0}, ValueError, "a budget must be counted in one way"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        PolicyLR(optimizer(), **{"policy": Learned(CALM), **settings})
