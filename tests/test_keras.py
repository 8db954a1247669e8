"""Policies as Keras callbacks, with real models on the backend that this process has, and all of it again on the other."""

import csv
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from strategies import LEARNED
from surefoot import Cosine, Every, Greedy, Hypergradient, Learned, Plateau, Step, Warmup, schedule
from surefoot.epoch_file import EpochFile
from surefoot.keras import GreedyLR, PolicyCallback

# Keras's own, where it copies PyTorch's tensors for NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

BACKEND = keras.backend.backend()
OTHER = {"torch": "jax", "jax": "torch"}[BACKEND]
DIGITS = load_digits()
X, Y = (DIGITS.data / 16.0).astype("float32"), DIGITS.target
FEW = X[:250], Y[:250]  # Three batches of 100, the last one half as large.
QUICK = Greedy(factor=0.5, patience=0, window=1)


class Seen(NamedTuple):
    scale: float
    inner: object
    losses: tuple = ()


@dataclass(frozen=True)
class Noting:
    """A policy that keeps what it was told."""

    policy: object = Step(milestones=())

    def init(self):
        return Seen(self.policy.init().scale, self.policy.init())

    def update(self, state, loss):
        inner = self.policy.update(state.inner, loss)
        return Seen(inner.scale, inner, (*state.losses, loss))


class Rates(keras.callbacks.Callback):
    """The rate of every batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


class Interrupt(keras.callbacks.Callback):
    """What a power cut does."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Matrices are small here, and PyTorch's threads would only wait for one another."""
    if BACKEND == "jax":
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def classifier(optimizer=None, **settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizer or keras.optimizers.SGD(0.125), **{"loss": loss, "metrics": ["accuracy"], "jit_compile": False, **settings}
    )
    return model


def fit(model, *callbacks, data=FEW, epochs=2, **settings):
    settings = {"shuffle": False, "verbose": 0, "batch_size": 100, **settings}
    return model.fit(*data, epochs=epochs, callbacks=list(callbacks), **settings).history


def test_a_policy_is_told_the_loss_of_every_batch_and_of_a_small_last_one():
    model, callback = classifier(keras.optimizers.SGD(0.0)), PolicyCallback(Noting())
    fit(model, callback)
    losses = [model.evaluate(X[at : min(at + 100, 250)], Y[at : min(at + 100, 250)], verbose=0)[0] for at in (0, 100, 200)]
    np.testing.assert_allclose(callback.state.losses, 2 * losses, rtol=1e-5)


def test_a_batch_is_trained_at_the_base_rate_times_the_scale():
    policy, rates = Warmup(QUICK, steps=2, start=0.5), Rates()
    callback = PolicyCallback(Noting(policy))
    fit(classifier(), callback, rates)
    scales = [state.scale for state in schedule(policy, callback.state.losses)]
    np.testing.assert_allclose(rates.seen, [0.125 * scale for scale in scales[:-1]], rtol=1e-6)


def test_a_model_learns_and_its_logs_have_rate_and_scale(tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "logs.csv")
    model = classifier(keras.optimizers.Adam(0.005), jit_compile=BACKEND == "jax")
    history = fit(model, GreedyLR(patience=3, window=4), logger, data=(X, Y), epochs=5)
    assert history["accuracy"][-1] > 0.8
    assert len(set(history["scale"])) > 3
    np.testing.assert_allclose(history["learning_rate"], 0.005 * np.array(history["scale"]), rtol=1e-6)
    with (tmp_path / "logs.csv").open() as file:
        assert [float(row["scale"]) for row in csv.DictReader(file)] == history["scale"]


@pytest.mark.skipif(BACKEND == "torch", reason="compiling Keras takes PyTorch a minute")
def test_the_rate_changes_under_jit_without_another_compilation():
    traces = []

    def loss(y, predicted):
        traces.append(1)
        return keras.losses.sparse_categorical_crossentropy(y, predicted, from_logits=True)

    model, callback = classifier(loss=loss, metrics=None, jit_compile=True), PolicyCallback(Step(milestones=(3, 5), factor=0.5))
    fit(model, callback, data=(X[:200], Y[:200]), epochs=1)
    before = len(traces)
    history = fit(model, callback, data=(X[:200], Y[:200]), epochs=2)
    assert history["learning_rate"] == [0.0625, 0.03125]
    assert len(traces) == before


def test_the_rate_inside_a_loss_scale_changes():
    model = classifier(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5)))
    assert fit(model, PolicyCallback(Step(milestones=(4,), factor=0.5)))["learning_rate"] == [0.5, 0.25]


def test_several_optimizers_keep_the_ratio_of_their_rates():
    fast, slow = keras.optimizers.SGD(0.5, name="fast"), keras.optimizers.SGD(0.125, name="slow")
    both = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(fast, {".*bias": slow}))
    history = fit(classifier(both), PolicyCallback(Step(milestones=(4,), factor=0.5)))
    assert (history["learning_rate_fast"], history["learning_rate_slow"]) == ([0.5, 0.25], [0.125, 0.0625])


def test_a_metric_of_the_epoch_counts_in_its_own_direction():
    callback = PolicyCallback(Noting(), "val_accuracy")
    history = fit(classifier(), callback, validation_data=FEW, epochs=3)
    assert callback.every == "epoch"
    assert [-loss for loss in callback.state.losses] == history["val_accuracy"]


def test_an_epoch_is_logged_with_the_rate_that_it_was_trained_at():
    rates = Rates()
    history = fit(classifier(), PolicyCallback(Step(milestones=(1, 2), factor=0.5), every="epoch"), rates, epochs=3)
    assert history["learning_rate"] == rates.seen[::3] == [0.125, 0.0625, 0.03125]


@pytest.mark.skipif(BACKEND == "torch", reason="Keras refuses steps_per_execution on PyTorch")
def test_an_update_is_told_the_mean_loss_of_an_execution():
    callback = PolicyCallback(Noting())
    history = fit(classifier(steps_per_execution=2), callback, epochs=1)
    together, last = callback.state.losses
    np.testing.assert_allclose((200 * together + 50 * last) / 250, history["loss"], rtol=1e-6)


def poisoned(y, predicted):
    """A loss that is not finite where the second column says so, and whose gradient is."""
    return keras.ops.mean(keras.ops.square(predicted - y[:, :1]), axis=-1) + y[:, 1]


def regression(poison):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), loss=poisoned)
    callback = PolicyCallback(Noting())
    y = np.stack([np.zeros(250), np.repeat([*poison, 0.0], [100, 100, 50, 0])], axis=1).astype("float32")
    return fit(model, callback, data=(X[:250], y), epochs=1)["loss"][0], callback.state.losses


def test_a_loss_that_is_not_finite_does_not_hide_those_after_it():
    epoch, losses = regression([0.0, inf, 0.0])
    _, clean = regression([0.0, 0.0, 0.0])
    assert losses[1] == inf
    np.testing.assert_allclose([losses[0], losses[2]], [clean[0], clean[2]], rtol=1e-6)
    assert epoch == pytest.approx((2.0 * clean[0] + clean[2]) / 3.0, rel=1e-6)


def test_a_loss_that_ends_an_epoch_is_in_its_mean_even_if_it_is_not_finite():
    epoch, losses = regression([0.0, 0.0, inf])
    assert epoch == losses[2] == inf


def test_every_change_is_told_and_logged(caplog):
    caplog.set_level(logging.INFO, "surefoot")
    callback, told = PolicyCallback(QUICK), []
    take_off = callback.on_change(told.append)
    model = classifier()
    fit(model, callback, epochs=1)
    take_off()
    fit(model, callback, epochs=1)
    assert [change.step for change in told] == [1, 2, 3]
    assert told[0][1:4] == (1.0, 2.0, "raised: 1 better in a row")
    assert told[0].rates == (0.25,)
    assert [record.surefoot for record in caplog.records[:3]] == told


ORDERS = {
    "before the backup": (["policy", "backup", "cut"], 2),
    "after it": (["backup", "policy", "cut"], 2),
    "cut between the two": (["policy", "cut", "backup"], 1),
}


@pytest.mark.parametrize(("order", "done"), ORDERS.values(), ids=ORDERS)
def test_a_training_that_was_cut_off_goes_on_exactly(tmp_path, order, done):
    def callbacks(folder, *names):
        made = {
            "policy": lambda: GreedyLR(patience=1, window=2, factor=0.8, path=folder / "policy.json"),
            "backup": lambda: keras.callbacks.BackupAndRestore(folder),
            "cut": lambda: Interrupt(epoch=1),
        }
        return [made[name]() for name in names]

    whole = fit(classifier(), *callbacks(tmp_path / "whole", "policy", "backup"), epochs=4)
    with pytest.raises(KeyboardInterrupt):
        fit(classifier(), *callbacks(tmp_path / "cut", *order), epochs=4)
    resumed = fit(classifier(), *callbacks(tmp_path / "cut", "policy", "backup"), epochs=4)
    assert resumed == {name: values[done:] for name, values in whole.items()}
    assert len(set(whole["scale"])) == 4
    assert not (tmp_path / "cut").exists()


def test_a_model_that_was_saved_goes_on_exactly_with_a_state_that_was(tmp_path):
    first, model = GreedyLR(patience=0, window=2), classifier(keras.optimizers.Adam(0.01))
    fit(model, first)
    model.save(tmp_path / "model.keras")
    state = json.loads(json.dumps(first.get_state()))
    whole = fit(model, first)
    second = GreedyLR(patience=0, window=2)
    second.set_state(state)
    assert fit(keras.models.load_model(tmp_path / "model.keras"), second) == whole
    assert whole["scale"][0] != 1.0


def test_another_model_begins_anew():
    callback = PolicyCallback(Step(milestones=(2,), factor=0.5))
    fit(classifier(), callback, epochs=1)
    assert fit(classifier(keras.optimizers.SGD(0.5)), callback, epochs=1)["learning_rate"] == [0.25]
    assert callback.get_state()["updates"] == 3


def test_a_file_of_other_epochs_is_refused(tmp_path):
    path = tmp_path / "policy.json"
    fit(classifier(), GreedyLR(path=path))
    with pytest.raises(ValueError, match="that epochs 1 and 2 begin with .*begins with epoch 0 .*initial_epoch=2.*delete"):
        fit(classifier(), GreedyLR(path=path))


@pytest.mark.parametrize("text", ["", "[]", '{"epochs": {"one": 1}}', '{"epochs": 3}'])
def test_a_file_that_is_another_is_refused(tmp_path, text):
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="policy.json is not a file of states by epochs .delete it"):
        EpochFile(path).epochs()


def test_a_snapshot_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="this is no snapshot of a PolicyCallback: it lacks bases, state, updates"):
        GreedyLR().set_state({})
    with pytest.raises(ValueError, match="taken with other settings"):
        GreedyLR(window=3).set_state(GreedyLR(window=4).get_state())
    with pytest.raises(ValueError, match="not that of a Plateau"):
        PolicyCallback(Plateau()).set_state(GreedyLR().get_state())


@pytest.mark.parametrize(
    "again", [lambda one: one, lambda _: PolicyCallback(Plateau(), every="epoch")], ids=["itself", "another"]
)
def test_a_second_callback_is_refused_and_the_first_stays_of_use(again):
    one, model = GreedyLR(), classifier()
    with pytest.raises(ValueError, match="set the rate alone, got two surefoot callbacks in one fit .leave one"):
        fit(model, one, again(one))
    fit(model, one, epochs=1)


def test_a_callback_that_is_not_in_a_list_is_refused():
    with pytest.raises(RuntimeError, match=r"not in a list.*callbacks=\[GreedyLR"):
        classifier().fit(*FEW, verbose=0, callbacks=GreedyLR())


@pytest.mark.parametrize("schedule", [keras.optimizers.schedules.CosineDecay(0.1, 10), lambda: 0.1], ids=["object", "callable"])
def test_a_schedule_as_the_rate_is_refused(schedule):
    with pytest.raises(TypeError, match="SGD must be made with a number, got a schedule"):
        fit(classifier(keras.optimizers.SGD(schedule)), GreedyLR())


def test_a_metric_that_is_not_there_is_said_once():
    with pytest.warns(UserWarning, match="epoch 0 has no val_loss among its logs .accuracy, loss, .*validation_data") as said:
        fit(classifier(), PolicyCallback(Plateau(), "val_loss"), epochs=2)
    assert sum("val_loss" in str(warning.message) for warning in said) == 1


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (lambda: PolicyCallback(Plateau(), "accuracy", every="batch"), ValueError, 'accuracy is known once an epoch.*"epoch"'),
        (lambda: PolicyCallback(Plateau(), every="step"), ValueError, "every must be one of 'batch', 'epoch'"),
        (lambda: PolicyCallback(Plateau(), mode="up"), ValueError, "mode must be one of 'auto', 'min', 'max'"),
        (lambda: PolicyCallback(Plateau(), "goodness"), ValueError, 'higher goodness is better cannot be told.*mode="min"'),
        (lambda: PolicyCallback(Plateau(), "acc", mode="min"), ValueError, "higher values of acc are better.*leave it out"),
        (lambda: PolicyCallback(Plateau(mode="max")), ValueError, "takes a higher loss for better"),
        (lambda: PolicyCallback(Plateau), TypeError, "policy must be a policy.*call it to make one"),
        (lambda: PolicyCallback(Hypergradient()), ValueError, "must be told the signal `alignment`"),
        (lambda: GreedyLR(min_lr=1e-5), TypeError, "min_lr and max_lr are absolute.*min_scale"),
        (lambda: GreedyLR(patience=-1), ValueError, "patience must be a whole number"),
    ],
)
def test_wrong_settings_are_refused(wrong, kind, message):
    with pytest.raises(kind, match=message):
        wrong()


@pytest.mark.parametrize(("missing", "message"), [("keras", r"needs keras.*surefoot\[keras\]"), (None, "set KERAS_BACKEND")])
def test_without_keras_or_its_backend_the_remedy_is_named(monkeypatch, missing, message):
    class Finder:
        """No package but Keras, which asks for TensorFlow in vain."""

        def find_spec(self, name, path=None, target=None):
            if name == "keras":
                raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.delitem(sys.modules, "surefoot.keras")
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    else:
        monkeypatch.delitem(sys.modules, "keras")
        monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(ImportError, match=message):
        __import__("surefoot.keras")


@pytest.mark.parametrize(
    "policy", [Cosine(steps=6), Every(QUICK, steps=2), Learned(LEARNED[0], steps=6)], ids=lambda p: type(p).__name__
)
def test_any_policy_sets_the_rate(policy):
    callback = PolicyCallback(policy)
    history = fit(classifier(), callback)
    assert history["learning_rate"][-1] == pytest.approx(0.125 * callback.state.scale, rel=1e-6)


@pytest.mark.skipif("SUREFOOT_OTHER_BACKEND" in os.environ, reason="this is the other backend")
def test_it_is_all_the_same_on_the_other_backend():
    environment = {**os.environ, "KERAS_BACKEND": OTHER, "SUREFOOT_OTHER_BACKEND": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
