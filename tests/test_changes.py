"""Every decision is told with its reason, and nothing else is."""

import copy
import logging
import math
import re
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies import driven, every, losses
from surefoot import CosineRestarts, Greedy, Learned, Plateau, Step, Then, Warmup, WarmupStableDecay, schedule
from surefoot.changes import Change, reason
from surefoot.direction import agreed, lower_is_better, signed
from surefoot.history import BLOCK, MOST, REMEMBERED, History
from surefoot.runner import runner
from surefoot.torch import GreedyLR, PolicyLR


def sgd(rate=0.1):
    return torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=rate)


def told(policy, values):
    """The reasons that a fold gives, with the number of the step."""
    states = list(schedule(policy, values))
    return [(step, said) for step, pair in enumerate(pairwise(states), 1) if (said := reason(policy, *pair))]


@given(every, losses)
def test_a_runner_gives_the_reasons_of_the_fold(policy, values):
    fast, found = runner(policy), []
    for step, value in enumerate(values, 1):
        fast.advance(value)
        if said := fast.why():
            found.append((step, said))
    assert found == told(policy, values)


@given(driven, losses)
def test_a_policy_driven_by_the_loss_has_a_reason_for_every_change(policy, values):
    states = list(schedule(policy, values))
    for before, after in pairwise(states):
        said = reason(policy, before, after)
        assert bool(said) == (before.scale != after.scale)
        assert said.startswith("raised" if after.scale > before.scale else ("lowered" if after.scale < before.scale else ""))


@given(every, losses)
def test_what_is_said_goes_the_way_that_the_scale_went(policy, values):
    for before, after in pairwise(schedule(policy, values)):
        said = reason(policy, before, after)
        assert not said or said.split(":")[0].split()[0] == ("raised" if after.scale > before.scale else "lowered")


@pytest.mark.parametrize(
    ("policy", "values", "expected"),
    [
        (Greedy(patience=1, window=1), [3.0, 2.0, 1.0], [(2, "raised: 2 better in a row")]),
        (Greedy(patience=0, window=1, cut_stage=2), [1.0, 2.0, 0.5], [
            (1, "raised: 1 better in a row"),
            (2, "lowered: 1 not better in a row"),
            (3, "lowered: step 1 of 2 of the stage after that"),
        ]),
        (Greedy(patience=7, window=8, evidence=2.0), [8.0 - step for step in range(8)], [(8, "raised: the loss falls")]),
        (Plateau(patience=1), [1.0, 2.0, 2.0], [(3, "lowered: 2 not better in a row")]),
        (Step(milestones=(2, 3)), [1.0] * 4, [
            (2, "lowered: milestone 1, after 2 steps"),
            (3, "lowered: milestone 2, after 3 steps"),
        ]),
        (WarmupStableDecay(steps=20, decay=0.25), [1.0] * 20, [
            (1, "raised: the warmup is over"),
            (16, "lowered: the decay begins"),
        ]),
        (CosineRestarts(steps=2), [1.0] * 3, [(2, "raised: another wave begins")]),
        (Warmup(Plateau(patience=0), steps=2), [1.0, 1.0, 1.0, 2.0], [
            (2, "raised: the warmup is over"),
            (4, "lowered: 1 not better in a row"),
        ]),
        (Then(Step(milestones=(1,)), Step(milestones=(9,)), after=2), [1.0] * 3, [
            (1, "lowered: milestone 1, after 1 steps"),
            (2, "raised: the next policy takes over"),
        ]),
    ],
)  # fmt: skip
def test_reasons_name_what_was_decided(policy, values, expected):
    assert told(policy, values) == expected


def test_a_learned_policy_names_its_decisions_and_explosions():
    values = [1.0 - 0.005 * step for step in range(60)] + [math.inf] + [0.7] * 20
    found = [said for _, said in told(Learned("networks-loss", steps=80), values)]
    assert "lowered: the loss exploded" in found
    assert all(re.fullmatch(r"(raised|lowered)( to \d+%: decision \d+|: the loss exploded)", said) for said in found)


def test_a_listener_is_told_after_the_rates_were_set_until_it_is_taken_off():
    scheduler = GreedyLR(sgd(), factor=0.5, patience=0, window=1)
    heard = []
    off = scheduler.on_change(lambda change: heard.append((change, scheduler.get_last_lr())))
    scheduler.step(3.0)
    off()
    scheduler.step(4.0)
    assert heard == [(Change(1, 1.0, 2.0, "raised: 1 better in a row", 3.0, (0.2,)), [0.2])]


def test_every_change_is_logged_with_the_change_itself(caplog):
    scheduler = GreedyLR(sgd(), factor=0.5, patience=0, window=1)
    with caplog.at_level(logging.INFO, "surefoot"):
        scheduler.step(3.0)
    (record,) = caplog.records
    assert record.surefoot == scheduler.history.changes[-1]
    assert record.getMessage() == "step 1: raised: 1 better in a row, scale 2, rate 0.2"


def test_a_change_is_told_in_plain_values():
    assert Change(1, 1.0, 2.0, "raised", 3.0).told() == {"surefoot/scale": 2.0, "surefoot/reason": "raised"}


def test_a_copy_of_a_scheduler_keeps_a_history_of_its_own():
    scheduler = GreedyLR(sgd(), factor=0.5, patience=0, window=1)
    scheduler.step(3.0)
    other = copy.deepcopy(scheduler)
    other.step(2.0)
    assert (len(scheduler.history), len(other.history)) == (1, 2)


def test_a_history_goes_on_counting_where_a_checkpoint_was_taken():
    scheduler, again = (GreedyLR(sgd(), window=1) for _ in range(2))
    for loss in [3.0, 2.0]:
        scheduler.step(loss)
    again.load_state_dict(scheduler.state_dict())
    again.step(1.0)
    assert again.history.points().step.tolist() == [3]


@pytest.mark.parametrize("steps", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7])
def test_a_history_keeps_the_extremes_and_forgets_detail(steps):
    history = History()
    values = np.random.default_rng(0).standard_normal(steps) + 5.0
    for value in values:
        history.keep(float(value))
        history.thin()
    points = history.points()
    assert len(history) == steps
    assert len(points.step) <= MOST + BLOCK
    if steps:
        assert (points.low.min(), points.high.max(), points.step[-1]) == (values.min(), values.max(), steps)
        assert np.all((points.low <= points.loss) & (points.loss <= points.high))


def test_a_history_does_not_let_a_loss_that_is_no_number_into_its_means():
    history = History()
    for loss in [math.nan, 1.0, math.inf] * BLOCK:
        history.keep(loss)
    history.thin()
    assert set(history.points().loss[~np.isnan(history.points().loss)]) == {1.0}


def test_a_history_has_the_scale_after_every_step_whenever_it_is_thinned():
    history, scales = History(), np.repeat([1.0, 0.5, 0.25, 0.125], [BLOCK - 1, 3, BLOCK, 1])
    for scale, before in zip(scales, [1.0, *scales], strict=False):
        history.keep(3.0)
        if scale != before:
            history.turn(scale)
        if len(history) == BLOCK + 1:
            assert history.points().scale.tolist() == scales[: BLOCK + 1].tolist()
            history.thin()
    for _ in range(2):
        points = history.points()
        assert len(points.step) < len(scales)
        assert points.scale.tolist() == scales[points.step - 1].tolist()
        history.thin()


def test_a_history_remembers_the_last_changes_only():
    scheduler = GreedyLR(sgd(), factor=0.999, patience=0, window=1, max_scale=1e9)
    for step in range(REMEMBERED + 5):
        scheduler.step(-float(step))
    assert len(scheduler.history.changes) == REMEMBERED
    assert scheduler.history.changes[-1].step == REMEMBERED + 5


@pytest.mark.parametrize("rate", [1.0, 32.0, 128.0])
def test_a_loss_that_is_the_size_of_a_batch_is_noticed(rate):
    scheduler = PolicyLR(sgd(), Greedy())
    for _ in range(31):
        scheduler.step(rate)
    if rate == 1.0:
        scheduler.step(rate)
        return
    with pytest.warns(UserWarning, match=f"the loss was {rate:g} at each of the first 32 steps.*hand over the loss") as seen:
        scheduler.step(rate)
    assert seen[0].filename == __file__


def test_a_scheduler_that_is_stepped_twice_per_step_is_noticed_once():
    optimizer = sgd()
    scheduler = GreedyLR(optimizer)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for loss in range(20, 0, -1):
            optimizer.step()
            scheduler.step(loss + 0.5)
            scheduler.step(loss + 0.5)
    assert "stepped more than once per step of the optimizer" in str(seen[0].message)
    assert [warning.filename for warning in seen] == [__file__]


def test_steps_that_a_scaler_of_gradients_leaves_out_are_no_mistake():
    optimizer = sgd()
    scheduler = GreedyLR(optimizer)
    for step in range(40):
        if step > 12 and step % 15:
            optimizer.step()
        scheduler.step(1.0 / (1 + step))


def test_another_scheduler_of_the_same_optimizer_is_not_misled():
    optimizer = sgd()
    ours, theirs = GreedyLR(optimizer), torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    for step in range(40):
        optimizer.step()
        ours.step(1.0 / (1 + step))
        theirs.step()


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        ("loss", True), ("eval_loss", True), ("val_accuracy", False), ("valAccuracy", False), ("top5_acc", False),
        ("accuracy_loss", True), ("eval/rouge1", False), ("goodness", None), ("WER", True), ("f1", False),
    ],
)  # fmt: skip
def test_which_way_a_metric_is_better_is_known_by_its_name(metric, lower):
    assert lower_is_better(metric) is lower


@pytest.mark.parametrize(
    ("metric", "mode", "greater", "sentence"),
    [
        ("eval_loss", "max", None, "takes a higher eval_loss for better, and lower ones are"),
        ("goodness", "min", None, "cannot be told from its name .say greater_is_better=True or False"),
        ("eval_loss", "min", True, "lower values of eval_loss are better, got greater_is_better=True"),
        ("f1", "min", False, "higher values of f1 are better, got greater_is_better=False"),
        ("goodness", "max", False, "has mode='max', got greater_is_better=False for goodness"),
    ],
)
def test_a_direction_that_contradicts_the_metric_is_refused(metric, mode, greater, sentence):
    with pytest.raises(ValueError, match=sentence):
        signed(metric, Warmup(Greedy(mode=mode), steps=3), greater)


def test_an_unknown_metric_needs_its_direction_said():
    assert (signed("goodness", Greedy(), True), signed("goodness", Greedy(), False)) == (-1.0, 1.0)
    agreed("eval_accuracy", Greedy(mode="max"))


@given(st.text(max_size=30))
def test_no_name_of_a_metric_breaks_the_lookup(name):
    assert lower_is_better(name) in {True, False, None}
