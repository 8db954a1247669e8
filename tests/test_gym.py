"""The environments keep the contracts of Gymnasium and stable-baselines3, and are the loop that policies are deployed in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from quadratic import EDGE, Quadratic
from surefoot import Cosine, WarmupStableDecay, train
from surefoot.arithmetic import choose
from surefoot.episodes import Episodes
from surefoot.features import Features
from surefoot.tasks import networks, random_factorisations, tasks

gymnasium = pytest.importorskip("gymnasium")
from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from surefoot.gym import NMFVectorEnv, TrainingEnv, TrainingVectorEnv  # noqa: E402

MODES = [mode.value for mode in AutoresetMode]
HOT = (4.0, 40.0)
"""Starting rates from a little below the edge of the quadratic to far above it: some runs diverge and some do not."""


def quadratic(**settings):
    return TrainingEnv(Quadratic(), **{"tier": "gradient", "bound": True} | settings)


def quadratics(num_envs, **settings):
    return TrainingVectorEnv(num_envs, Quadratic(), **{"tier": "gradient", "bound": True} | settings)


def choices(count, slots=None, seed=0):
    shape = (count, 1) if slots is None else (count, slots, 1)
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype(np.float32)


def episode(env, actions, seed=0):
    """Everything that one episode shows."""
    seen = [env.reset(seed=seed)]
    for action in actions:
        seen.append(env.step(action))
        if np.any(seen[-1][2]) or np.any(seen[-1][3]):
            break
    return seen


# --- Contracts


@pytest.mark.parametrize("name", ["surefoot/NMF-v0", "surefoot/Network-v0"])
def test_gymnasium_accepts_the_environments(name):
    check_env(gymnasium.make(name, steps=30).unwrapped)


@pytest.mark.parametrize("settings", [{}, {"budget": False}, {"reward": "final"}, {"schedule": Cosine}, {"start": HOT}])
def test_gymnasium_accepts_every_setting(settings):
    check_env(quadratic(**settings), skip_render_check=True)


@pytest.mark.parametrize("name", ["surefoot/NMF-v0", "surefoot/Network-v0"])
def test_stable_baselines_accepts_the_environments(name):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(gymnasium.make(name, steps=30).unwrapped)


@pytest.mark.parametrize("mode", MODES)
def test_a_vector_of_slots_is_what_gymnasium_makes_of_single_environments(mode):
    slots, settings = 5, {"start": HOT, "steps": 23}
    ours = quadratics(slots, autoreset_mode=mode, **settings)
    theirs = SyncVectorEnv([lambda: quadratic(**settings)] * slots, autoreset_mode=AutoresetMode(mode))
    same(ours.reset(seed=3), theirs.reset(seed=3))
    ended = 0
    for actions in choices(40, slots):
        answer = ours.step(actions)
        same(answer, theirs.step(actions))
        ends = answer[2] | answer[3]
        ended += ends.sum()
        if mode == "Disabled" and ends.any():
            same(*(envs.reset(options={"reset_mask": ends.copy()}) for envs in (ours, theirs)))
    assert ended > 3 * slots


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours[:-1], theirs[:-1], strict=True):
        np.testing.assert_array_equal(mine, other)
        assert mine.dtype == other.dtype
    same_infos(ours[-1], theirs[-1])


def same_infos(ours, theirs):
    assert set(ours) == set(theirs)
    for name in theirs:
        if isinstance(theirs[name], dict):
            same_infos(ours[name], theirs[name])
            continue
        where = theirs[name] if name.startswith("_") else theirs[f"_{name}"]
        for slot in np.flatnonzero(where):
            np.testing.assert_array_equal(ours[name][slot], theirs[name][slot])
        if name.startswith("_"):
            np.testing.assert_array_equal(ours[name], where)


@pytest.mark.parametrize("make", [random_factorisations, lambda: networks(["wine-mlp"])[0]], ids=["nmf", "network"])
def test_an_environment_is_a_vector_of_one_slot(make):
    actions = choices(9)
    one = episode(TrainingEnv(make(), steps=40), actions)
    many = episode(TrainingVectorEnv(1, make(), steps=40), actions[:, None])
    for alone, slot in zip(one, many, strict=True):
        np.testing.assert_array_equal(alone[0], slot[0][0])
        assert alone[1:-1] == tuple(part[0] for part in slot[1:-1])


@pytest.mark.parametrize("make", [random_factorisations, lambda: networks(["wine-mlp"])[0]], ids=["nmf", "network"])
def test_a_slot_is_the_environment_of_its_seed(make):
    actions, settings = choices(9, 4), {"start": (0.1, 1.0)}
    many = episode(TrainingVectorEnv(4, make(), **settings), actions, seed=5)
    for slot in range(4):
        one = episode(TrainingEnv(make(), **settings), actions[:, slot], seed=5 + slot)
        for alone, beside in zip(one, many, strict=True):
            np.testing.assert_allclose(alone[0], beside[0][slot], rtol=1e-3, atol=1e-3)


def test_the_same_seed_is_the_same_episode():
    first, again, other = (episode(quadratic(), choices(9), seed) for seed in (1, 1, 2))
    assert repr(first) == repr(again) != repr(other)


def test_gymnasium_makes_vectors_by_name():
    envs = gymnasium.make_vec("surefoot/NMF-v0", num_envs=3, steps=20, autoreset_mode="SameStep")
    assert isinstance(envs, NMFVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.reset(seed=0)[0] in envs.observation_space


# --- What is trained is what runs


@dataclass(frozen=True)
class Seated:
    """A policy in which somebody sits in the chair: a fixed perceptron of the view."""

    control: Any

    def init(self):
        return self._decide(self.control.init())

    def update(self, state, loss, **signals):
        state = self.control.update(state, loss, **signals)
        return choose(self.control.due(state), lambda: self._decide(state), state)

    def _decide(self, state):
        return self.control.act(state, float(decision(np.float32(self.control.view(state)))[0]))


def decision(view):
    return np.tanh(np.random.default_rng(0).standard_normal((1, len(view))).astype(np.float32) @ view)


@pytest.mark.parametrize("problem", [Quadratic(), random_factorisations(noise=0.1, steps=60)], ids=lambda made: made.name)
@pytest.mark.parametrize("schedule", [None, WarmupStableDecay])
def test_a_policy_sees_and_does_the_same_in_the_environment_and_in_a_training(problem, schedule):
    settings = {"tier": "gradient", "bound": True, "schedule": schedule}
    env = TrainingEnv(problem, **settings)
    observation, _ = env.reset(seed=4)
    seen, is_over = [env.episodes.view()[0]], False
    while not is_over:
        observation, *_, terminated, truncated, _ = env.step(decision(observation))
        seen.append(env.episodes.view()[0])
        is_over = terminated or truncated

    (task,) = tasks([problem], **settings)
    seed = int(gymnasium.utils.seeding.np_random(4)[0].integers(2**31))
    watched = Watched(Seated(task.control))
    rows = list(train(problem, watched, base=task.rate(seed), seed=seed))
    assert rows[-1].step == problem.steps - 1
    assert rows[-1].rate != rows[0].rate
    difference = np.array(seen) - np.array(watched.views)
    assert difference.dtype == np.float64
    assert np.abs(difference).max() == 0.0


@dataclass(frozen=True)
class Watched:
    """A seated policy, and a list of what it saw when it decided, and at the end."""

    policy: Seated

    def __post_init__(self):
        object.__setattr__(self, "views", [])

    def init(self):
        self.views.append(self.policy.control.view(self.policy.control.init()))
        return self.policy.init()

    def update(self, state, loss, **signals):
        control = self.policy.control
        after = control.update(state, loss, **signals)
        if control.due(after) or after.step == control.steps:
            self.views.append(control.view(after))
        return self.policy.update(state, loss, **signals)


# --- Episodes


def test_a_silent_agent_is_the_schedule():
    env = quadratic(schedule=WarmupStableDecay)
    _, infos = env.reset(seed=0)
    start = infos["rate"] / WarmupStableDecay(steps=43).at(0)
    for _, _, _, _, infos in episode(env, np.zeros((20, 1)))[1:]:
        assert infos["rate"] == pytest.approx(start * WarmupStableDecay(steps=43).at(infos["steps"]))


def test_the_first_windows_can_be_short():
    env = quadratic(first=(1, 2), window=10, steps=30)
    assert [seen[-1]["steps"] for seen in episode(env, choices(9))] == [0, 1, 3, 13, 23, 30]


def test_an_action_multiplies_the_rate():
    env = quadratic(rise=2.0, cut=8.0)
    before = env.reset(seed=0)[1]["rate"]
    assert env.step(np.ones(1, np.float32))[-1]["rate"] == pytest.approx(2.0 * before)
    assert env.step(-np.ones(1, np.float32))[-1]["rate"] == pytest.approx(before / 4.0)


def test_starting_rates_are_drawn_evenly_in_their_logarithm():
    (task,) = tasks([Quadratic()], start=(0.01, 100.0))
    drawn = np.log10([task.rate(seed) / task.fleet.base for seed in range(400)])
    assert drawn.min() > -2.0
    assert drawn.max() < 2.0
    assert np.histogram(drawn, 4, (-2.0, 2.0))[0].min() > 75


def test_training_rewards_add_up_to_the_fall_of_the_training_loss():
    env = quadratic(start=(1.0, 1.0), worst=1e9)
    seen = episode(env, np.zeros((20, 1)))[1:]
    assert sum(step[1] for step in seen) == pytest.approx(np.log(seen[0][-1]["loss"]) - np.log(seen[-1][-1]["loss"]))


@pytest.mark.parametrize("actions", [np.zeros((20, 1)), choices(20)])
def test_held_out_rewards_add_up_to_the_final_one(actions):
    dense, final = (episode(quadratic(start=(0.5, 0.5), reward=name), actions) for name in ("held-out", "final"))
    assert [step[1] for step in final[1:-1]] == [0.0] * (len(final) - 2)
    assert final[-1][1] == pytest.approx(sum(step[1] for step in dense[1:]))
    assert any(before[1] != after[1] for before, after in pairwise(dense[1:]))


def test_a_run_that_diverges_is_terminated_and_costs_three():
    *_, (_, reward, terminated, truncated, infos) = episode(quadratic(start=(50.0, 50.0)), np.ones((20, 1)))
    assert (reward, terminated, truncated) == (-3.0, True, False)
    assert infos["steps"] < 43


@pytest.mark.parametrize("mode", MODES[:2])
@pytest.mark.parametrize(
    "make",
    [Quadratic, lambda: random_factorisations(rates="plain"), lambda: networks(["wine-mlp"])[0]],
    ids=["toy", "nmf", "net"],
)
def test_a_run_that_diverges_leaves_its_neighbours_alone(make, mode):
    """Slot 1 is driven up and away in one of two copies; whatever becomes of it, the others show the same to the last bit."""
    calm, wild = (TrainingVectorEnv(3, make(), steps=60, autoreset_mode=mode, start=(0.1, 0.1)) for _ in range(2))
    for envs in (calm, wild):
        envs.reset(seed=0)
        envs.groups[0].episodes.rate[1] *= 1.0 if envs is calm else 1e6
    others, was_over = [0, 2], False
    for actions in 0.1 * choices(12, 3):
        expected, shown = calm.step(actions), wild.step(actions)
        was_over |= bool(shown[2][1]) and not expected[2][1]
        for one, other in zip(expected[:-1], shown[:-1], strict=True):
            np.testing.assert_array_equal(one[others], other[others])
    assert was_over


def test_a_known_budget_ends_in_termination_and_an_unknown_one_in_truncation():
    cool = {"start": (0.5, 0.5)}
    known, unknown = (episode(quadratic(budget=budget, **cool), np.zeros((20, 1)))[-1] for budget in (True, False))
    assert known[2:4] == (True, False)
    assert unknown[2:4] == (False, True)
    assert known[0][:2].tolist() == [1.0, 1.0]
    assert unknown[0][:2].tolist() == [0.0, 0.0]


def test_slots_are_dealt_out_to_problems_in_turn():
    problems = [Quadratic(steps=13), Quadratic(steps=23, base=EDGE / 50.0)]
    envs = TrainingVectorEnv(5, problems, start=(1.0, 1.0))
    _, infos = envs.reset(seed=0)
    np.testing.assert_allclose(infos["rate"], [EDGE / 5.0, EDGE / 50.0, EDGE / 5.0, EDGE / 50.0, EDGE / 5.0])
    ends = [envs.step(np.zeros((5, 1)))[2].tolist() for _ in range(4)]
    assert ends[2:] == [[True, False, True, False, True], [False, True, False, True, False]]


def test_tasks_that_differ_share_the_slots_and_each_goes_its_own_way():
    every = [
        tasks([Quadratic()], steps=20, window=5, first=())[0],
        tasks([Quadratic()], steps=12, budget=False, window=5, first=(), reward="held-out", start=(1.0, 2.0))[0],
    ]
    mixed = TrainingVectorEnv.of_tasks([(every[0], 2), (every[1], 3)], autoreset_mode="SameStep")
    alone = [
        TrainingVectorEnv.of_tasks([(task, slots)], autoreset_mode="SameStep")
        for task, slots in zip(every, (2, 3), strict=True)
    ]
    seeds, actions = [5, 6, 7, 8, 9], choices(8, 5)
    together = [mixed.reset(seed=seeds)[0], *(mixed.step(action)[:4] for action in actions)]
    for envs, own in zip(alone, (slice(0, 2), slice(2, 5)), strict=True):
        apart = [envs.reset(seed=seeds[own])[0], *(envs.step(action[own])[:4] for action in actions)]
        np.testing.assert_array_equal(together[0][own], apart[0])
        for one, other in zip(together[1:], apart[1:], strict=True):
            for part, same in zip(one, other, strict=True):
                np.testing.assert_array_equal(part[own], same)


def test_tasks_that_show_different_things_are_refused():
    (seen,), (other,) = tasks([Quadratic()]), tasks([Quadratic()], tier="gradient")
    with pytest.raises(
        ValueError, match="all tasks must show the same features: quadratic shows progress, .* alignment, reach"
    ):
        TrainingVectorEnv.of_tasks([(seen, 1), (other, 1)])
    with pytest.raises(ValueError, match="dealt must hold one task or more, got none"):
        TrainingVectorEnv.of_tasks([])


def test_episodes_wait_for_nobody():
    """Asleep, an episode stays as it is, although its neighbour goes on."""
    (task,) = tasks([Quadratic()], first=())
    alone, beside = Episodes(task, 1), Episodes(task, 2)
    alone.begin([0], [1])
    beside.begin([0, 1], [1, 2])
    beside.advance(np.zeros(2), np.array([False, True]))
    alone.advance(np.zeros(1), np.array([True]))
    beside.advance(np.zeros(2), np.array([True, True]))
    np.testing.assert_array_equal(alone.view()[0], beside.view()[0])


# --- Mistakes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start": (0.0, 1.0)}, "start must be above 0"),
        ({"start": (2.0, 1.0)}, "no number must be below the one before"),
        ({"reward": "loss"}, "reward must be one of"),
        ({"steps": 0}, "steps must be a whole number, 1 or more"),
        ({"worst": 0.5}, "worst must be finite and 1 or more"),
        ({"window": 0}, "window must be a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        quadratic(**wrong)


def test_there_must_be_a_slot_for_every_problem():
    with pytest.raises(ValueError, match="num_envs must be a whole number, 2 or more, got 1"):
        TrainingVectorEnv(1, [Quadratic(), Quadratic()])
    with pytest.raises(ValueError, match="one problem or more, got none"):
        TrainingVectorEnv(1, [])


@pytest.mark.parametrize("actions", [np.zeros((3, 1)), np.zeros(2), np.full((2, 1), np.nan)])
def test_actions_of_the_wrong_shape_or_without_a_value_are_refused(actions):
    envs = quadratics(2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must be finite numbers of the shape \(2, 1\)"):
        envs.step(actions)


@pytest.mark.parametrize("wrong", [{"tier": "gradient"}, {"bound": True}])
def test_a_view_of_what_is_not_measured_is_refused(wrong):
    env = TrainingEnv(networks(["wine-mlp"])[0], **wrong)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="what is in view has to be measured"):
        env.step(np.zeros(1))


def test_a_step_before_a_reset_is_refused():
    for env, action in ((quadratic(), np.zeros(1)), (quadratics(2), np.zeros((2, 1)))):
        with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
            env.step(action)


@pytest.mark.parametrize("mask", [np.zeros(2, bool), np.ones(3, bool), np.ones(2)])
def test_a_reset_mask_must_be_truth_values(mask):
    envs = quadratics(2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask must be a vector of 2 truth values"):
        envs.reset(options={"reset_mask": mask})


# --- stable-baselines3


def test_stable_baselines_sees_what_it_would_see_of_single_environments():
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    from surefoot.sb3 import FleetVecEnv

    settings = {"start": HOT, "steps": 23, "budget": False}
    ours = FleetVecEnv(quadratics(4, autoreset_mode="SameStep", **settings))
    theirs = vec_env.DummyVecEnv([lambda: quadratic(**settings)] * 4)
    for envs in (ours, theirs):
        envs.seed(7)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert ours.reset_infos == theirs.reset_infos
    ended = 0
    for actions in choices(30, 4):
        mine, other = ours.step(actions), theirs.step(actions)
        for one, two in zip(mine[:3], other[:3], strict=True):
            np.testing.assert_array_equal(one, two)
            assert one.dtype == two.dtype
        assert repr(mine[3]) == repr(other[3])
        assert ours.reset_infos == theirs.reset_infos
        ended += mine[2].sum()
    assert ended > 8


def test_stable_baselines_needs_the_same_step_mode():
    sb3 = pytest.importorskip("surefoot.sb3")
    with pytest.raises(ValueError, match='pass autoreset_mode="SameStep"'):
        sb3.FleetVecEnv(quadratics(2))


def test_an_agent_learns_that_the_rate_is_far_too_low():
    ppo = pytest.importorskip("stable_baselines3").PPO
    from surefoot.sb3 import FleetVecEnv

    envs = FleetVecEnv(quadratics(16, autoreset_mode="SameStep", start=(0.01, 0.02)))
    agent = ppo("MlpPolicy", envs, n_steps=7, batch_size=112, n_epochs=10, gamma=0.9, learning_rate=3e-3, seed=0, device="cpu")
    agent.learn(16 * 7 * 12)
    action, _ = agent.predict(quadratic(start=(0.01, 0.01)).reset(seed=99)[0], deterministic=True)
    assert action[0] > 0.2


def test_every_feature_moves_in_a_factorisation():
    seen = np.array(
        [step[0] for step in episode(TrainingEnv(random_factorisations(), tier="gradient", bound=True), choices(60))]
    )
    names = np.array(Features(tier="gradient", bound=True).names)
    assert names[np.ptp(seen, axis=0) == 0.0].tolist() == ["limited"]


def test_a_network_can_be_asked_for_its_gradients():
    fleet = networks(["wine-mlp"])[0].fleet(gradients=True)
    seen = np.array([step[0] for step in episode(TrainingEnv(fleet, tier="gradient", start=(1.0, 1.0)), choices(30))])
    names = list(Features(tier="gradient").names)
    assert np.ptp(seen[:, names.index("alignment")]) > 0.0
    assert np.ptp(seen[:, names.index("reach")]) > 0.0


def test_features_of_the_default_environment_are_documented():
    from surefoot.gym import NMFEnv

    for name in Features(tier="gradient", bound=True).names:
        assert f"`{name}`" in NMFEnv.__doc__


def test_of_several_ranges_of_starting_rates_each_is_as_likely():
    (task,) = tasks([Quadratic()], start=(0.001, 1.0, 10.0))
    multiples = np.array([task.rate(seed) for seed in range(400)]) / task.fleet.base
    assert 0.4 < np.mean(multiples > 1.0) < 0.6
    assert 0.001 <= multiples.min() < 0.01
    assert 5.0 < multiples.max() <= 10.0


@pytest.mark.parametrize("start", [(0.1,), (0.1, 1.0, 0.5), (0.0, 1.0)])
def test_starting_rates_that_are_no_range_are_refused(start):
    with pytest.raises(ValueError, match="start must be"):
        tasks([Quadratic()], start=start)
