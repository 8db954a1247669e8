"""Schedules of time against PyTorch's own, and their bad settings."""

import math

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as theirs

from surefoot import (
    Constant,
    Cosine,
    CosineRestarts,
    Every,
    Exponential,
    InverseTime,
    Linear,
    OneCycle,
    Polynomial,
    Step,
    WarmupStableDecay,
    schedule,
)
from surefoot.control import Control

STEPS = 40
PAIRS = {
    "step": (Step(milestones=(10, 25), factor=0.3), lambda o: theirs.MultiStepLR(o, [10, 25], gamma=0.3)),
    "every": (Every(Exponential(factor=0.3), steps=7), lambda o: theirs.StepLR(o, 7, gamma=0.3)),
    "exponential": (Exponential(factor=0.9), lambda o: theirs.ExponentialLR(o, 0.9)),
    "linear": (Linear(steps=30, start=0.2, end=0.9), lambda o: theirs.LinearLR(o, 0.2, 0.9, total_iters=30)),
    "cosine": (Cosine(steps=STEPS, end=0.1), lambda o: theirs.CosineAnnealingLR(o, STEPS, eta_min=0.1)),
    "restarts": (CosineRestarts(steps=9, end=0.1), lambda o: theirs.CosineAnnealingWarmRestarts(o, 9, eta_min=0.1)),
    "growing": (CosineRestarts(steps=3, growth=2), lambda o: theirs.CosineAnnealingWarmRestarts(o, 3, T_mult=2)),
    "polynomial": (Polynomial(steps=30, power=2.5), lambda o: theirs.PolynomialLR(o, 30, power=2.5)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_schedule_of_time_equals_that_of_pytorch(name):
    policy, make = PAIRS[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    reference, expected = make(optimizer), []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    np.testing.assert_allclose([s.scale for s in schedule(policy, [1.0] * (STEPS - 1))], expected, rtol=1e-9, atol=1e-12)


def test_one_cycle_equals_that_of_pytorch():
    # PyTorch ends its cycle at the step before the last, and so do we for `steps - 1`.
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    steps, rise = 41, 0.25
    theirs_pct = (rise * (steps - 1) + 1) / steps
    reference = theirs.OneCycleLR(optimizer, 1.0, total_steps=steps, pct_start=theirs_pct, cycle_momentum=False)
    expected = []
    for _ in range(steps - 1):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    ours = [OneCycle(steps=steps - 1, rise=rise).at(step) for step in range(steps - 1)]
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_inverse_time_halves_and_halves_again():
    assert [InverseTime(steps=10).at(step) for step in (0, 10, 30, 70)] == [1.0, 0.5, 0.25, 0.125]


def test_warmup_stable_decay_is_a_trapezoid():
    rule = WarmupStableDecay(steps=100, warmup=0.1, decay=0.3, start=0.0, end=0.1)
    corners = [rule.at(step) for step in (0, 5, 10, 40, 70, 85, 100, 200)]
    assert corners == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0, 0.55, 0.1, 0.1])


@pytest.mark.parametrize("power", [0.6, 1.0])
def test_inverse_time_covers_any_distance_while_its_squares_stay_finite(power):
    scales = InverseTime(steps=10, power=power).at(np.arange(10**6))
    early, late = np.split(scales, [10**4])
    assert late.sum() > 0.5 * early.sum()
    assert np.square(late).sum() < 0.5 * np.square(early).sum()


@pytest.mark.parametrize("rule", [Linear(steps=5), Cosine(steps=5), Polynomial(steps=5), OneCycle(steps=5, end=0.0)])
def test_a_rule_stays_at_its_end(rule):
    assert rule.at(5) == rule.at(6) == rule.at(10**9) == 0.0


BUDGETED = [
    Linear(steps=40),
    Cosine(steps=40),
    Polynomial(steps=40, power=2.0),
    OneCycle(steps=40),
    WarmupStableDecay(steps=40),
]


@pytest.mark.parametrize("rule", BUDGETED, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("array", [float, np.float64, np.array, torch.tensor], ids=["float", "float64", "numpy", "torch"])
def test_a_budget_can_be_counted_in_something_else(rule, array):
    counted = told = rule.init()
    for done in (0.25, 0.5, 0.75, 1.0, 1.5):
        counted = rule.update(counted, 1.0)
        told = rule.update(told, 1.0, progress=array(done))
        assert float(told.scale) == pytest.approx(rule.at(round(40 * done)), rel=1e-6)
    for nothing in (-1.0, math.nan):
        assert float(rule.update(told, 1.0, progress=array(nothing)).scale) == pytest.approx(rule.at(6), rel=1e-6)
    assert rule.update(counted, 1.0).scale == rule.at(6)


def test_a_control_hands_on_the_progress_that_it_is_told_and_not_its_own():
    control = Control(schedule=Linear(steps=10), steps=100)
    state = control.update(control.init(), 1.0)
    assert state.scale == 0.9
    assert control.update(state, 1.0, progress=0.5).scale == 0.5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Constant(-0.1), ValueError, "scale must be finite and 0 or more, got -0.1"),
        (lambda: Constant(math.nan), ValueError, "scale must be finite and 0 or more, got nan"),
        (lambda: Cosine(steps=0), ValueError, "steps must be a whole number, 1 or more, got 0"),
        (lambda: Cosine(steps=10.0), TypeError, "steps must be a whole number, got 10.0"),
        (lambda: Cosine(steps=True), TypeError, "steps must be a whole number, got True"),
        (lambda: Cosine(steps=10, end=2.0), ValueError, "end must lie between 0 and 1, got 2.0"),
        (lambda: Step(milestones=(20, 10)), ValueError, "milestones must be a whole number, 21 or more, got 10"),
        (lambda: Step(milestones=5), TypeError, "milestones must be a sequence of whole numbers such as"),
        (lambda: Exponential(factor=1.0), ValueError, "factor must lie strictly between 0 and 1, got 1.0"),
        (lambda: InverseTime(steps=5, power=0.0), ValueError, "power must be above 0"),
        (lambda: Polynomial(steps=5, power="2"), TypeError, "power must be a number, got '2'"),
        (lambda: WarmupStableDecay(steps=5, warmup=0.6, decay=0.6), ValueError, "warmup \\+ decay must lie between 0 and 1"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(make, error, message):
    with pytest.raises(error, match=message):
        make()
