"""A policy's file says what it is, comes back as it was written, and is believed in nothing that does not fit."""

import json
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from hashlib import sha256
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from policy_files import card, made, network
from surefoot import policy_file
from surefoot.features import Features
from surefoot.perceptron import Perceptron
from surefoot.policy_file import Card, PolicyFileError


@settings(max_examples=20)
@given(
    st.builds(Features, tier=st.sampled_from(["loss", "gradient"]), bound=st.booleans()),
    st.lists(st.integers(1, 9), max_size=2),
    st.sampled_from([1.5, 8.0, inf]),
    st.integers(0, 9),
)
def test_what_is_written_comes_back(tmp_path_factory, features, hidden, alarm, seed):
    path = tmp_path_factory.mktemp("policies") / "one"
    layers = (len(features.names), *hidden, 1)
    about = card(tier=features.tier, bound=features.bound, layers=layers, alarm=alarm)
    net = network(*about.layers, seed=seed)
    written = policy_file.write(path, net, about)
    for name in (path, f"{path}.json", f"{path}.safetensors"):
        again, read = policy_file.read(name)
        assert read == written
        for (weight, bias), (other, shift) in zip(again.layers, net.layers, strict=True):
            np.testing.assert_array_equal(weight, other)
            np.testing.assert_array_equal(bias, shift)


def test_the_same_policy_is_written_in_the_same_bytes(tmp_path):
    first, second = made(tmp_path, "first"), made(tmp_path, "second")
    for ending in (".json", ".safetensors"):
        assert Path(first).with_suffix(ending).read_bytes() == Path(second).with_suffix(ending).read_bytes()


def test_a_card_is_plain_json_and_names_the_checksum(tmp_path):
    path = Path(made(tmp_path, alarm=inf))
    data = json.loads(path.read_text("utf-8"))
    assert data["sha256"] == sha256(path.with_suffix(".safetensors").read_bytes()).hexdigest()
    assert (data["format"], data["alarm"]) == (1, None)


def test_only_the_two_files_are_left_behind(tmp_path):
    made(tmp_path)
    made(tmp_path, seed=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made-up.json", "made-up.safetensors"]


def test_a_disk_that_is_full_leaves_the_old_files(tmp_path, monkeypatch):
    path = made(tmp_path)
    before = policy_file.read(path)[1]

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        made(tmp_path, seed=1)
    monkeypatch.undo()
    assert policy_file.read(path)[1] == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_network_of_other_sizes_than_on_the_card_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"must have the sizes that its card names, \(11, 8, 1\), got \(11, 4, 1\)"):
        policy_file.write(tmp_path / "one", network(11, 4, 1), card())
    assert not list(tmp_path.iterdir())


def on_card(**changes):
    """A change of the card."""

    def spoil(path):
        data = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({name: value for name, value in (data | changes).items() if value != "leave out"}), "utf-8")

    return spoil


def of_text(text):
    return lambda path: path.write_text(text, "utf-8")


def of_weights(change):
    """A change of the weights, with a checksum that fits."""

    def spoil(path):
        weights = path.with_suffix(".safetensors")
        data = change(load(weights.read_bytes()))
        weights.write_bytes(data if isinstance(data, bytes) else save(data))
        on_card(sha256=sha256(weights.read_bytes()).hexdigest())(path)

    return spoil


def with_nan(tensors):
    tensors["0.weight"] = tensors["0.weight"].copy()
    tensors["0.weight"][0, 0] = nan
    return tensors


def flipped(path):
    weights = path.with_suffix(".safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))


def endless(ending):
    return lambda path: path.with_suffix(ending).write_bytes(b" " * 2_000_000)


SPOILT = {
    "no card": (Path.unlink, "json cannot be read: No such file or directory"),
    "no weights": (lambda path: path.with_suffix(".safetensors").unlink(), "safetensors cannot be read: No such file"),
    "a large card": (endless(".json"), "must not be larger than 1000000 bytes"),
    "large weights": (endless(".safetensors"), "must not be larger than 1000000 bytes"),
    "no JSON": (of_text("{"), "is no card of a learned policy: Expecting property name"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe"), "is no card of a learned policy: 'utf-8' codec"),
    "a list": (of_text("[]"), "a card must be an object with names and values, got a list"),
    "a deep hole": (of_text("[" * 100_000), "is no card of a learned policy: "),
    "not a number": (of_text('{"alarm": NaN}'), "NaN is no number of JSON"),
    "a foreign format": (on_card(format=2, more=1), "it has format 2, and this version of surefoot reads 1"),
    "an entry less": (on_card(rise="leave out"), "it lacks rise, and has nothing that no card has"),
    "an entry more": (on_card(code="import os"), "it lacks nothing, and has code that no card has"),
    "a number as name": (on_card(name=3), "name must be a str, got 3"),
    "a word as list": (on_card(inputs="level"), "inputs must be a list, got 'level'"),
    "a foreign feature": (on_card(inputs=["level", "mood"]), "knows no feature 'mood'; it knows progress, limited, "),
    "other features": (
        on_card(tier="gradient"),
        "the inputs of tier 'gradient' without the bound must be progress, .*alignment",
    ),
    "a foreign tier": (on_card(tier="hessian"), "tier must be one of 'loss', 'gradient', got 'hessian'"),
    "a wrong number of inputs": (
        on_card(layers=[12, 8, 1]),
        "layers must begin with the number of inputs, 11, and end with one",
    ),
    "two outputs": (on_card(layers=[11, 8, 2]), "and end with one output"),
    "half a neuron": (on_card(layers=[11, 0.5, 1]), "layers must be a whole number, got 0.5"),
    "a foreign schedule": (
        on_card(schedule={"is": "Learned", "name": "x"}),
        "schedule must be one of Constant, .*got 'Learned'",
    ),
    "a nameless schedule": (on_card(schedule={}), "schedule must be one of .*got None"),
    "a schedule's foreign setting": (on_card(schedule={"is": "Cosine", "speed": 2}), "unexpected keyword argument 'speed'"),
    "a rise of 1": (on_card(rise=1.0), "rise must be above 1"),
    "a window of 0": (on_card(window=0), "window must be a whole number, 1 or more, got 0"),
    "a flipped bit": (
        flipped,
        "must have the checksum that its card names, .* \\(it was damaged, or belongs to another card\\)",
    ),
    "no tensors": (of_weights(lambda _: b"no tensors"), "is no file of weights"),
    "a pickle": (of_weights(lambda _: pickle.dumps({"0.weight": 1})), "is no file of weights"),
    "other shapes": (on_card(layers=[11, 9, 1]), r"must hold weights of the shapes .*'0.weight': \(9, 11\).*got .*\(8, 11\)"),
    "a tensor more": (of_weights(lambda t: t | {"2.bias": np.zeros(1, "f4")}), "must hold weights of the shapes"),
    "NaN": (of_weights(with_nan), "holds weights that no policy has: weights must be finite, some of layer 0 are not"),
    "doubles": (
        of_weights(lambda t: {name: array.astype("f8") for name, array in t.items()}),
        "weights must be float32, got float64",
    ),
}


@pytest.mark.parametrize("damage", SPOILT)
def test_a_file_that_does_not_fit_is_refused_in_a_sentence(damage, tmp_path):
    spoil, sentence = SPOILT[damage]
    path = made(tmp_path)
    spoil(Path(path))
    with pytest.raises(PolicyFileError, match=sentence) as refused:
        policy_file.read(path)
    assert "\n" not in str(refused.value)


def test_a_name_that_nobody_has_is_answered_with_those_that_there_are():
    with pytest.raises(PolicyFileError, match="no learned policy is called 'nobody'; choose from .*, or name a file such as"):
        policy_file.read("nobody")


@pytest.mark.parametrize("name", policy_file.shipped())
def test_every_policy_that_comes_along_is_what_its_card_says(name):
    net, about = policy_file.read(name)
    assert about.name == name
    assert len(about.description) > 10
    assert about.training
    assert net.sizes == about.layers
    assert about == Card.from_json(about.to_json())


def test_a_card_can_be_changed_and_is_checked_again():
    with pytest.raises(ValueError, match="this version of surefoot knows no feature 'mood'"):
        replace(card(), inputs=("mood",))
    assert asdict(card())["layers"] == (11, 8, 1)


def test_without_a_budget_the_schedule_is_constant():
    assert repr(card().control(None).schedule) == "Constant(scale=1.0)"
    assert card().control(30).schedule.steps == card().control(30).steps == 30


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "at least one layer"),
        (((np.zeros((1, 2), "f4"), np.zeros(2, "f4")),), "must be \\(outputs, inputs\\)"),
        (((np.zeros((2, 2), "f4"), np.zeros(2, "f4")),), "one output"),
        (((np.zeros((2, 2), "f4"), np.zeros(2, "f4")), (np.zeros((1, 3), "f4"), np.zeros(1, "f4"))), "3 numbers follow on 2"),
        (((np.full((1, 2), inf, "f4"), np.zeros(1, "f4")),), "must be finite"),
        (((np.zeros((1, 2)), np.zeros(1)),), "must be float32"),
    ],
)
def test_layers_that_make_no_network_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        Perceptron(layers)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
def test_a_network_says_the_same_in_every_arithmetic(shape):
    import jax.numpy as jnp
    import torch

    net, views = network(4, 7, 5, 1), np.random.default_rng(0).normal(size=(4, *shape))
    expected = np.reshape([net(tuple(view)) for view in views.reshape(4, -1).T], shape)
    np.testing.assert_allclose(net(views), expected, rtol=1e-12)
    np.testing.assert_allclose(net(torch.tensor(views)).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(net(torch.tensor(views, dtype=torch.float32)).numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net(jnp.asarray(views)), expected, rtol=1e-4, atol=1e-6)
    assert net(views).shape == tuple(net(torch.tensor(views)).shape) == net(jnp.asarray(views)).shape == shape


def test_importing_surefoot_reads_no_policy():
    code = "import sys, surefoot; print([name for name in ('safetensors', 'surefoot.policy_file') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
