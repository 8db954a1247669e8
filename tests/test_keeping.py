"""A training that was cut goes on from its checkpoint as if nothing had happened, to the last bit."""

import json
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import strategies
from policy_files import made
from quadratic import Descent, Quadratic
from surefoot import Cosine, Greedy, Learned, Plateau, Then, Warmup, data, train, whole
from surefoot.catalogue import problem
from surefoot.contest.optimizers import OPTIMIZERS
from surefoot.contest.range_test import RangeTest
from surefoot.fleet import OneByOne
from surefoot.keeping import Keeper
from surefoot.loop import drive
from surefoot.networks import Network
from surefoot.nmf import Factorisation, Matrices
from surefoot.nmf.memory import per_run
from surefoot.packed import PackedError, pack, unpack
from surefoot.stacked import NetworkFleet

EVERY_OTHER = frozenset(range(0, 100, 2))
ALWAYS = {"seconds": 0.0, "share": 1.0}
"""A checkpoint after every step."""

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Kept(Quadratic):
    """The quadratic, whose runs can be saved."""

    def save(self, run):
        return {"x": run.x, "move": run.move, "random": run.random.bit_generator.state}

    def resume(self, seed, saved):
        run = Descent(saved["x"], saved["move"], np.random.default_rng())
        run.random.bit_generator.state = saved["random"]
        return run

    def held_out(self, run):
        with np.errstate(over="ignore"):
            return super().held_out(run)


def told(rows, evaluations):
    """Rows and evaluations as they are compared: to the last bit, and NaN is itself."""
    rows = [(row.step, np.asarray(row.loss).tobytes(), np.asarray(row.rate).tobytes()) for row in rows]
    return rows, [(step, np.asarray(loss).tobytes()) for step, loss in evaluations]


def gone(training, keeper, until=None):
    """What a training comes to, or what it had come to when it was cut before its step `until`."""
    rows, evaluations = [], []
    for row in training(evaluate=lambda step, loss: evaluations.append((step, loss)), keeper=keeper):
        rows.append(row)
        if row.step == until:
            break
    return told(rows, evaluations)


def checkpoints(training, path):
    """What it comes to, and the checkpoint before each of its steps but the first."""
    kept, rows, evaluations = {}, [], []
    keeper = Keeper(path, "this", **ALWAYS)
    for row in training(evaluate=lambda step, loss: evaluations.append((step, loss)), keeper=keeper):
        rows.append(row)
        if path.exists():
            kept[row.step] = path.read_bytes()
    return told(rows, evaluations), kept


def assert_goes_on(training, path, cuts=None):
    """It comes to the same with a keeper, without one, and after a cut before every step."""
    whole, kept = checkpoints(training, path)
    assert whole == gone(training, None)
    assert whole[1]
    assert set(kept) == {step for step, *_ in whole[0]} - {0}
    for step in cuts or kept:
        path.write_bytes(kept[step])
        keeper = Keeper(path, "this")
        assert gone(training, keeper) == whole
        assert keeper.before > 0.0


@settings(max_examples=30)
@given(policy=strategies.every | strategies.hypergradient, cut=st.integers(1, 42), seed=st.integers(0, 3))
def test_a_run_goes_on_under_any_policy(tmp_path_factory, policy, cut, seed):
    path = tmp_path_factory.mktemp("kept") / "run.safetensors"
    training = partial(train, Kept(), policy, seed=seed, evaluate_at=EVERY_OTHER)
    gone(training, Keeper(path, "this", **ALWAYS), until=cut)
    assert gone(training, Keeper(path, "this")) == gone(training, None)


@settings(max_examples=30)
@given(policies=st.lists(strategies.every, min_size=1, max_size=2), cut=st.integers(1, 42), wild=st.booleans())
def test_a_fleet_goes_on_under_any_policies(tmp_path_factory, policies, cut, wild):
    path = tmp_path_factory.mktemp("kept") / "fleet.safetensors"
    crews, bases = [(policy, 2) for policy in policies], np.full(2 * len(policies), 0.1)
    bases[0] = 1e30 if wild else 0.2
    training = partial(drive, OneByOne(Kept()), crews, bases, [0, 1] * len(crews), 43, evaluate_at=EVERY_OTHER)
    gone(training, Keeper(path, "this", **ALWAYS), until=cut)
    assert gone(training, Keeper(path, "this")) == gone(training, None)


def _normed():
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(36, 10)),
    )


def normed(optimizer="sgd", **settings):
    """A network with running statistics."""
    return Network("normed", optimizer, 0.01, 6, 16, data.digits, _normed, **settings)


@pytest.mark.parametrize("optimizer", ["sgd", "plain-sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_a_network_goes_on_under_any_optimizer_of_pytorch(optimizer, tmp_path):
    made_up = normed(optimizer, gradients=True)
    assert_goes_on(partial(train, made_up, Greedy(patience=0), evaluate_at=EVERY_OTHER), tmp_path / "run")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_network_goes_on_under_any_optimizer_of_the_contest(name, tmp_path):
    optimizer = OPTIMIZERS[name]
    made_up = replace(normed(), optimizer=name, made=optimizer.make, base=optimizer.rate)
    assert_goes_on(partial(train, made_up, Cosine(6), evaluate_at=EVERY_OTHER), tmp_path / "run", cuts=[1, 4])


@pytest.mark.parametrize(("name", "optimizer", "steps"), [("stdlib-gpt", "adam", 3), ("fashion-cnn", "sgd", 3)])
def test_large_networks_go_on(name, optimizer, steps, tmp_path):
    try:
        training = partial(train, problem(name, optimizer, steps=steps), Greedy(patience=0), evaluate_at=frozenset({2}))
        assert_goes_on(training, tmp_path / "run", cuts=[1])
    except FileNotFoundError:
        pytest.skip("its data are not here")


def test_the_learned_policy_that_sees_gradients_goes_on(tmp_path):
    policy = Learned(made(tmp_path, tier="gradient"), steps=8)
    wines = problem("wine-mlp", "adam", steps=8, gradients=True)
    assert_goes_on(partial(train, wines, policy, evaluate_at=EVERY_OTHER), tmp_path / "run")
    assert_goes_on(partial(train, wines, policy, seeds=[0, 1], evaluate_at=EVERY_OTHER), tmp_path / "fleet")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "momo-adam", "hypergradient-parameter-multiplicative-sgd"])
@pytest.mark.parametrize("engine", ["stacked", "traced"])
def test_a_fleet_of_networks_goes_on(engine, optimizer, tmp_path):
    known = OPTIMIZERS.get(optimizer)
    network = normed(optimizer, gradients=True, made=known and known.make)
    crews = [(Greedy(patience=0), 2), (Then(Plateau(patience=0), Cosine(4), after=3), 1), (Warmup(Cosine(4), 2), 2)]
    bases = np.array([0.1, 1e30, 0.1, 0.2, 0.01])
    fleet = NetworkFleet(network, engine=engine, at_once=3, gradients=True)
    training = partial(drive, fleet, crews, bases, [0, 1, 1, 2, 3], 6, evaluate_at=EVERY_OTHER)
    assert_goes_on(training, tmp_path / "fleet", cuts=[3] if engine == "traced" else None)


def test_a_fleet_goes_on_from_one_epoch_to_the_next(tmp_path):
    training = partial(train, problem("wine-mlp", steps=12, batch_size=40), Greedy(), seeds=range(3), evaluate_at=EVERY_OTHER)
    assert_goes_on(training, tmp_path / "fleet")


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("array", [None, partial(torch.as_tensor, dtype=torch.float32)])
def test_factorisations_go_on(noise, array, tmp_path):
    random = Factorisation("random", draw=Matrices(), rank=3, batch_size=16, steps=9, noise=noise, array=array)
    training = partial(train, random, Greedy(patience=0), evaluate_at=EVERY_OTHER)
    assert_goes_on(training, tmp_path / "run")
    assert_goes_on(partial(training, seeds=[0, 1], base=[0.1, 0.5]), tmp_path / "fleet")


def test_a_fleet_of_factorisations_in_pieces_goes_on(tmp_path):
    random = Factorisation("random", draw=Matrices(), rank=3, batch_size=16, steps=5, noise=0.1)
    kept, working = per_run(random)
    fleet = random.fleet(capacity=int((5 * kept + 2.5 * working) / 0.7))
    training = partial(drive, fleet, [(RangeTest(), 5)], np.full(5, 0.1), range(5), 5, evaluate_at=EVERY_OTHER)
    with pytest.warns(UserWarning, match="worked on 2 by 2"):
        assert_goes_on(training, tmp_path / "fleet")


def test_steps_that_were_made_are_not_made_again(tmp_path):
    counted = []

    class Counted(Kept):
        def step(self, run, rate):
            counted.append(rate)
            return super().step(run, rate)

    training = partial(train, Counted(), Greedy(), evaluate_at=EVERY_OTHER)
    gone(training, Keeper(tmp_path / "run", "this", **ALWAYS), until=20)
    gone(training, Keeper(tmp_path / "run", "this"))
    assert len(counted) == 43 + 1


def test_a_checkpoint_is_written_as_often_as_the_clock_says(tmp_path):
    now, written = [0.0], []
    keeper = Keeper(tmp_path / "run", "this", seconds=10.0, clock=lambda: now[0])
    for row in train(Kept(), Greedy(), keeper=keeper):
        now[0] += 3.0
        if (tmp_path / "run").exists():
            (tmp_path / "run").unlink()
            written.append(row.step)
    assert written == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]


def test_time_of_before_the_cut_is_counted(tmp_path):
    now = [0.0]

    def ticking():
        now[0] += 1.0
        return now[0]

    first = Keeper(tmp_path / "run", "this", **ALWAYS, clock=ticking)
    gone(partial(train, Kept(), Greedy()), first, until=5)
    second = Keeper(tmp_path / "run", "this")
    gone(partial(train, Kept(), Greedy()), second)
    assert 5.0 <= second.before <= now[0]


def _cut(kept):
    return kept[: len(kept) // 2]


def _turned(kept):
    return kept[:-3] + bytes([kept[-3] ^ 1]) + kept[-2:]


def _of_another_version(kept):
    return kept.replace(b'"format":"1"', b'"format":"0"')


def _of_another_shape(_kept):
    told = {"identity": "this", "seconds": 1.0, "way": (np.ones(3), np.ones(3), []), "where": ({"x": 1}, (1.0,))}
    return pack(told)


@pytest.mark.parametrize(
    "spoil", [_cut, _turned, _of_another_version, _of_another_shape, lambda _: b"", lambda _: b"\xff" * 99]
)
def test_a_checkpoint_that_is_no_good_is_begun_again_from(spoil, tmp_path):
    path = tmp_path / "run"
    training = partial(train, Kept(), Greedy(), evaluate_at=EVERY_OTHER)
    gone(training, Keeper(path, "this", **ALWAYS), until=20)
    path.write_bytes(spoil(path.read_bytes()))
    keeper = Keeper(path, "this")
    assert gone(training, keeper) == gone(training, None)
    assert keeper.before == 0.0


def test_the_checkpoint_of_another_training_is_left_alone(tmp_path):
    path = tmp_path / "run"
    gone(partial(train, Kept(), Greedy()), Keeper(path, "that", **ALWAYS), until=20)
    before = path.read_bytes()
    training = partial(train, Kept(), Greedy(), seed=1)
    assert gone(training, Keeper(path, "this")) == gone(training, None)
    assert path.read_bytes() == before


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    training = partial(train, Kept(), Greedy(), evaluate_at=EVERY_OTHER)
    keeper = Keeper(tmp_path / "absent" / "run", "this", **ALWAYS)
    assert gone(training, keeper) == gone(training, None)
    assert not list(tmp_path.iterdir())
    keeper.remove()


def test_a_problem_whose_runs_cannot_be_saved_is_trained_as_ever(tmp_path):
    for runs in ({}, {"seeds": [0, 1]}):
        training = partial(train, Quadratic(), Greedy(), evaluate_at=EVERY_OTHER, **runs)
        assert gone(training, Keeper(tmp_path / "run", "this", **ALWAYS)) == gone(training, None)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_when_a_keeper_has_removed_its_file(tmp_path):
    keeper = Keeper(tmp_path / "run", "this", **ALWAYS)
    gone(partial(train, Kept(), Greedy()), keeper, until=3)
    (tmp_path / ".run.123.abc").touch()  # As a process leaves it that is killed while it writes.
    keeper.remove()
    assert not list(tmp_path.iterdir())


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(plain)
def test_plain_data_come_back_as_they_were(held):
    assert repr(unpack(pack(held))) == repr(held)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u1", "?"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
def test_arrays_come_back_to_the_last_bit_and_in_the_same_order(dtype, axes):
    array = np.arange(24).reshape(2, 3, 4).transpose(axes).astype(dtype, order="K")
    back = unpack(pack([array, array[0, 0, 0], torch.from_numpy(array), np.zeros(())]))
    assert [type(one) for one in back] == [np.ndarray, type(array[0, 0, 0]), np.ndarray, np.ndarray]
    for one in back[::2]:
        np.testing.assert_array_equal(one, array)
        assert (one.dtype, one.strides) == (array.dtype, array.strides)
        assert one.flags.writeable


@pytest.mark.parametrize("value", [object(), {1, 2}, torch.zeros(2, dtype=torch.bfloat16), b"bytes"])
def test_what_cannot_be_packed_is_refused(value):
    with pytest.raises(TypeError):
        pack({"value": value})


def test_what_was_not_packed_is_refused():
    with pytest.raises(PackedError, match="nothing that was packed here"):
        unpack(json.dumps({"step": 1}).encode())


def test_checkpoints_take_no_more_than_their_share_of_the_time(tmp_path, monkeypatch):
    now, written = [0.0], []

    def slow(_path, _content):
        now[0] += 2.0
        written.append(now[0])

    monkeypatch.setattr(whole, "write", slow)
    keeper = Keeper(tmp_path / "run", "this", seconds=1.0, share=0.1, clock=lambda: now[0])
    for _ in train(Kept(), Greedy(), keeper=keeper):
        now[0] += 1.0
    assert np.diff(written).tolist() == [20.0, 20.0]


@pytest.mark.parametrize("setting", [{"seconds": -1.0}, {"share": 0.0}, {"share": 1.5}])
def test_a_keeper_that_makes_no_sense_is_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must"):
        Keeper("run", "this", **setting)
