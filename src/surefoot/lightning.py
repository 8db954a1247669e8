"""Policies in Lightning: a callback that hands every scheduler its losses."""

from __future__ import annotations

import sys
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        # The same library under its older name. With both installed, either's Trainer takes the callback.
        from pytorch_lightning import Callback  # type: ignore[assignment]
    except ImportError as missing:
        raise ImportError("surefoot.lightning needs Lightning (pip install 'surefoot[lightning]')") from missing

from surefoot.arithmetic import widen
from surefoot.direction import signed
from surefoot.torch import PolicyLR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from surefoot.changes import Change

__all__ = ["PolicyCallback"]

_NEVER = sys.maxsize
"""A frequency that Lightning does not reach."""


class PolicyCallback(Callback):
    """Hand every `PolicyLR` of a Lightning module its losses, and the loggers every change of a rate.

    A scheduler without a `monitor` gets the training losses: all of them since its last step, averaged over micro-batches and
    ranks. One with a `monitor` steps on that metric, averaged over ranks, as soon as there is a new value and its `interval` is
    due. A metric that is better when higher is handed over with its sign changed, unless the policy has `mode="max"`.

    Under manual optimization nothing is handed over: call `self.lr_schedulers().step(loss)` yourself.

    >>> import warnings, torch, lightning
    >>> from surefoot.torch import GreedyLR
    >>> class Line(lightning.LightningModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.line = torch.nn.Linear(4, 1)
    ...     def training_step(self, batch, index):
    ...         return (self.line(batch) - 1.0).square().mean()
    ...     def configure_optimizers(self):
    ...         optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
    ...         scheduler = GreedyLR(optimizer, factor=0.5, patience=0, window=1, max_scale=2.0)
    ...         return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
    >>> quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    >>> trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", callbacks=PolicyCallback(), **quiet)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # Lightning advises more workers.
    ...     trainer.fit(Line(), torch.utils.data.DataLoader(torch.ones(4, 4)))
    >>> trainer.optimizers[0].param_groups[0]["lr"]
    0.02

    Args:
        greater_is_better: Whether higher values of the monitored metric are better; None to go by its name.
    """

    def __init__(self, greater_is_better: bool | None = None) -> None:
        self.greater_is_better = greater_is_better
        self._fed: list[PolicyLR] = []
        self._watches: list[_Watch] = []
        self._off: list[Any] = []
        self._before: dict[str, Tensor] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Called by Lightning, before it asks the module for its optimizers."""
        count = sum(isinstance(callback, PolicyCallback) for callback in trainer.callbacks)
        if count > 1:
            raise ValueError(
                f"a PolicyCallback was added {count} times, and every loss would be handed over as often (keep one)"
            )
        if stage == "fit":
            self._off = [_keep_monitor(pl_module)]

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Called by Lightning, when there are schedulers and before a checkpoint is loaded."""
        self._release()
        self._fed, self._watches = [], []
        for config in trainer.lr_scheduler_configs:
            found = list(_policies(config.scheduler))
            if trainer.is_global_zero:
                self._off += [policy.on_change(partial(_tell, trainer)) for policy in found]
            if not found or not pl_module.automatic_optimization:
                continue
            if config.monitor is None:
                self._fed += found
            else:
                self._watches.append(_Watch(config, found, self.greater_is_better))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Called by Lightning, when a checkpoint was loaded."""
        del pl_module
        for watch in self._watches:
            watch.steps = trainer.global_step

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Called by Lightning with the loss of every micro-batch, divided by their number."""
        del pl_module
        if not self._fed:
            return
        # A new tensor, because reducing overwrites what it is given.
        value = _unscaled(trainer, widen(loss)) * trainer.accumulate_grad_batches
        mean = trainer.strategy.reduce(value, reduce_op="mean")
        for policy in self._fed:
            policy.observe(mean)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Called by Lightning after every micro-batch, before a checkpoint is written and before a validation."""
        del pl_module, outputs, batch, batch_idx
        for watch in self._watches:
            if watch.config.interval == "step":
                watch.step_if_new(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called by Lightning after every epoch and its validation, before a checkpoint is written."""
        del pl_module
        for watch in self._watches:
            if watch.config.interval == "epoch":
                watch.step_if_new(trainer)
            watch.refuse_to_wait(trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Called by Lightning."""
        del pl_module
        self._before = dict(trainer.callback_metrics)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Called by Lightning, before a checkpoint is written."""
        del pl_module
        if trainer.sanity_checking:
            return
        for watch in self._watches:
            watch.look(trainer, self._before)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Called by Lightning."""
        del trainer, pl_module, stage
        self._release()
        self._fed, self._watches = [], []

    def _release(self) -> None:
        while self._off:
            self._off.pop()()


class _Watch:
    """A scheduler that goes by a metric.

    Without the flag `reduce_on_plateau`, Lightning would take no notice of `monitor`. With it, it would step after a checkpoint
    was written, and a training that goes on from there lacks a step. So the scheduler steps here, and Lightning never steps it.
    """

    def __init__(self, config: Any, policies: list[PolicyLR], greater_is_better: bool | None) -> None:
        self.config, self.policies, self.frequency = config, policies, config.frequency
        config.frequency = _NEVER
        self.signs = [signed(config.monitor, policy.policy, greater_is_better) for policy in policies]
        self.is_validation = False  # Whether the metric is logged in validation; in training otherwise.
        self.is_new = False
        self.validations = self.steps = 0

    def look(self, trainer: Any, before: dict[str, Tensor]) -> None:
        """After a validation: step, if it logged the metric."""
        self.validations += 1
        value = trainer.callback_metrics.get(self.config.monitor)
        if value is None or value is before.get(self.config.monitor):
            return  # What is there was logged in training.
        self.is_validation = self.is_new = True
        if self.config.interval == "step" or trainer.is_last_batch:
            self.step_if_new(trainer)

    def step_if_new(self, trainer: Any) -> None:
        """Step if it is due and there is a value that was not used yet."""
        stepped, self.steps = trainer.global_step != self.steps, trainer.global_step
        done = trainer.current_epoch if self.config.interval == "epoch" else trainer.fit_loop.batch_idx
        value = trainer.callback_metrics.get(self.config.monitor)
        is_new = self.is_new if self.is_validation else stepped
        if value is None or not is_new or (done + 1) % self.frequency:
            return
        self.is_new = False
        for policy, sign in zip(self.policies, self.signs, strict=True):
            policy.observe(trainer.strategy.reduce(widen(value) * sign, reduce_op="mean"))
        self.config.scheduler.step()

    def refuse_to_wait(self, trainer: Any) -> None:
        """Raise if the metric should be there by now."""
        known = trainer.callback_metrics
        may_come = trainer.enable_validation and not self.validations
        if self.config.strict and self.config.monitor not in known and not may_come and not trainer.fit_loop.restarting:
            raise ValueError(
                f"{type(self.config.scheduler).__name__} is to go by {self.config.monitor}, which was not logged "
                f"(self.log({self.config.monitor!r}, ...), or one of {', '.join(sorted(known)) or 'none'} as the monitor)"
            )


def _keep_monitor(module: Any) -> Any:
    """Keep the monitor of {"optimizer", "lr_scheduler", "monitor"}, which Lightning drops where the scheduler is no plateau.

    Returns:
        A function that leaves the module as it was.
    """
    configure, own = module.configure_optimizers, vars(module).get("configure_optimizers")

    @wraps(configure)
    def configured() -> Any:
        found = configure()
        return _with_monitor(found) if isinstance(found, dict) else found

    module.configure_optimizers = configured
    if own is None:
        return partial(delattr, module, "configure_optimizers")
    return partial(setattr, module, "configure_optimizers", own)


def _with_monitor(found: dict[str, Any]) -> dict[str, Any]:
    scheduler, monitor = found.get("lr_scheduler"), found.get("monitor")
    if monitor is None or not isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler) or not any(_policies(scheduler)):
        return found
    return {**found, "lr_scheduler": {"scheduler": scheduler, "monitor": monitor}}


def _policies(scheduler: Any) -> Iterator[PolicyLR]:
    """A scheduler, or those within a `SequentialLR` or `ChainedScheduler`, as far as they are driven by policies."""
    if isinstance(scheduler, PolicyLR):
        yield scheduler
    for inner in getattr(scheduler, "_schedulers", ()):
        yield from _policies(inner)


def _unscaled(trainer: Any, loss: Tensor) -> Tensor:
    """The loss without the factor of a gradient scaler, found without waiting for the device."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return loss if scaler is None else loss / scaler.scale(torch.ones_like(loss))


def _tell(trainer: Any, change: Change) -> None:
    """Tell the loggers; Python's `logging` was told by the scheduler."""
    told = change.told()
    reason = change.reason
    numbers = {name: value for name, value in told.items() if value is not reason}
    for logger in trainer.loggers:
        # That of W&B takes words among its metrics; others refuse them.
        logger.log_metrics(told if hasattr(logger, "log_text") else numbers, step=trainer.global_step)
        write = getattr(getattr(logger, "experiment", None), "add_text", None)
        if write is not None:
            write("surefoot/reason", reason, trainer.global_step)
