"""What a policy sees is the same whatever the units, the arithmetic and the way in which losses arrive."""

from __future__ import annotations

import pickle
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surefoot import Clip, Constant, Cosine, Every, Greedy, Warmup, WarmupStableDecay
from surefoot.arithmetic import lift
from surefoot.control import Control
from surefoot.features import Features

positive = st.floats(1e-3, 1e3)
odd = st.sampled_from([nan, inf, -inf])
anything = st.lists(positive | odd | st.floats(-1e3, 1e3), min_size=1, max_size=60)
scales = st.floats(0.0, 100.0)
features = st.builds(Features, window=st.integers(1, 6), tier=st.sampled_from(["loss", "gradient"]), bound=st.booleans())
actions = st.floats(-1.0, 1.0)


@st.composite
def steps(draw, losses=anything):
    """Losses, and the signals that came with them."""
    progress = st.sampled_from([-1.0, 0.0, 0.25, 1.0])
    wild = st.floats(1e-6, 1e6) | odd
    signals = {
        "scale": scales,
        "progress": progress,
        "alignment": st.floats(-1.0, 1.0) | odd,
        "relative_step": wild,
        "bound": wild,
    }
    return [(loss, draw(st.fixed_dictionaries(signals))) for loss in draw(losses)]


def states(made, path, state=None):
    state = made.init() if state is None else state
    for loss, signals in path:
        state = made.update(state, loss, **signals)
        yield state


def views(made, path):
    return [made.view(state) for state in states(made, path)]


def as_vectors(path, array, copies=3):
    """The same losses, and as many others beside them: a run must not notice its neighbours."""
    every = [(loss, 2.0 * loss + 1.0, nan)[:copies] for loss, _ in path]
    return [
        (array(losses), {name: array([value] * copies) for name, value in signals.items()})
        for losses, (_, signals) in zip(every, path, strict=True)
    ]


@given(features, steps())
def test_every_entry_is_within_its_bounds(made, path):
    for view in views(made, path):
        assert all(low <= entry <= high for low, entry, high in zip(made.low, view, made.high, strict=True))


@given(features, steps(), st.integers(-30, 30))
def test_no_entry_depends_on_the_units_of_the_loss(made, path, power):
    assert views(made, [(loss * 2.0**power, signals) for loss, signals in path]) == views(made, path)


@given(features, steps(), st.data())
def test_resuming_at_any_cut_equals_never_stopping(made, path, data):
    cut = data.draw(st.integers(0, len(path)))
    *_, state = (made.init(), *states(made, path[:cut]))
    resumed = list(states(made, path[cut:], pickle.loads(pickle.dumps(state))))  # noqa: S301 - our own
    assert resumed == list(states(made, path))[cut:]


@given(features, steps(), odd)
def test_a_loss_that_is_not_finite_is_forgotten(made, path, loss):
    *_, before = states(made, path)
    _, signals = path[-1]
    after = made.update(before, loss, **signals)
    timed = {"step", "quiet", "usual", "scale", "progress", "alignment", "reach", "bound"}
    assert {name: value for name, value in after._asdict().items() if name not in timed} == {
        name: value for name, value in before._asdict().items() if name not in timed
    }


@given(features, steps())
def test_floats_and_numpy_agree_to_the_last_bit(made, path):
    vectors = [view[:, 0].tolist() for view in views(made, as_vectors(path, np.array))]
    assert vectors == [list(view) for view in views(made, path)]


@settings(max_examples=25)
@given(features, steps())
def test_floats_and_torch_agree(made, path):
    torch = pytest.importorskip("torch")
    for expected, view in zip(views(made, path), views(made, as_vectors(path, torch_double(torch))), strict=True):
        np.testing.assert_allclose(view[:, 0].numpy(), expected, rtol=1e-9, atol=1e-9)


def torch_double(torch):
    return lambda values: torch.tensor(values, dtype=torch.float64)


@given(features, steps())
def test_a_run_does_not_notice_its_neighbours(made, path):
    alone, beside = views(made, as_vectors(path, np.array, copies=1)), views(made, as_vectors(path, np.array))
    assert [view[:, 0].tolist() for view in alone] == [view[:, 0].tolist() for view in beside]


def test_single_precision_is_enough_for_a_view():
    made = Features(window=4)
    path = [(3.0 * 0.97**step + 0.01 * (step % 3), {"scale": 1.0}) for step in range(200)]
    single = [(np.float32([loss]), signals) for loss, signals in path]
    for expected, view in zip(views(made, path), views(made, single), strict=True):
        assert view.dtype == np.float32
        np.testing.assert_allclose(view[:, 0], expected, rtol=1e-2, atol=1e-2)


def view_of(losses, **settings):
    made = Features(**settings)
    *_, view = views(made, [(loss, {}) for loss in losses])
    return dict(zip(made.names, view, strict=True))


def test_a_falling_loss_falls_on_every_horizon():
    view = view_of([0.9**step for step in range(100)], window=4)
    assert view["level"] < 0.0
    assert view["jump"] < 0.0
    assert view["short"] < 0.0
    assert view["long"] < 0.0
    assert view["trend"] < -1.0


def test_noise_alone_is_no_trend():
    random = np.random.default_rng(0)
    view = view_of(np.exp(0.1 * random.standard_normal(500)), window=10)
    assert abs(view["trend"]) < 0.75  # Three standard errors.
    assert view["noise"] == pytest.approx((np.log2(0.1 * np.log2(np.e)) + 4.0) / 2.0, abs=0.5)


def test_a_budget_that_is_not_known_is_neither_begun_nor_over():
    made = Features()
    assert made.view(made.init())[:2] == (0.0, 0.0)
    assert made.view(made.init(progress=0.0))[:2] == (-1.0, 1.0)


def test_a_change_of_the_scale_is_seen_and_fades():
    made = Features(window=2)
    path = [(1.0, {"scale": 1.0})] * 9 + [(1.0, {"scale": 2.0})] * 30
    seen = [dict(zip(made.names, view, strict=True)) for view in views(made, path)]
    assert seen[8]["change"] == 0.0
    assert seen[9]["change"] > 0.5
    assert seen[9]["quiet"] == -1.0
    assert seen[-1]["quiet"] > 2.0
    assert abs(seen[-1]["change"]) < 0.01


@pytest.mark.parametrize(("wrong", "message"), [({"window": 0}, "window must be"), ({"tier": "all"}, "tier must be one of")])
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Features(**wrong)


schedules = st.sampled_from([Cosine(steps=30), WarmupStableDecay(steps=20), Greedy(window=2, patience=0)])


@given(schedules, anything)
def test_a_control_without_decisions_is_its_schedule(schedule, losses):
    control = Control(schedule=schedule)
    ours, theirs = control.init(), schedule.init()
    for loss in losses:
        ours, theirs = control.update(ours, loss), schedule.update(theirs, loss)
        assert ours.scale == theirs.scale


@given(actions, st.floats(1.1, 8.0), st.floats(1.1, 8.0))
def test_a_decision_changes_the_scale_within_its_limits(action, rise, cut):
    control = Control(rise=rise, cut=cut)
    scale = control.act(control.init(), action).scale
    assert 1.0 / cut * (1.0 - 1e-12) <= scale <= rise * (1.0 + 1e-12)
    assert (scale > 1.0) == (action > 0.0) or scale == pytest.approx(1.0)


@given(st.lists(actions, min_size=1, max_size=40), anything)
def test_decisions_are_the_same_on_floats_and_on_vectors(chosen, losses):
    control = Control(Features(window=1), schedule=WarmupStableDecay(steps=30), steps=30, settle=3)
    ours, theirs = control.init(), lift(control.init(), np.zeros(2))
    for action, loss in zip(chosen, losses, strict=False):
        ours = control.update(control.act(ours, action), loss)
        theirs = control.update(control.act(theirs, np.array([action, 0.5])), np.array([loss, 1.0]))
        assert theirs.scale[0] == ours.scale
        assert control.view(theirs)[:, 0].tolist() == list(control.view(ours))


def test_decisions_are_due_at_the_ends_of_windows():
    control = Control(Features(window=4), first=(1, 2))
    state, due = control.init(), []
    for step in range(16):
        if control.due(state):
            due.append(step)
            state = control.act(state, 0.0)
        state = control.update(state, 1.0)
    assert due == [0, 1, 3, 7, 11, 15]


def test_no_action_leads_beyond_all_numbers():
    control = Control(Features(window=1), rise=8.0)
    state = control.init()
    for _ in range(1000):
        state = control.act(state, 1.0)
    assert state.scale <= 2.0**40


@given(st.integers(1, 20), st.floats(0.01, 1.0))
def test_an_action_taken_for_ever_comes_to_a_power_of_time_once_it_settles(settle, action):
    control = Control(Features(window=1), settle=settle)
    state, doublings = control.init(), []
    for _ in range(2 * settle):
        state = control.act(state, action)
        doublings.append(state.correction)
    weights = [1.0] * settle + [settle / number for number in range(settle + 1, 2 * settle + 1)]
    assert doublings == pytest.approx((action * np.cumsum(weights)).tolist())


def test_an_alarm_gives_decisions_their_full_weight_back():
    control = Control(Features(window=1), alarm=4.0, rescue=2.0, settle=1)
    state = control.init()
    for _ in range(9):
        state = control.update(control.act(state, 0.0), 1.0)
    state = control.update(state, inf)
    assert (state.correction, control.act(state, 1.0).correction) == (-1.0, 0.0)


def test_a_warmup_leads_up_to_the_schedule_in_even_factors():
    control = Control(schedule=Constant(scale=3.0), warmup=4, begin=1.0 / 16.0)
    state, scales = control.act(control.init(), 0.0), []
    for _ in range(6):
        scales.append(state.scale)
        state = control.update(state, 1.0)
    assert scales == pytest.approx([3.0 / 16.0, 3.0 / 8.0, 3.0 / 4.0, 3.0 / 2.0, 3.0, 3.0])


def test_a_loss_far_above_the_usual_cuts_the_scale_at_once_and_makes_a_decision_due():
    control = Control(Features(window=4), first=(1,), alarm=10.0, rescue=4.0)
    state = control.act(control.act(control.init(), 0.0), 0.0)
    for loss in (2.0, 2.1, 30.0):
        state = control.update(state, loss)
    assert (state.scale, state.alarms, state.decision, control.due(state)) == (0.25, 1, 0, True)


@pytest.mark.parametrize("bad", [nan, inf, 1e30])
def test_a_loss_that_stays_bad_cuts_the_scale_once_in_a_window(bad):
    control = Control(Features(window=5), alarm=10.0, rescue=4.0)
    state, scales = control.update(control.init(), 1.0), []
    for _ in range(11):
        state = control.update(state, bad)
        scales.append(state.scale)
    assert scales[:6] == [0.25] * 5 + [scales[5]]
    assert state.alarms <= 3


@given(anything)
def test_alarms_are_the_same_on_floats_and_on_vectors(losses):
    control = Control(Features(window=2), alarm=2.0, warmup=3)
    ours, theirs = control.init(), lift(control.init(), np.zeros(2))
    for loss in losses:
        ours, theirs = control.update(ours, loss), control.update(theirs, np.array([loss, 1.0]))
        assert (theirs.scale[0], theirs.alarms[0]) == (ours.scale, ours.alarms)
        assert (theirs.scale[1], theirs.alarms[1])[1:] == (0,)


def test_a_control_is_a_policy_like_others():
    control = Control(schedule=Cosine(steps=10))
    for policy in (Clip(control, max_scale=0.5), Warmup(control, steps=2), Every(control, steps=2)):
        state = policy.init()
        for loss in (3.0, 2.0, nan, 1.0):
            state = policy.update(state, loss)
        assert 0.0 <= state.scale <= 1.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rise": 1.0}, "rise must be above 1"),
        ({"cut": 0.5}, "cut must be finite and 1 or more"),
        ({"first": (1, 0)}, "first must be a whole number"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"alarm": 1.0}, "alarm must be above 1"),
        ({"rescue": 1.0}, "rescue must be above 1"),
        ({"warmup": -1}, "warmup must be a whole number"),
        ({"begin": 0.0}, "begin must be above 0"),
        ({"settle": 0}, "settle must be a whole number"),
    ],
)
def test_controls_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Control(**wrong)


def test_a_control_can_be_compiled_by_jax():
    jax = pytest.importorskip("jax")
    sees, schedule = Features(window=3, tier="gradient"), WarmupStableDecay(steps=20)
    control = Control(sees, schedule=schedule, steps=20, alarm=2.0, warmup=5, settle=2)
    losses = jax.numpy.asarray([[3.0 * 0.9**step, nan if step == 4 else 2.0] for step in range(20)])

    def step(state, loss):
        state = control.update(state, loss, alignment=0.5, relative_step=0.01)
        return control.act(state, 0.25), control.view(state)

    start = lift(control.init(), losses[0])
    _, compiled = jax.lax.scan(step, start, losses)
    state, views = lift(control.init(), np.zeros(2, np.float32)), []
    for loss in np.array(losses):
        state, view = step(state, loss)
        views.append(view)
    np.testing.assert_allclose(compiled, views, rtol=1e-3, atol=1e-3)
