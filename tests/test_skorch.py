"""Policies in trainings by skorch."""

import copy
import pickle
import sys

import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint, EpochScoring, LoadInitState, TrainEndCheckpoint
from torch.utils.tensorboard import SummaryWriter

from digits import EAGER, digits, network
from surefoot import Greedy, schedule
from surefoot.skorch import PolicyCallback

BASE = 0.05

pytestmark = pytest.mark.usefixtures("one_thread")


class Noting(Callback):
    """The loss of every batch, and the rate that its step was made at."""

    def initialize(self):
        self.losses_, self.rates_ = [], []
        return self

    def on_batch_begin(self, net, training, **others):
        if training:
            self.rates_.append(net.optimizer_.param_groups[0]["lr"])

    def on_batch_end(self, net, training, loss, **others):
        if training:
            self.losses_.append(loss.item())


def net(*callbacks, epochs=4, **settings):
    """A classifier that makes 5 steps an epoch on the digits."""
    return NeuralNetClassifier(
        network,
        criterion=torch.nn.CrossEntropyLoss,
        lr=BASE,
        max_epochs=epochs,
        batch_size=16,
        callbacks=[("noting", Noting()), *callbacks],
        **{"verbose": 0, "optimizer__momentum": 0.9, **settings},
    )


def noted(trained):
    return dict(trained.callbacks_)["noting"]


def rates(losses, policy=EAGER):
    return [BASE * state.scale for state in schedule(policy, losses)]


def test_the_loss_of_every_batch_arrives():
    trained = net(PolicyCallback(EAGER)).fit(*digits())
    assert noted(trained).rates_ == rates(noted(trained).losses_)[:-1]
    assert len(set(noted(trained).rates_)) > 3


@pytest.mark.parametrize(("monitor", "sign"), [("valid_loss", 1), ("train_loss", 1), ("valid_acc", -1)])
def test_a_monitored_column_arrives_once_an_epoch_with_its_better_end_down(monitor, sign):
    policy = Greedy(factor=0.7, patience=0, window=1)
    trained = net(PolicyCallback(policy, monitor)).fit(*digits())
    expected = rates([sign * value for value in trained.history[:, monitor]], policy)
    assert noted(trained).rates_ == [rate for rate in expected[:-1] for _ in range(5)]
    assert len(set(expected)) > 1


def test_an_own_score_may_say_which_way_it_is_better():
    score = EpochScoring("accuracy", name="goodness", lower_is_better=False)
    policy = Greedy(factor=0.7, patience=0, window=1, mode="max")
    trained = net(score, PolicyCallback(policy, "goodness", greater_is_better=True)).fit(*digits())
    assert noted(trained).rates_[::5] == rates(trained.history[:, "goodness"], policy)[:-1]


def test_the_history_has_the_rate_of_every_epoch_and_the_reason_of_every_change():
    trained = net(PolicyCallback(EAGER)).fit(*digits())
    expected = rates(noted(trained).losses_)
    assert trained.history[:, "surefoot/rate"] == expected[5::5]
    batches = [row for epoch in trained.history for row in epoch["batches"] if "train_loss" in row]
    changed = [row for row, before, after in zip(batches, expected, expected[1:], strict=False) if before != after]
    assert [row for row in batches if "surefoot/reason" in row] == changed
    assert {row["surefoot/reason"].partition(":")[0] for row in changed} <= {"raised", "lowered"}
    assert trained.history[-1, "event_surefoot"] == [row for row in batches[15:] if row in changed][-1]["surefoot/reason"]


def test_the_printed_table_and_tensorboard_show_the_rate(tmp_path, capsys):
    from skorch.callbacks import TensorBoard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = net(PolicyCallback(EAGER), TensorBoard(SummaryWriter(tmp_path)), verbose=1).fit(*digits())
    assert "surefoot/rate" in capsys.readouterr().out
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    shown = [event.value for event in events.Scalars("surefoot/rate")]
    assert shown == pytest.approx(trained.history[:, "surefoot/rate"])


WAYS = {"batches": PolicyCallback(EAGER), "epochs": PolicyCallback(Greedy(factor=0.7, patience=0, window=1), "valid_acc")}


@pytest.fixture(scope="module", params=WAYS)
def whole(request):
    """How to drive a net, one that was driven for 6 epochs, and what it did after the first 3."""
    trained = net(WAYS[request.param], epochs=6).fit(*digits())
    return WAYS[request.param], trained, (noted(trained).losses_[15:], noted(trained).rates_[15:])


def went(later):
    return noted(later).losses_[-15:], noted(later).rates_[-15:]


def test_a_net_that_is_fitted_on_goes_on_with_its_schedule(whole):
    callback, _, expected = whole
    later = net(callback, epochs=3).fit(*digits())
    assert went(later.partial_fit(*digits())) == expected


def test_a_net_resumed_from_a_checkpoint_equals_one_that_never_stopped(whole, tmp_path):
    callback, _, expected = whole
    saved = Checkpoint(dirname=tmp_path, monitor=None)
    net(callback, saved, epochs=3).fit(*digits())
    later = net(callback, epochs=3).initialize()
    later.load_params(checkpoint=saved)
    assert went(later.partial_fit(*digits())) == expected
    assert "surefoot" not in later.optimizer_.param_groups[0]


@pytest.mark.parametrize("order", [1, -1])
def test_a_net_that_loads_its_first_state_itself_equals_one_that_never_stopped(whole, order, tmp_path):
    callback, _, expected = whole
    saved = TrainEndCheckpoint(dirname=tmp_path)
    net(callback, saved, epochs=3).fit(*digits())
    later = net(*[callback, LoadInitState(saved)][::order], epochs=3)
    assert went(later.fit(*digits())) == expected


@pytest.mark.parametrize("copied", [lambda first: pickle.loads(pickle.dumps(first)), copy.deepcopy])  # noqa: S301 - our own
def test_a_pickled_or_copied_net_equals_one_that_never_stopped(whole, copied):
    callback, _, expected = whole
    later = copied(net(callback, epochs=3).fit(*digits()))
    assert went(later.partial_fit(*digits())) == expected


def test_a_net_that_is_fitted_anew_begins_anew(whole):
    callback, _, _ = whole
    again = net(callback, epochs=3)
    first = went(again.fit(*digits()))
    assert went(again.fit(*digits())) == first


def test_a_policy_is_a_setting_that_can_be_searched():
    cloned = clone(net(PolicyCallback(EAGER), epochs=1, train_split=None))
    images, labels = (part.numpy() for part in digits())
    policies = [Greedy(factor=factor, patience=0) for factor in (0.5, 0.9)]
    found = GridSearchCV(cloned, {"callbacks__PolicyCallback__policy": policies}, cv=2, refit=False).fit(images, labels)
    assert len(found.cv_results_["params"]) == 2


def test_a_checkpoint_before_a_policy_that_goes_by_epochs_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"would save an epoch without its step \(put it behind\)"):
        net(Checkpoint(dirname=tmp_path), PolicyCallback(EAGER, "valid_loss")).fit(*digits())


def test_a_callback_added_twice_is_refused():
    with pytest.raises(ValueError, match=r"this net has 2 PolicyCallbacks, .* \(keep one\)"):
        net(PolicyCallback(EAGER), PolicyCallback(EAGER)).fit(*digits())


def test_a_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="no valid_f1 in this epoch's history, but train_loss, valid_loss, valid_acc"):
        net(PolicyCallback(EAGER, "valid_f1")).fit(*digits())


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(TypeError, match="policy"):
        PolicyCallback("greedy")


def test_where_skorch_is_missing_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skorch.callbacks", None)
    monkeypatch.delitem(sys.modules, "surefoot.skorch")
    with pytest.raises(ImportError, match=r"pip install 'surefoot\[skorch\]'"):
        import surefoot.skorch  # noqa: F401 - it is not to be had
