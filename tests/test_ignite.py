"""Policies in trainings by PyTorch-Ignite."""

import sys

import ignite.distributed as idist
import pytest
import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver
from ignite.handlers.tensorboard_logger import TensorboardLogger
from ignite.metrics import Accuracy, Loss

from digits import EAGER, digits, network
from processes import in_processes
from surefoot import Greedy, schedule
from surefoot.ignite import PolicyHandler
from surefoot.torch import PolicyLR

BASE = 0.05
EPOCHWISE = Greedy(factor=0.7, patience=0, window=1)
CRITERION = torch.nn.CrossEntropyLoss()

pytestmark = pytest.mark.usefixtures("one_thread")


def batches(rank=0, count=1):
    images, labels = digits()
    return list(zip(images.split(16), labels.split(16), strict=True))[rank::count]


class Training:
    """A trainer and an evaluator on the digits; it keeps every loss, and the rate that its step was made at."""

    def __init__(self, policy=EAGER, *, accumulation=1, metric=None, logger=None):
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=BASE, momentum=0.9)
        self.scheduler = PolicyLR(self.optimizer, policy)
        self.losses, self.rates, self.metrics = [], [], []
        self.trainer = create_supervised_trainer(
            self.model, self.optimizer, CRITERION, gradient_accumulation_steps=accumulation
        )
        self.trainer.add_event_handler(
            Events.ITERATION_STARTED, lambda: self.rates.append(self.optimizer.param_groups[0]["lr"])
        )
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: self.losses.append(self.trainer.state.output))
        found = {"loss": Loss(CRITERION), "accuracy": Accuracy()}
        self.evaluator = create_supervised_evaluator(self.model, metrics=found)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.evaluate)
        handler = PolicyHandler(self.scheduler, accumulation=accumulation, metric=metric, logger=logger)
        handler.attach(self.evaluator if metric else self.trainer)

    def evaluate(self):
        self.evaluator.run(batches())
        self.metrics.append(dict(self.evaluator.state.metrics))

    def run(self, epochs=4, data=None):
        self.trainer.run(data or batches(), max_epochs=epochs)
        return self

    def parts(self):
        return {"trainer": self.trainer, "model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}


def rates(losses, policy=EAGER):
    return [BASE * state.scale for state in schedule(policy, losses)]


def test_the_loss_of_every_iteration_arrives():
    training = Training().run()
    assert training.rates == rates(training.losses)[:-1]
    assert len(set(training.rates)) > 3


def test_accumulated_iterations_are_one_loss():
    training = Training(accumulation=3).run()
    means = [sum(training.losses[start : start + 3]) / 3 for start in range(0, 24, 3)]
    assert training.rates == [rate for rate in rates(means)[:-1] for _ in range(3)]


@pytest.mark.parametrize(("metric", "sign"), [("loss", 1), ("accuracy", -1)])
def test_an_evaluators_metric_arrives_once_a_run_with_its_better_end_down(metric, sign):
    training = Training(EPOCHWISE, metric=metric).run()
    expected = rates([sign * found[metric] for found in training.metrics], EPOCHWISE)
    assert training.rates == [rate for rate in expected[:-1] for _ in range(6)]


@pytest.mark.parametrize(("metric", "policy"), [(None, EAGER), ("accuracy", EPOCHWISE)])
def test_a_training_resumed_from_any_checkpoint_equals_one_that_never_stopped(metric, policy, tmp_path):
    whole = Training(policy, metric=metric)
    saver = Checkpoint(whole.parts(), DiskSaver(tmp_path), n_saved=None)
    whole.trainer.add_event_handler(Events.EPOCH_COMPLETED, saver)
    whole.run()
    paths = sorted(tmp_path.glob("*.pt"), key=lambda path: int(path.stem.rpartition("_")[2]))
    for path in paths[:-1]:  # Ignite begins anew from a checkpoint of a finished run.
        later = Training(policy, metric=metric)
        Checkpoint.load_objects(later.parts(), torch.load(path, weights_only=True))
        begun = later.trainer.state.iteration
        later.run()
        assert (later.losses, later.rates) == (whole.losses[begun:], whole.rates[begun:])
    assert len(paths) == 4


def test_a_checkpoint_of_the_same_event_holds_the_step_if_it_is_attached_later(tmp_path):
    training = Training()
    saver = Checkpoint({"scheduler": training.scheduler}, DiskSaver(tmp_path), n_saved=None)
    training.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), saver)
    training.run(epochs=1)
    (path,) = tmp_path.glob("*.pt")
    assert torch.load(path, weights_only=True)["last_epoch"] == 5


def test_a_tensorboard_logger_gets_rate_scale_and_reason_of_every_change(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TensorboardLogger(tmp_path) as logger:
        training = Training(logger=logger).run()
    expected = rates(training.losses)
    changes = [step for step in range(1, 25) if expected[step] != expected[step - 1]]
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    shown = events.Scalars("surefoot/rate")
    assert [event.step for event in shown] == [event.step for event in events.Scalars("surefoot/scale")] == changes
    assert [event.value for event in shown] == pytest.approx([expected[step] for step in changes])
    reasons = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("surefoot/reason/text_summary")]
    assert len(reasons) == len(changes)
    assert {reason.partition(":")[0] for reason in reasons} <= {"raised", "lowered"}


def test_a_handler_attached_twice_is_refused():
    training = Training()
    with pytest.raises(ValueError, match=r"would do it twice \(attach one PolicyHandler\)"):
        PolicyHandler(training.scheduler).attach(training.trainer)


def test_a_handler_can_be_taken_off_and_attached_again():
    training = Training(EPOCHWISE, metric="loss")
    handle = PolicyHandler(training.scheduler).attach(training.trainer)
    handle.remove()
    PolicyHandler(training.scheduler).attach(training.trainer)


def test_an_output_that_is_no_loss_needs_a_transform():
    trainer, scheduler = Engine(lambda engine, batch: {"loss": 1.5}), Training().scheduler
    PolicyHandler(scheduler).attach(trainer)
    with pytest.raises(TypeError, match=r"the trainer's output is no loss: \{'loss': 1.5\} \(say output_transform="):
        trainer.run([0])


def test_a_transform_gets_the_loss_out_of_the_output():
    trainer, scheduler = Engine(lambda engine, batch: {"loss": batch}), Training().scheduler
    PolicyHandler(scheduler, output_transform=lambda output: output["loss"]).attach(trainer)
    trainer.run([1.5, torch.tensor(0.5)])
    assert scheduler.state.window == (1.5, 0.5)


def test_a_metric_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"no metric f1 \(attach it, or name one that there is: loss, accuracy\)"):
        Training(metric="f1").run()


def test_where_ignite_is_missing_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ignite.engine", None)
    monkeypatch.delitem(sys.modules, "surefoot.ignite")
    with pytest.raises(ImportError, match=r"pip install 'surefoot\[ignite\]'"):
        import surefoot.ignite  # noqa: F401 - it is not to be had


def two_ranks(rank):
    training = Training()
    training.model = torch.nn.parallel.DistributedDataParallel(training.model)
    training.run(data=batches(rank, 2))
    return training.losses, training.rates, idist.get_world_size()


def test_both_ranks_of_a_data_parallel_training_go_the_same_way():
    (losses, rates, count), (losses_there, rates_there, _) = in_processes(two_ranks)
    assert count == 2
    assert losses_there != losses
    assert rates_there == rates
    assert len(set(rates)) > 1
