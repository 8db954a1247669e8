"""Policies in trainings by Lightning."""

import csv
import functools
import itertools
import os
import re
import sys
import warnings

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from digits import EAGER, digits, network
from processes import in_processes
from surefoot import Cosine, Greedy, schedule
from surefoot.lightning import PolicyCallback
from surefoot.torch import PolicyLR

BASE = 0.05

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:Be aware that when using `ckpt_path`:UserWarning"
    ),  # Trainings go on without the writer.
    pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval:UserWarning"),
]


class Classifier(lightning.LightningModule):
    """A network whose optimizers are configured as the test says; it keeps every loss and the rate it was made at."""

    def __init__(self, configure, policy=EAGER, optimizer=torch.optim.SGD):
        super().__init__()
        self.prepare(configure, policy, optimizer)

    def prepare(self, configure, policy=EAGER, optimizer=torch.optim.SGD):
        self.network, self.configure, self.policy, self.kind = network(), configure, policy, optimizer
        self.losses, self.rates, self.validations = [], [], []

    def training_step(self, batch, batch_idx):
        loss = cross_entropy(self.network(batch[0]), batch[1])
        self.losses.append(loss.item())
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log_dict({"train_loss": loss}, on_step=True, on_epoch=True, logger=False)
        return loss

    def validation_step(self, batch, batch_idx):
        found = self.network(batch[0])
        self.log("val_loss", cross_entropy(found, batch[1]))
        self.log("val_acc", (found.argmax(1) == batch[1]).float().mean())

    def on_validation_end(self):
        if not self.trainer.sanity_checking:
            self.validations.append({name: value.item() for name, value in self.trainer.callback_metrics.items()})

    def configure_optimizers(self):
        optimizer = self.kind(self.parameters(), lr=BASE)
        return self.configure(optimizer, PolicyLR(optimizer, self.policy))


def config(**settings):
    return lambda optimizer, scheduler: {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **settings}}


def lists(optimizer, scheduler):
    return [optimizer], [scheduler]


def lists_with_config(**settings):
    return lambda optimizer, scheduler: ([optimizer], [{"scheduler": scheduler, **settings}])


def bare(**settings):
    return lambda optimizer, scheduler: {"optimizer": optimizer, "lr_scheduler": scheduler, **settings}


class Stateful:
    """A loader that goes on where it was, in an order of its own for every epoch."""

    def __init__(self, size=16):
        self.size, self.epoch, self.place, self.is_loaded = size, 0, 0, False

    def __len__(self):
        return 96 // self.size

    def __iter__(self):
        if not self.is_loaded:
            self.place = 0
        self.is_loaded = False
        images, labels = digits()
        order = torch.randperm(96, generator=torch.Generator().manual_seed(self.epoch))
        for place in range(self.place, len(self)):
            self.place = place + 1
            rows = order[place * self.size : (place + 1) * self.size]
            if self.place == len(self):
                self.epoch, self.place = self.epoch + 1, 0
            yield images[rows], labels[rows]

    def state_dict(self):
        return {"epoch": self.epoch, "place": self.place}

    def load_state_dict(self, state):
        self.epoch, self.place, self.is_loaded = state["epoch"], state["place"], True


def loader(size=16):
    return DataLoader(TensorDataset(*digits()), size)


def shuffled():
    """In another order every epoch, which Lightning tells it the number of."""
    data = TensorDataset(*digits())
    return DataLoader(data, 16, sampler=DistributedSampler(data, num_replicas=1, rank=0))


def fit(module, *, epochs=4, callbacks=(PolicyCallback,), train=None, resume=None, trainer=lightning.Trainer, **settings):
    """Train, on 6 batches an epoch."""
    settings = {"logger": False, "enable_checkpointing": False, **settings}
    trainer = trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[callback() if isinstance(callback, type) else callback for callback in callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, train or loader(), loader(48), ckpt_path=resume, weights_only=resume and True)
    return trainer


def rates(losses, policy=EAGER):
    return [BASE * state.scale for state in schedule(policy, losses)]


@pytest.mark.parametrize("policy", [EAGER, Cosine(steps=20)], ids=["greedy", "cosine"])
def test_training_losses_arrive_at_every_step(policy):
    module = Classifier(config(interval="step"), policy)
    fit(module)
    assert module.rates == rates(module.losses, policy)[:-1]


@pytest.mark.parametrize("configure", [lists, bare(), config()], ids=["lists", "bare", "config"])
def test_by_lightnings_default_there_is_one_step_an_epoch_on_the_mean_of_its_losses(configure):
    module = Classifier(configure)
    fit(module)
    means = [sum(module.losses[start : start + 6]) / 6 for start in range(0, 24, 6)]
    assert module.rates == [rate for rate in rates(means)[:-1] for _ in range(6)]


WITH_MONITOR = {
    "lists": lists_with_config,
    "bare": bare,
    "config": config,
    "flag": functools.partial(config, reduce_on_plateau=True),
    "no flag": functools.partial(config, reduce_on_plateau=False),
    "every second": functools.partial(config, frequency=2),
}


@pytest.mark.parametrize("form", WITH_MONITOR)
@pytest.mark.parametrize(("monitor", "sign"), [("val_loss", 1), ("val_acc", -1)])
def test_a_monitored_metric_arrives_once_an_epoch_with_its_better_end_down(form, monitor, sign):
    module = Classifier(WITH_MONITOR[form](monitor=monitor))
    fit(module, epochs=6)
    values = [sign * found[monitor] for found in module.validations]
    every = 2 if form == "every second" else 1
    expected = [rate for rate in rates(values[every - 1 :: every]) for _ in range(6 * every)]
    assert module.rates == expected[:36]
    assert len(set(module.rates)) > 1


def test_a_policy_that_maximizes_gets_an_accuracy_as_it_is():
    policy = Greedy(factor=0.7, patience=0, window=1, mode="max")
    module = Classifier(config(monitor="val_acc"), policy)
    fit(module, epochs=5)
    expected = rates([found["val_acc"] for found in module.validations], policy)
    assert module.rates[::6] == expected[:-1]


def test_a_policy_that_maximizes_a_loss_is_refused():
    with pytest.raises(ValueError, match="takes a higher val_loss for better, and lower ones are"):
        fit(Classifier(config(monitor="val_loss"), Greedy(mode="max")))


@pytest.mark.parametrize("monitor", ["train_loss", "train_loss_step"])
def test_a_metric_of_every_batch_arrives_at_every_step(monitor):
    module = Classifier(config(monitor=monitor, interval="step"))
    fit(module)
    assert module.rates == rates(module.losses)[:-1]


@pytest.mark.parametrize("monitor", ["train_loss", "train_loss_epoch"])
def test_a_metric_of_the_training_epoch_arrives_at_its_end(monitor):
    module = Classifier(config(monitor=monitor))
    fit(module)
    means = [sum(module.losses[start : start + 6]) / 6 for start in range(0, 24, 6)]
    assert module.rates[::6] == pytest.approx(rates(means)[:-1])


def test_validations_within_an_epoch_are_steps_with_the_interval_step_and_one_step_otherwise():
    steps, epochs = Classifier(config(monitor="val_loss", interval="step")), Classifier(config(monitor="val_loss"))
    fit(steps, epochs=3, val_check_interval=0.5)
    fit(epochs, epochs=3, val_check_interval=0.5)
    losses = [found["val_loss"] for found in steps.validations]
    assert steps.rates == [rate for rate in rates(losses)[:-1] for _ in range(3)]
    losses = [found["val_loss"] for found in epochs.validations]
    assert epochs.rates == [rate for rate in rates(losses[1::2])[:-1] for _ in range(6)]


def test_where_not_every_epoch_is_validated_the_others_are_no_steps():
    module = Classifier(config(monitor="val_loss"))
    fit(module, epochs=6, check_val_every_n_epoch=2)
    expected = rates([found["val_loss"] for found in module.validations])
    assert module.rates == [rate for rate in expected[:-1] for _ in range(12)]


def test_the_last_validation_counts_where_an_epoch_does_not_end_with_one():
    module = Classifier(config(monitor="val_loss"))
    fit(module, epochs=3, val_check_interval=4)
    assert module.rates[::6] == rates([found["val_loss"] for found in module.validations])[:-1]


def test_accumulated_micro_batches_are_one_loss():
    module = Classifier(config(interval="step"))
    fit(module, accumulate_grad_batches=4, epochs=3)
    sizes, losses = [4, 2] * 3, iter(module.losses)
    means = [sum(itertools.islice(losses, size)) / size for size in sizes]
    made_at = zip(rates(means), sizes, strict=False)
    assert module.rates == pytest.approx([rate for rate, size in made_at for _ in range(size)])


def test_a_gradient_scalers_factor_is_taken_out_again():
    module = Classifier(config(interval="step"))
    fit(module, plugins=[MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**12))])
    assert module.rates == rates(module.losses)[:-1]


def test_within_a_sequence_the_policy_gets_the_losses_after_the_ramp():
    def configure(optimizer, scheduler):
        ramp = torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, 1.0, total_iters=4)
        both = torch.optim.lr_scheduler.SequentialLR(optimizer, [ramp, scheduler], milestones=[4])
        return config(interval="step")(optimizer, both)

    module = Classifier(configure)
    fit(module)
    assert module.rates[:4] == pytest.approx([0.025, 0.03125, 0.0375, 0.04375])
    assert module.rates[4:] == rates(module.losses[4:])[:-1]


class ByHand(Classifier):
    """The loop's steps in the module's own hands."""

    def __init__(self):
        super().__init__(lists)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()
        self.lr_schedulers().step(loss)


def test_under_manual_optimization_the_module_hands_over_its_losses(tmp_path):
    module = ByHand()
    fit(module)
    assert module.rates == rates(module.losses)[:-1]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A module that was trained with two loggers, and what they wrote: rows, and TensorBoard's events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, module = tmp_path_factory.mktemp("logs"), Classifier(config(interval="step"))
    loggers = [CSVLogger(folder, name="rows", version=""), TensorBoardLogger(folder, name="board", version="")]
    fit(module, callbacks=[PolicyCallback, LearningRateMonitor()], logger=loggers, log_every_n_steps=1)
    with (folder / "rows" / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    events = EventAccumulator(str(folder / "board"), size_guidance={"tensors": 0})
    events.Reload()
    return module, rows, events


def test_the_learning_rate_monitor_shows_the_rates(logged):
    module, rows, _ = logged
    assert [row["lr-SGD"] for row in rows if "lr-SGD" in row] == module.rates


def test_loggers_get_rate_and_scale_of_every_change(logged):
    module, rows, events = logged
    changes = [step for step in range(1, 24) if module.rates[step] != module.rates[step - 1]]
    assert changes
    told = {int(row["step"]): row["surefoot/rate"] for row in rows if "surefoot/rate" in row}
    assert {step: told[step] for step in changes} == {step: module.rates[step] for step in changes}
    assert [event.step for event in events.Scalars("surefoot/scale")] == list(told)


def test_tensorboard_gets_the_reasons_as_text(logged):
    _, rows, events = logged
    reasons = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("surefoot/reason/text_summary")]
    assert len(reasons) == sum("surefoot/rate" in row for row in rows)
    assert {reason.partition(":")[0] for reason in reasons} <= {"raised", "lowered"}


def test_without_the_callback_a_warning_says_what_to_do():
    with pytest.warns(UserWarning, match="step.. got no loss and none was observed"):
        fit(Classifier(config(interval="step")), callbacks=[], epochs=1)


def test_a_callback_added_twice_is_refused():
    with pytest.raises(ValueError, match=r"a PolicyCallback was added 2 times, .* \(keep one\)"):
        fit(Classifier(lists), callbacks=[PolicyCallback, PolicyCallback])


def test_a_monitor_that_nobody_logs_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="go by val_accuracy, which was not logged .* val_acc, val_loss as the monitor"):
        fit(Classifier(config(monitor="val_accuracy")))


def test_a_monitor_need_not_be_there_if_lightning_is_told_not_to_be_strict():
    module = Classifier(config(monitor="val_loss", strict=False))
    fit(module, limit_val_batches=0)
    assert set(module.rates) == {BASE}


def test_a_metric_whose_better_end_is_not_in_its_name_needs_a_word():
    with pytest.raises(ValueError, match="cannot be told from its name"):
        fit(Classifier(config(monitor="goodness")))


def test_the_module_keeps_its_own_method():
    module = Classifier(bare(monitor="val_loss"))
    fit(module, epochs=1)
    assert "configure_optimizers" not in vars(module)


MOMENTUM = functools.partial(torch.optim.SGD, momentum=0.9)
RESUMED = {
    "training losses": config(interval="step"),
    "means of epochs": lists,
    "validation": config(monitor="val_acc"),
    "validation with the flag": config(monitor="val_loss", reduce_on_plateau=True),
    "batches": config(monitor="train_loss", interval="step"),
}


def resumed(configure, tmp_path, load, accumulation=1, **when):
    """A whole training, and those that go on from each of its checkpoints, with the number of batches they do not see."""
    kind = functools.partial(Classifier, configure, optimizer=MOMENTUM)
    writer = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **when)
    whole = kind()
    settings = {"epochs": 3, "accumulate_grad_batches": accumulation}
    fit(whole, **settings, callbacks=[PolicyCallback, writer], enable_checkpointing=True, train=load())
    for path in sorted(tmp_path.glob("*.ckpt")):
        later, steps = kind(), int(re.search(r"step=(\d+)", path.name)[1])
        fit(later, **settings, train=load(), resume=path)
        yield whole, later, steps * accumulation


@pytest.mark.parametrize("name", RESUMED)
def test_a_training_resumed_after_an_epoch_equals_one_that_never_stopped(name, tmp_path):
    cuts = set()
    for whole, later, steps in resumed(RESUMED[name], tmp_path, shuffled):
        assert (later.losses, later.rates) == (whole.losses[steps:], whole.rates[steps:])
        cuts.add(steps)
    assert cuts == {6, 12, 18}
    assert len(set(whole.rates)) > 1


@pytest.mark.parametrize("name", ["training losses", "means of epochs", "validation", "batches"])
def test_a_training_resumed_within_an_epoch_equals_one_that_never_stopped(name, tmp_path):
    cuts = set()
    for whole, later, steps in resumed(RESUMED[name], tmp_path, Stateful, every_n_train_steps=5, save_on_train_epoch_end=False):
        assert (later.losses, later.rates) == (whole.losses[steps:], whole.rates[steps:])
        cuts.add(steps)
    assert cuts == {5, 10, 15}


@pytest.mark.parametrize("name", ["training losses", "batches"])
def test_a_training_resumed_between_accumulated_steps_equals_one_that_never_stopped(name, tmp_path):
    cuts = set()
    for whole, later, batches in resumed(RESUMED[name], tmp_path, Stateful, 2, every_n_train_steps=5):
        assert (later.losses, later.rates) == (whole.losses[batches:], whole.rates[batches:])
        cuts.add(batches)
    assert cuts == {10}


def test_a_checkpoint_of_a_validation_holds_the_step_that_was_made_on_it(tmp_path):
    when = {"monitor": "val_loss", "save_on_train_epoch_end": False}
    for whole, later, steps in resumed(RESUMED["validation"], tmp_path, shuffled, **when):
        assert (later.losses, later.rates) == (whole.losses[steps:], whole.rates[steps:])


def test_the_older_name_of_lightning_will_do():
    import pytorch_lightning

    class Older(pytorch_lightning.LightningModule):
        prepare, training_step = Classifier.prepare, Classifier.training_step
        validation_step, configure_optimizers = Classifier.validation_step, Classifier.configure_optimizers

    module = Older()
    module.prepare(config(interval="step"))
    fit(module, trainer=pytorch_lightning.Trainer)
    assert module.rates == rates(module.losses)[:-1]


def test_where_lightning_is_missing_the_extra_is_named(monkeypatch):
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "surefoot.lightning")
    with pytest.raises(ImportError, match=r"pip install 'surefoot\[lightning\]'"):
        import surefoot.lightning  # noqa: F401 - it is not to be had


def two_ranks(rank):
    """Rates and weights of this rank, on its own half of the data."""
    os.environ["LOCAL_RANK"] = str(rank)  # Lightning takes it that whoever sets this has started the processes.
    warnings.simplefilter("ignore")
    found = []
    for settings in ({"interval": "step"}, {"monitor": "val_loss"}):
        module = Classifier(config(**settings))
        fit(module, epochs=4, strategy="ddp", devices=2)
        found.append((module.rates, module.losses, torch.cat([part.flatten() for part in module.parameters()]).tolist()))
    return found


def test_both_ranks_of_a_data_parallel_training_go_the_same_way():
    first, second = in_processes(two_ranks)
    for (rates, losses, weights), (rates_there, losses_there, weights_there) in zip(first, second, strict=True):
        assert losses_there != losses
        assert rates_there == rates
        assert weights_there == weights
        assert len(set(rates)) > 1
