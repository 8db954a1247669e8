"""The drop-in for transformers' GreedyLR, beside that class where it is installed."""

import copy
import io
import logging
import math
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

import surefoot.torch
from strategies import dyadic, fractions, modes, waits
from surefoot import Greedy, schedule
from surefoot.hold_all import HoldAll
from surefoot.transformers import GreedyLR, StreamingAverage, get_greedy_schedule

QUICK = {"factor": 0.5, "patience": 0}
THEIRS = {"mode": "min", "factor": 0.9, "patience": 3, "min_lr": 1e-6, "max_lr": 1.0}
"""The settings of most of that class's public tests, whose names stand in comments below."""
finite = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.lists(dyadic, max_size=60) | st.lists(st.integers(0, 9).map(float), max_size=60) | st.lists(finite, max_size=30)


@pytest.fixture(scope="module")
def reference():
    """That class itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers.optimization").GreedyLR


def optimizer(*rates):
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates or (0.1,)]
    return torch.optim.SGD(groups, lr=1.0)


def rates(opt):
    return [float(group["lr"]) for group in opt.param_groups]


def scheduler(*, lr=0.1, **settings):
    return GreedyLR(optimizer(lr), **{**THEIRS, **settings})


def stepped(made, values):
    """The rates after every step."""
    return [made.step(value) or rates(made.optimizer) for value in values]


def falling(factor=0.8, start=10.0, count=50):
    return [start * factor**step for step in range(1, count + 1)]


@st.composite
def setups(draw):
    """Base rates, and settings with limits around them, one for all groups or one for each."""
    bases = draw(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=3))
    each = st.tuples(*[st.floats(0.0, 1.0)] * len(bases))
    low = [base * share for base, share in zip(bases, draw(each), strict=True)]
    high = [base + share for base, share in zip(bases, draw(each), strict=True)]
    mode = draw(st.sampled_from(["rel", "abs"]))
    return bases, {
        "mode": draw(modes),
        "factor": draw(fractions),
        "patience": draw(waits),
        "threshold": draw(st.sampled_from([0.0, 1e-6, 0.1, 0.5])),
        "threshold_mode": mode,
        "cooldown": draw(waits),
        "warmup": draw(waits),
        "min_lr": draw(st.sampled_from([low, min(low)])),
        "max_lr": draw(st.sampled_from([high, max(high)])),
        "eps": draw(st.sampled_from([0.0, 1e-8, 1e-3, 0.1])),
        "smooth": draw(st.booleans()),
        "window_size": draw(st.integers(1, 5)),
        "reset_start": draw(st.integers(1, 4)),
    }


@given(setups(), metrics)
def test_all_rates_follow_the_path_of_that_class(reference, setup, values):
    bases, settings = setup
    ours, theirs = optimizer(*bases), optimizer(*bases)
    path = stepped(surefoot.torch.GreedyLR(ours, compat="transformers", **settings), values)
    assert path == stepped(reference(theirs, **settings), values)


@given(st.lists(dyadic, max_size=200), st.sampled_from([0.1, 0.5, 1.0]))
def test_its_defaults_are_the_defaults_here(reference, values, base):
    assert stepped(GreedyLR(optimizer(base)), values) == stepped(reference(optimizer(base)), values)


@given(setups(), metrics, st.integers(0, 20))
def test_a_run_of_that_class_goes_on_here(reference, setup, values, cut):
    bases, settings = setup
    theirs, ours = reference(optimizer(*bases), **settings), GreedyLR(optimizer(*bases), **settings)
    stepped(theirs, values[:cut])
    assume(math.isfinite(theirs.state_dict().get("_streaming_avg", {"sum": 0.0})["sum"]))
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    assert (ours.last_epoch, rates(ours.optimizer)) == (theirs.last_epoch, rates(theirs.optimizer))
    assert stepped(ours, values[cut:]) == stepped(theirs, values[cut:])


@given(setups(), metrics, st.integers(0, 20))
def test_a_run_that_began_here_goes_on_in_that_class(reference, setup, values, cut):
    bases, settings = setup
    ours, theirs = GreedyLR(optimizer(*bases), **settings), reference(optimizer(*bases), **settings)
    stepped(ours, values[:cut])
    theirs.load_state_dict(ours.state_dict())
    assert stepped(theirs, values[cut:]) == stepped(ours, values[cut:])


@given(setups(), metrics, st.integers(0, 20))
def test_resuming_equals_never_stopping(setup, values, cut):
    bases, settings = setup
    before, after = GreedyLR(optimizer(*bases), **settings), GreedyLR(optimizer(*bases), **settings)
    stepped(before, values[:cut])
    assume(math.isfinite(before.state.total))
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after.load_state_dict(torch.load(file, weights_only=True))
    assert after.state == before.state
    assert stepped(after, values[cut:]) == stepped(before, values[cut:])


def test_it_shows_its_settings():  # test_initialization_valid_params
    shown = scheduler(smooth=True, window_size=7, threshold_mode="rel", threshold=0.1)
    assert (shown.mode, shown.factor, shown.patience, shown.threshold, shown.threshold_mode) == ("min", 0.9, 3, 0.1, "rel")
    assert (shown.smooth, shown.window_size, shown.reset_start, shown.reset_start_original) == (True, 7, 500, 500)
    assert (shown.cooldown, shown.warmup, shown.eps, shown.verbose) == (0, 0, 1e-8, False)
    assert (shown.min_lrs, shown.max_lrs, shown.get_last_lr()) == ([1e-6], [1.0], [0.1])


def test_what_it_shows_cannot_be_set():
    with pytest.raises(AttributeError):
        scheduler().factor = 0.5


@pytest.mark.parametrize(("mode", "best"), [("min", math.inf), ("max", -math.inf)])  # test_initialization_max_mode
def test_there_is_no_best_at_first(mode, best):
    assert scheduler(mode=mode).best == best


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"factor": 1.0}, ValueError, "factor must lie strictly between 0 and 1"),  # test_initialization_invalid_factor
        ({"factor": 1.5}, ValueError, "factor must lie strictly between 0 and 1"),
        ({"factor": -0.5}, ValueError, "factor must lie strictly between 0 and 1"),
        ({"factor": math.nan}, ValueError, "factor must be finite"),
        ({"mode": "unknown"}, ValueError, "mode must be one of 'min', 'max'"),  # test_initialization_invalid_mode
        ({"threshold_mode": "unknown"}, ValueError, "must be one of 'rel', 'abs'"),  # ..._invalid_threshold_mode
        ({"patience": -1}, ValueError, "patience must be a whole number, 0 or more"),
        ({"window_size": 0}, ValueError, "window must be a whole number, 1 or more"),
        ({"min_lr": [0.01, 0.01]}, ValueError, "min_lr must be one number, or one for each of the 1 groups, got 2"),
        ({"min_lr": "0.01"}, TypeError, "min_lr must be a number"),
        ({"min_lr": 0.2}, ValueError, r"got 0.2 to 1 around 0.1 in group 0 \(set min_lr to 0.001, say"),
        ({"max_lr": 0.05}, ValueError, r"got 1e-06 to 0.05 around 0.1 in group 0 \(set max_lr to 1, say"),
        ({"compat": None}, ValueError, "compat must be one of 'transformers'"),
        ({"last_epoch": 3}, ValueError, "use load_state_dict"),
    ],
)
def test_mistakes_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        scheduler(**settings)


def test_what_is_not_an_optimizer_is_refused():  # test_initialization_not_optimizer
    with pytest.raises(TypeError, match="str is not an Optimizer"):
        GreedyLR("not_an_optimizer")


def test_a_plateau_lowers_the_rate():  # test_lr_decrease_on_plateau
    assert stepped(scheduler(), [5.0] + [10.0] * 4)[-2:] == [[0.1], [0.1 * 0.9]]


def test_improvement_raises_the_rate():  # test_lr_increase_on_improvement
    assert stepped(scheduler(), falling(count=4))[-2:] == [[0.1], [0.1 / 0.9]]


def test_the_rate_stops_at_its_lower_limit():  # test_lr_never_below_min_lr
    assert stepped(scheduler(patience=1, min_lr=0.01, factor=0.5), [1.0] + [10.0] * 50)[-1] == [0.01]


def test_the_rate_stops_at_its_upper_limit():  # test_lr_never_above_max_lr
    assert stepped(scheduler(patience=1, max_lr=0.2, factor=0.5), falling())[-1] == [0.2]


def test_nothing_happens_in_a_cooldown():  # test_cooldown_prevents_further_reduction
    path = stepped(scheduler(patience=2, cooldown=3), [5.0] + [10.0] * 9)
    assert path[3:9] == [[0.1 * 0.9]] * 6
    assert path[9] == [0.1 * 0.9 * 0.9]


def test_nothing_happens_in_a_warmup():  # test_warmup_prevents_further_increase
    path = stepped(scheduler(patience=2, warmup=3), falling(count=9))
    assert path[2:8] == [[0.1 / 0.9]] * 6
    assert path[8] == [0.1 / 0.9 / 0.9]


def test_losses_are_averaged_on_request():  # test_smoothing_uses_streaming_average
    smooth = scheduler(smooth=True, window_size=3, patience=10)
    stepped(smooth, [10.0, 8.0, 6.0, 4.0])
    assert smooth.state.window == (8.0, 6.0, 4.0)
    assert smooth.best == 6.0
    assert (smooth._streaming_avg.window_size, smooth._streaming_avg.values) == (3, [8.0, 6.0, 4.0])


def test_losses_are_not_averaged_by_default():  # test_no_smoothing_by_default
    plain = scheduler()
    stepped(plain, [10.0, 8.0])
    assert (plain.smooth, plain.best, plain._streaming_avg) == (False, 8.0, None)


def test_the_average_is_that_of_the_last_values():  # StreamingAverageTest.test_basic_average
    average = StreamingAverage(window_size=3)
    assert [average.streamavg(value) for value in (1.0, 2.0, 3.0, 4.0)] == [1.0, 1.5, 2.0, 3.0]


def test_the_average_comes_back_from_a_snapshot():  # StreamingAverageTest.test_state_dict_round_trip
    first, second = StreamingAverage(window_size=3), StreamingAverage(window_size=3)
    for value in (1.0, 2.0, 3.0):
        first.streamavg(value)
    second.load_state_dict(first.state_dict())
    assert (second.values, second.sum, second.window_size) == (first.values, first.sum, first.window_size)


def test_no_huge_value_stays_in_the_average():
    average = StreamingAverage(window_size=2)
    assert [average.streamavg(value) for value in (1e17, 1.0, 1.0)][-1] == 1.0


def test_a_snapshot_brings_back_all_it_shows():  # test_state_dict_round_trip
    first, second = (scheduler(smooth=True, window_size=5) for _ in range(2))
    stepped(first, [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 6.0, 7.0])
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert stepped(second, [5.0, 4.0, 3.0]) == stepped(first, [5.0, 4.0, 3.0])


def test_a_snapshot_has_every_key_of_that_class(reference):  # test_state_dict_contains_all_keys
    assert reference(optimizer(), smooth=True).state_dict().keys() <= GreedyLR(optimizer(), smooth=True).state_dict().keys()


def test_part_of_a_snapshot_is_taken_and_settings_stay():  # test_load_state_dict_backward_compatibility, but for its settings
    loaded = scheduler()
    with pytest.warns(
        UserWarning, match=r"written with factor=0.8 \(here 0.9\), patience=5 \(here 3\); what was set here stays"
    ):
        loaded.load_state_dict({"factor": 0.8, "patience": 5, "best": 5.0, "num_bad_epochs": 3})
    assert (loaded.best, loaded.num_bad_epochs, loaded.cooldown_counter) == (5.0, 3, 0)
    assert (loaded.factor, loaded.patience) == (0.9, 3)


def test_the_factory_makes_the_class():  # test_factory_function, test_factory_function_with_kwargs
    made = get_greedy_schedule(optimizer(), mode="max", patience=5, smooth=True, window_size=10)
    assert isinstance(made, GreedyLR)
    assert (made.mode, made.patience, made.smooth, made.window_size) == ("max", 5, True, 10)


def test_get_scheduler_makes_the_class_once_it_is_told(reference, monkeypatch):  # test_get_scheduler_integration
    theirs = sys.modules[reference.__module__]
    monkeypatch.setitem(theirs.TYPE_TO_SCHEDULER_FUNCTION, theirs.SchedulerType.GREEDY, get_greedy_schedule)
    made = theirs.get_scheduler("greedy", optimizer=optimizer(), scheduler_specific_kwargs={"patience": 5})
    assert isinstance(made, GreedyLR)
    assert made.patience == 5


def test_the_last_rates_are_a_list():  # test_get_last_lr
    made = GreedyLR(optimizer(0.1, 0.2))
    made.step(10.0)
    assert made.get_last_lr() == [0.1, 0.2]


def test_after_cuts_at_the_limit_all_starts_over():  # test_reset_at_min_lr
    made = scheduler(patience=1, min_lr=0.01, factor=0.5, reset_start=2)
    path = stepped(made, [1.0] + [10.0] * 100)
    assert path[9:12] == [[0.01], [0.1], [0.1]]
    assert path[-1] == [0.1]


def test_it_never_starts_over_without_reset_start():
    assert stepped(scheduler(patience=0, min_lr=0.01, factor=0.5, reset_start=None), [1.0] * 1000)[-1] == [0.01]


@pytest.mark.parametrize(
    ("values", "rate"),
    [([10.0, 1.0, 1.0, 1.0], 0.1 * 0.9), ([1.5, 2.25, 3.375], 0.1 / 0.9)],  # test_max_mode_lr_decrease, ..._increase
)
def test_higher_can_be_better(values, rate):
    assert stepped(scheduler(mode="max", patience=2), values)[-1] == [rate]


def test_a_threshold_can_be_relative():  # test_relative_threshold_mode
    made = scheduler(threshold_mode="rel", threshold=0.1, patience=2)
    stepped(made, [10.0, 9.5])
    assert made.num_bad_epochs == 1


def test_every_group_has_its_rate():  # test_multiple_param_groups
    made = GreedyLR(optimizer(0.1, 0.01), patience=2, factor=0.9, min_lr=1e-6)
    assert (len(made.min_lrs), len(made.max_lrs)) == (2, 2)
    assert stepped(made, [5.0, 10.0, 10.0, 10.0])[-1] == [0.1 * 0.9, 0.01 * 0.9]


# What stays better than in that class.


def test_it_is_a_scheduler_of_pytorch():
    assert isinstance(scheduler(), LRScheduler)


@given(setups(), st.lists(dyadic | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=60))
def test_a_loss_that_is_not_finite_is_forgotten(setup, values):
    bases, settings = setup
    whole, finite_only = GreedyLR(optimizer(*bases), **settings), GreedyLR(optimizer(*bases), **settings)
    stepped(whole, values)
    stepped(finite_only, filter(math.isfinite, values))
    assert whole.state == finite_only.state


def test_the_mean_of_what_was_observed_is_taken():
    made = scheduler()
    made.observe(3.0)
    made.observe(torch.tensor(5.0))
    made.step()
    assert made.best == 4.0


def test_a_tensor_rate_is_filled_in_place():
    rate = torch.tensor(0.1)
    opt = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=rate)
    GreedyLR(opt, **QUICK).step(torch.tensor(3.0))
    assert opt.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.2)


def test_a_group_that_is_added_joins_at_its_own_rate():
    opt = optimizer(0.1)
    made = GreedyLR(opt, **QUICK)
    made.step(4.0)
    opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.03})
    assert stepped(made, [3.0, 2.0]) == [[0.4, 0.03], [0.8, 0.06]]
    assert made.state_dict()["_init_lrs"] == [0.1, 0.03]


def test_a_snapshot_does_not_change_with_the_scheduler():
    made = scheduler(smooth=True)
    made.step(3.0)
    snapshot = made.state_dict()
    before = repr(snapshot)
    stepped(made, [2.0] * 20)
    assert repr(snapshot) == before


def test_the_snapshot_of_another_scheduler_is_refused():
    for other in (ReduceLROnPlateau(optimizer()), surefoot.torch.GreedyLR(optimizer())):
        with pytest.raises(ValueError, match="this is no snapshot of transformers' GreedyLR"):
            scheduler().load_state_dict(other.state_dict())


def test_the_snapshot_of_other_groups_is_refused():
    with pytest.raises(ValueError, match="rates for 2 parameter groups, and the optimizer has 1"):
        scheduler().load_state_dict(GreedyLR(optimizer(0.1, 0.2)).state_dict())


def test_a_poisoned_checkpoint_is_healed(reference):
    theirs, ours = (kind(optimizer(), smooth=True, window_size=3) for kind in (reference, GreedyLR))
    stepped(theirs, [3.0, -math.inf, math.nan])
    ours.load_state_dict(theirs.state_dict())
    assert (ours.state.window, ours.state.total, ours.best) == ((3.0,), 3.0, math.inf)


def test_a_rate_beyond_the_limits_that_are_set_here_is_brought_back():
    first, second = scheduler(**QUICK), scheduler(**QUICK, max_lr=0.3)
    stepped(first, falling(count=3))
    with pytest.warns(UserWarning, match=r"max_lrs=\[1.0\] \(here \[0.3\]\)"):
        second.load_state_dict(first.state_dict())
    assert rates(second.optimizer) == [0.3]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_it_takes_over_from_a_warmup():
    opt = optimizer(0.1)
    warmup, greedy = LinearLR(opt, 0.25, 1.0, total_iters=2), GreedyLR(opt, **QUICK)
    both = SequentialLR(opt, [warmup, greedy], milestones=[2])
    path = []
    for loss in (9.0, 8.0, 7.0, 6.0):
        path.append(rates(opt)[0])
        greedy.observe(loss)
        both.step()
    assert path == pytest.approx([0.025, 0.0625, 0.1, 0.2])


def test_a_checkpoint_leaves_the_rates_to_the_warmup_before_it():
    def both():
        opt = optimizer(0.1)
        return opt, SequentialLR(opt, [LinearLR(opt, 0.25, 1.0, total_iters=2), GreedyLR(opt, **QUICK)], milestones=[2])

    (opt, taken), (other, loaded) = both(), both()
    opt.step()
    taken.step()
    other.load_state_dict(opt.state_dict())
    loaded.load_state_dict(taken.state_dict())
    assert rates(other) == rates(opt) == pytest.approx([0.0625])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])  # noqa: S301 - our own
def test_a_copy_goes_on_by_itself(copied):
    made = scheduler(**QUICK)
    other = copied(made)
    other.step(3.0)
    assert (type(other), made.get_last_lr(), other.get_last_lr()) == (GreedyLR, [0.1], [0.2])


def test_the_epoch_can_be_named():
    made = scheduler()
    made.step(3.0, 7)
    made.step(2.0)
    assert made.last_epoch == 8


@pytest.mark.parametrize("compat", [None, "transformers"])
def test_new_rates_are_logged(compat, caplog):
    with caplog.at_level(logging.INFO, "surefoot"):
        made = surefoot.torch.GreedyLR(optimizer(), compat=compat, smooth=False, **QUICK)
        stepped(made, [3.0])
    assert caplog.messages == ["step 1: raised: 1 better in a row, scale 2, rate 0.2"]


def test_transformers_is_not_imported():
    code = "import sys, surefoot.transformers; print('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# surefoot's own rule, in that class's words.


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"min_lr": 0.025, "max_lr": 0.2}, {"min_scale": 0.25, "max_scale": 2.0}),
        ({"smooth": True}, {"window": 50}),
        ({"smooth": True, "window_size": 7}, {"window": 7}),
        ({"window_size": 7}, {"window": 7}),
        ({"smooth": False, "window_size": 7}, {"window": 1}),
        ({"cooldown": 3, "warmup": 4}, {"cut_stage": 3, "raise_stage": 4, "stage": "hold"}),
        ({"cooldown": 3, "stage": "continue"}, {"cut_stage": 3, "stage": "continue"}),
        ({"reset_start": 9}, {"reset_after": 9}),
        ({"threshold_mode": "rel"}, {"threshold_mode": "relative"}),
        ({"threshold_mode": "abs"}, {"threshold_mode": "absolute"}),
        ({"factor": 0.5, "patience": 2, "threshold": 0.1, "mode": "max"}, None),
        ({"eps": 1e-8, "verbose": False}, {}),
    ],
)
def test_an_argument_of_that_class_becomes_a_setting_of_greedy(theirs, ours):
    assert surefoot.torch.GreedyLR(optimizer(0.1), **theirs).policy == Greedy(**(theirs if ours is None else ours))


def test_limits_of_several_groups_become_the_tightest_common_ones():
    made = surefoot.torch.GreedyLR(optimizer(0.5, 0.25), min_lr=[0.125, 0.125], max_lr=1.0, **QUICK, smooth=False)
    assert (made.policy.min_scale, made.policy.max_scale) == (0.5, 2.0)
    assert stepped(made, falling())[-1] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"min_lr": 0.01, "min_scale": 0.1}, ValueError, "min_lr and min_scale say the same thing, got both"),
        ({"smooth": False, "window": 50}, ValueError, "smooth and window say the same thing, got both"),
        ({"reset_start": 500, "reset_after": None}, ValueError, "reset_start and reset_after say the same thing"),
        ({"min_lr": 0.2}, ValueError, "the limits of a rate must have the base rate between them"),
        ({"max_lr": [0.05]}, ValueError, "the limits of a rate must have the base rate between them"),
        ({"min_lr": 0.0}, ValueError, "min_lr must be above 0: a rate of 0 could never be raised again"),
        ({"eps": -1.0}, ValueError, "eps must be finite and 0 or more"),
        ({"windw": 3}, TypeError, "windw"),
        ({"compat": "keras"}, ValueError, "compat must be one of 'transformers'"),
        ({"compat": "transformers", "window": 3}, ValueError, "window is surefoot's .* knows smooth and window_size instead"),
        ({"compat": "transformers", "stage": "hold"}, ValueError, "stage has no meaning"),
        ({"compat": "transformers", "evidence": 3.0}, ValueError, "evidence has no meaning"),
    ],
)
def test_what_makes_no_sense_together_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        surefoot.torch.GreedyLR(optimizer(0.1), **settings)


def test_a_class_of_ones_own_is_derived_from_the_drop_in():
    class Derived(surefoot.torch.GreedyLR):
        pass

    assert type(Derived(optimizer(), window=3)) is Derived
    with pytest.raises(TypeError, match="derive Derived from surefoot.transformers.GreedyLR"):
        Derived(optimizer(), compat="transformers")


def test_a_checkpoint_of_that_class_is_taken_over_by_the_own_rule(reference):
    settings = {"factor": 0.5, "patience": 1, "smooth": True, "window_size": 4, "mode": "max", "min_lr": 0.0125, "max_lr": 0.8}
    settings |= {"threshold_mode": "abs", "reset_start": 9}
    theirs, ours = reference(optimizer(), **settings), surefoot.torch.GreedyLR(optimizer(), **settings)
    stepped(theirs, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 5.0])
    ours.load_state_dict(theirs.state_dict())
    assert (ours.last_epoch, ours.state.best, ours.state.window) == (7, -theirs.best, (-4.0, -5.0, -6.0, -5.0))
    assert (ours.state.good, ours.state.bad) == (theirs.num_good_epochs, theirs.num_bad_epochs)
    onward = [9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert stepped(ours, onward) == stepped(theirs, onward)


def test_a_checkpoint_brings_its_window_and_rate_to_a_rule_that_judges_by_evidence():
    settings = {"smooth": True, "window_size": 8, **QUICK}
    taken, loaded = GreedyLR(optimizer(), **settings), surefoot.torch.GreedyLR(optimizer(), window=8, evidence=3.0, **QUICK)
    stepped(taken, [3.0, 2.0, 4.0])
    with pytest.warns(UserWarning, match="what was set here stays as it is"):
        loaded.load_state_dict(taken.state_dict())
    fresh = loaded.policy.init()
    assert loaded.state == fresh._replace(scale=2.0, count=3, window=(0.0,) * 5 + (3.0, 2.0, 4.0))


def test_the_own_rule_names_the_settings_that_differ():
    taken, loaded = scheduler(**QUICK, cooldown=2), surefoot.torch.GreedyLR(optimizer(), window=1)
    stepped(taken, [3.0])
    with pytest.warns(UserWarning, match=r"factor=0.5 \(here 0.95\), patience=0 \(here 10\), cut_stage=2 \(here 0\)"):
        loaded.load_state_dict(taken.state_dict())
    assert loaded.policy == Greedy(window=1)
    assert rates(loaded.optimizer) == [0.2]


def test_the_own_rule_takes_the_smallest_of_several_scales():
    settings = {**QUICK, "min_lr": [0.001, 0.001], "max_lr": [1.0, 0.4]}
    taken = GreedyLR(optimizer(0.1, 0.2), **settings)
    stepped(taken, falling(count=3))
    loaded = surefoot.torch.GreedyLR(optimizer(0.1, 0.2), **settings, smooth=False, threshold_mode="abs", reset_start=500)
    with pytest.warns(UserWarning, match=r"scale=\[8.0, 2.0\] \(here 2.0\)"):
        loaded.load_state_dict(taken.state_dict())
    assert rates(loaded.optimizer) == [0.2, 0.4]


def test_the_rule_is_a_policy():
    rule = HoldAll(bases=(0.5,), min_rates=(0.125,), max_rates=(1.0,), factor=0.5, patience=0)
    assert [state.scale for state in schedule(rule, [3.0, 2.0, 4.0])] == [1.0, 2.0, 2.0, 1.0]
