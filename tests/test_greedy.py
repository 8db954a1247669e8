"""Greedy and its relatives by example."""

import functools
import math
import random

import pytest

from surefoot import Clip, Constant, Every, Greedy, Plateau, Then, Warmup, schedule

raw = functools.partial(Greedy, window=1)
UP, DOWN = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0], [9.0] * 6


def scales(policy, values):
    return [state.scale for state in schedule(policy, values)][1:]


def test_patience_counts_losses_in_a_row():
    policy = raw(factor=0.5, patience=1)
    assert scales(policy, [9.0, 8.0, 7.0, 6.0]) == [1.0, 2.0, 2.0, 4.0]
    assert scales(policy, [9.0, 9.0, 8.0, 8.0, 7.0, 7.0]) == [1.0] * 6


def test_a_stage_goes_on_raising_even_if_the_trend_reverses():
    policy = raw(factor=0.5, patience=0, raise_stage=2, max_scale=100.0)
    assert scales(policy, [9.0, 10.0, 10.0, 10.0]) == [2.0, 4.0, 8.0, 4.0]


def test_a_stage_goes_on_cutting_even_if_the_trend_reverses():
    policy = raw(factor=0.5, patience=0, cut_stage=2)
    assert scales(policy, [9.0, 10.0, 8.0, 7.0, 6.0]) == [2.0, 1.0, 0.5, 0.25, 0.5]


def test_a_held_stage_bars_the_same_move_but_not_the_opposite_one():
    policy = raw(factor=0.5, patience=0, raise_stage=2, stage="hold")
    assert scales(policy, UP) == [2.0, 2.0, 2.0, 4.0, 4.0, 4.0]
    assert scales(policy, [9.0, 10.0]) == [2.0, 1.0]


def test_the_best_is_kept_up_to_date_in_a_stage():
    for stage in ("continue", "hold"):
        *_, state = schedule(raw(patience=0, raise_stage=3, stage=stage), [9.0, 5.0])
        assert state.best == 5.0


def test_the_window_averages_the_last_losses():
    *_, state = schedule(Greedy(window=3), [9.0, 6.0, 3.0, 0.0])
    assert state.best == 3.0
    assert state.window == (6.0, 3.0, 0.0)


def test_a_window_sees_the_trend_through_noise():
    noise = random.Random(0)
    noisy = [10.0 - 0.1 * step + noise.gauss(0.0, 1.0) for step in range(80)]
    plain, smooth = raw(patience=2), Greedy(patience=2, window=20)
    assert scales(plain, noisy)[-1] < 1.0 < scales(smooth, noisy)[-1]


def test_one_huge_loss_leaves_the_window_with_its_last_step():
    policy = Greedy(window=3)
    *_, state = schedule(policy, [1e17, 1.0, 1.0, 1.0])
    assert state.best == 1.0


def test_a_minus_infinite_loss_is_no_unbeatable_best():
    *_, state = schedule(raw(), [3.0, -math.inf, 2.0])
    assert state.best == 2.0


@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_a_relative_threshold_asks_for_more_below_zero_too(mode, sign):
    policy = raw(factor=0.5, patience=0, threshold=0.1, mode=mode)
    assert scales(policy, [sign * -10.0, sign * -10.5]) == [2.0, 1.0]
    assert scales(policy, [sign * -10.0, sign * -11.5]) == [2.0, 4.0]


def test_an_absolute_threshold_is_in_the_units_of_the_loss():
    policy = raw(factor=0.5, patience=0, threshold=1.0, threshold_mode="absolute")
    assert scales(policy, [-3.0, -4.0]) == [2.0, 1.0]
    assert scales(policy, [-3.0, -4.5]) == [2.0, 4.0]


def test_limits_are_multiples_of_the_base_rate():
    policy = raw(factor=0.5, patience=0, min_scale=0.3, max_scale=3.0)
    assert scales(policy, UP)[-1] == 3.0
    assert scales(policy, DOWN)[-1] == 0.3


def test_after_a_reset_the_scale_climbs_back_by_one_factor_a_step():
    policy = raw(factor=0.5, patience=0, min_scale=0.25, reset_after=2)
    path = scales(policy, [-1.0, *DOWN])
    assert path == [2.0, 1.0, 0.5, 0.25, 0.25, 0.25, 0.5]
    assert scales(policy, [-1.0, *DOWN, 9.0, 9.0, 8.0])[-3:] == [1.0, 0.5, 1.0]


def test_max_mode_raises_on_a_rising_accuracy():
    assert scales(raw(factor=0.5, patience=0, mode="max"), [0.5, 0.6, 0.7]) == [2.0, 4.0, 8.0]


def test_plateau_rests_after_a_cut():
    assert scales(Plateau(factor=0.5, patience=0, cooldown=2), [1.0] * 6) == [1.0, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_clip_does_not_wind_up():
    clipped = Clip(raw(factor=0.5, patience=0), max_scale=2.0)
    assert scales(clipped, [*UP, 9.0]) == [2.0] * 6 + [1.0]


def test_a_warmed_up_policy_sees_no_loss_of_the_ramp():
    *_, state = schedule(Warmup(raw(patience=0), steps=3), [1.0, 1.0, 1.0, 5.0])
    assert state.inner.best == 5.0


def test_every_hands_on_the_mean_of_the_finite_losses():
    *_, state = schedule(Every(raw(), steps=3), [2.0, math.nan, 4.0])
    assert state.inner.best == 3.0


def test_every_hands_on_nothing_if_no_loss_was_finite():
    *_, state = schedule(Every(raw(), steps=2), [math.nan, math.inf])
    assert state.inner == raw().init()


def test_the_second_policy_starts_fresh():
    *_, state = schedule(Then(raw(), raw(), after=2), [1.0, 1.0, 5.0])
    assert state.second.best == 5.0


def test_signals_reach_the_policy_inside():
    class Listening(Constant):
        def update(self, state, loss, **signals):
            heard.append(signals)
            return super().update(state, loss)

    heard = []
    inner = Listening()
    for policy in (Clip(inner), Warmup(inner, steps=1, start=1.0), Every(inner, steps=1), Then(inner, inner, after=1)):
        state = policy.update(policy.init(), 1.0, norm=2.0)
        policy.update(state, 1.0, norm=2.0)
    assert heard
    assert all(signals == {"norm": 2.0} for signals in heard)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"factor": 1.2}, ValueError, "factor must lie strictly between 0 and 1, got 1.2"),
        ({"factor": -0.5}, ValueError, "factor must lie strictly between 0 and 1"),
        ({"factor": math.nan}, ValueError, "factor must be finite, got nan"),
        ({"factor": "0.5"}, TypeError, "factor must be a number, got '0.5'"),
        ({"patience": -5}, ValueError, "patience must be a whole number, 0 or more, got -5"),
        ({"patience": 2.5}, TypeError, "patience must be a whole number, got 2.5"),
        ({"window": 0}, ValueError, "window must be a whole number, 1 or more, got 0"),
        ({"threshold": -1e-6}, ValueError, "threshold must be finite and 0 or more"),
        ({"threshold": 1.0}, ValueError, "threshold must lie between 0 and 0.999.*fractions of the best loss"),
        ({"threshold_mode": "rel"}, ValueError, "threshold_mode must be one of 'relative', 'absolute', got 'rel'"),
        ({"stage": "crossed"}, ValueError, "stage must be one of 'continue', 'hold', got 'crossed'"),
        ({"min_scale": 2.0}, ValueError, "min_scale must lie between 0 and 1, got 2.0.*multiples of the base rate"),
        ({"min_scale": 0.0}, ValueError, "min_scale must be above 0"),
        ({"max_scale": 0.5}, ValueError, "max_scale must be finite and 1 or more, got 0.5"),
        ({"reset_after": 0}, ValueError, "reset_after must be a whole number, 1 or more, got 0"),
        ({"mode": "best"}, ValueError, "mode must be one of 'min', 'max', got 'best'"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(settings, error, message):
    with pytest.raises(error, match=message):
        Greedy(**settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clip(Greedy), "got the class Greedy"),
        (lambda: Warmup(0.5, steps=3), "policy must be a policy"),
        (lambda: Then(Greedy(), None, after=3), "second must be a policy"),
    ],
)
def test_what_is_no_policy_is_refused_by_the_combinators(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_clip_refuses_crossed_limits():
    with pytest.raises(ValueError, match="max_scale must be finite and 0.5 or more, got 0.1 \\(it must not be below min_scale"):
        Clip(Greedy(), min_scale=0.5, max_scale=0.1)


def noisy(spread, level, steps=2000, seed=0):
    noise = random.Random(seed)
    return [level(step) + noise.gauss(0.0, spread) for step in range(steps)]


CAREFUL = Greedy(window=200, evidence=4.5)


@pytest.mark.parametrize("spread", [0.01, 0.05, 0.2])
def test_evidence_raises_while_a_noisy_loss_falls(spread):
    path = scales(CAREFUL, noisy(spread, lambda step: 2.0 + 3.0 * math.exp(-step / 2000.0), steps=700))
    assert path[-1] > 2.0
    assert path == sorted(path)


def test_evidence_cuts_when_a_falling_loss_stops():
    path = scales(CAREFUL, noisy(0.05, lambda step: 2.0 + 3.0 * max(0.0, 1.0 - step / 800.0), steps=2000))
    top = path.index(max(path))
    assert 600 <= top <= 1000
    assert path[-1] < 0.5 * path[top]


@pytest.mark.parametrize("seed", range(5))
def test_evidence_moves_nothing_on_noise_alone(seed):
    assert set(scales(CAREFUL, noisy(0.2, lambda _: 2.0, seed=seed))) == {1.0}


def test_evidence_cuts_on_a_rising_loss_that_never_fell():
    assert scales(CAREFUL, noisy(0.05, lambda step: 2.0 + step / 500.0, steps=600))[-1] < 1.0


def test_a_spike_is_no_evidence_and_a_fall_after_it_is_soon_seen():
    def level(step):
        return (9.0 if step == 500 else 0.0) + 3.0 - step / 1000.0

    path = scales(Greedy(window=200, evidence=4.5, max_scale=1e9), noisy(0.02, level, steps=1500))
    assert path == sorted(path)
    assert path[500] == path[690] < path[720]


def test_the_same_loss_for_ever_is_no_evidence_of_anything():
    assert set(scales(Greedy(window=8, evidence=1.0), [0.1] * 500)) == {1.0}


def test_a_huge_loss_leaves_no_trace_once_it_is_out_of_the_window():
    falling = noisy(0.01, lambda step: 3.0 - step / 100.0, steps=200)
    policy = Greedy(window=20, evidence=4.0, patience=0)
    *_, spoilt = schedule(policy, [1e17, *falling])
    *_, clean = schedule(policy, [3.0, *falling])
    assert (spoilt.scale, spoilt.window) == (clean.scale, clean.window)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evidence": 0.0}, "evidence must be above 0: with none, every wiggle would count"),
        ({"evidence": math.nan}, "evidence must be finite"),
        ({"evidence": -2.0}, "evidence must be finite and 0 or more, got -2.0"),
        ({"evidence": 4.0, "window": 5}, "window must be 8 or more to show a trend, got 5"),
    ],
)
def test_bad_evidence_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Greedy(**settings)
