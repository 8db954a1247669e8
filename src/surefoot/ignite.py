"""Policies in PyTorch-Ignite: a handler that hands a scheduler its losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import ignite.distributed as idist
    from ignite.engine import Events
except ImportError as missing:
    raise ImportError("surefoot.ignite needs PyTorch-Ignite (pip install 'surefoot[ignite]')") from missing

from torch import Tensor

from surefoot import checks
from surefoot.arithmetic import widen
from surefoot.direction import signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.changes import Change
    from surefoot.torch import PolicyLR

__all__ = ["PolicyHandler"]


class PolicyHandler:
    """Step a scheduler by a trainer's loss after every optimizer step, or by a metric after every run of an evaluator.

    What it hands over is averaged over the processes of `ignite.distributed`. Attach it before a `Checkpoint` that saves the
    scheduler at the same event: handlers are called in the order in which they were attached.

    >>> import torch
    >>> from ignite.engine import create_supervised_trainer
    >>> from surefoot.torch import GreedyLR
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    >>> scheduler = GreedyLR(optimizer, factor=0.5, patience=0, window=1)
    >>> trainer = create_supervised_trainer(model, optimizer, torch.nn.MSELoss())
    >>> _ = PolicyHandler(scheduler).attach(trainer)
    >>> _ = trainer.run([(torch.ones(4, 2), torch.ones(4, 1))] * 2)
    >>> scheduler.get_last_lr()
    [0.04]

    Args:
        scheduler: The scheduler of the trainer's optimizer.
        output_transform: What gets the loss out of the trainer's output.
        accumulation: Iterations per optimizer step, 1 or more; their losses are averaged.
        metric: The name of the evaluator's metric to go by; None for the trainer's loss.
        greater_is_better: Whether higher values of the metric are better; None to go by its name.
        logger: A logger of Ignite's, for TensorBoard, MLflow or W&B, that is told every change of the rate.

    Raises:
        TypeError: `accumulation` is no whole number.
        ValueError: It is below 1, or the metric is better the other way than the policy takes it for, or than can be known.
    """

    def __init__(
        self,
        scheduler: PolicyLR,
        *,
        output_transform: Callable[[Any], Any] = lambda output: output,
        accumulation: int = 1,
        metric: str | None = None,
        greater_is_better: bool | None = None,
        logger: Any = None,
    ) -> None:
        checks.whole("accumulation", accumulation, low=1)
        self.scheduler, self.metric = scheduler, metric
        self._transform, self._accumulation = output_transform, accumulation
        self._sign = 1.0 if metric is None else signed(metric, scheduler.policy, greater_is_better)
        if logger is not None:
            scheduler.on_change(lambda change: _tell(logger, change))

    def attach(self, engine: Any) -> Any:
        """Have an engine call this handler: the trainer, or the evaluator if there is a metric.

        Returns:
            Ignite's handle, to take it off again.

        Raises:
            ValueError: The engine steps this scheduler already.
        """
        if engine.has_event_handler(self):
            raise ValueError("this engine steps the scheduler already, and would do it twice (attach one PolicyHandler)")
        return engine.add_event_handler(Events.ITERATION_COMPLETED if self.metric is None else Events.COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Called by the engine."""
        self.scheduler.observe(self._sign * _mean(self._value(engine.state)))
        if self.metric is not None or engine.state.iteration % self._accumulation == 0:
            self.scheduler.step()

    def __eq__(self, other: object) -> bool:
        """Whether it steps the same scheduler."""
        return isinstance(other, PolicyHandler) and other.scheduler is self.scheduler

    __hash__ = object.__hash__

    def _value(self, state: Any) -> Any:
        if self.metric is not None:
            if self.metric not in state.metrics:
                known = ", ".join(state.metrics) or "none"
                raise ValueError(f"the evaluator has no metric {self.metric} (attach it, or name one that there is: {known})")
            return state.metrics[self.metric]
        loss = self._transform(state.output)
        if not hasattr(loss, "__float__"):
            raise TypeError(f"the trainer's output is no loss: {loss!r} (say output_transform=lambda output: ...)")
        return loss


def _mean(value: Any) -> Any:
    """The mean over processes."""
    count = idist.get_world_size()
    if count == 1:
        return value
    # A copy, because reducing overwrites what it is given.
    return idist.all_reduce(widen(value).clone() if isinstance(value, Tensor) else float(value)) / count


def _tell(logger: Any, change: Change) -> None:
    """Tell a tracker; Python's `logging` was told by the scheduler."""
    told = change.told()
    if hasattr(logger, "add_text"):
        logger.add_text("surefoot/reason", told.pop("surefoot/reason"), change.step)
        for name, value in told.items():
            logger.add_scalar(name, value, change.step)
    elif hasattr(logger, "log_metrics"):
        logger.log_metrics({name: value for name, value in told.items() if isinstance(value, float)}, step=change.step)
    else:
        logger.log(told, step=change.step)
