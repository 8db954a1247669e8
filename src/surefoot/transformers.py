"""The names that `transformers.optimization` has for GreedyLR: change the import line, and that is all.

transformers itself is not needed, and is not imported.
"""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING, Any, Literal, Self

from torch import Tensor

import surefoot.torch
from surefoot import checkpoint, checks, spelling
from surefoot.runner import runner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer

    from surefoot.hold_all import HoldAll, HoldAllState

__all__ = ["GreedyLR", "StreamingAverage", "get_greedy_schedule"]


def _shown(name: str, meaning: str) -> Any:
    """An attribute that can be read, under the name that it has in a checkpoint."""
    return property(lambda self: checkpoint.written(self.policy, self.state)[name], doc=meaning)


class StreamingAverage:
    """The mean of the last values, under the names that `transformers.optimization.StreamingAverage` has.

    The sum is formed anew for every mean, so that no huge value leaves its rounding error behind.

    >>> average = StreamingAverage(window_size=2)
    >>> [average.streamavg(value) for value in [1.0, 2.0, 5.0]]
    [1.0, 1.5, 3.5]

    Attributes:
        window_size: How many values are averaged.
        values: The last values, oldest first.

    Args:
        window_size: How many values are averaged, 1 or more.
        values: Values to start with, oldest first.
    """

    def __init__(self, window_size: int = 50, values: Sequence[float] = ()) -> None:
        checks.whole("window_size", window_size, low=1)
        self.window_size = window_size
        self.values = list(values)[-window_size:]

    @property
    def sum(self) -> float:
        """The sum of the values."""
        return fsum(self.values)

    def streamavg(self, value: float) -> float:
        """Take in a value and return the mean."""
        self.values = [*self.values, float(value)][-self.window_size :]
        return self.sum / len(self.values)

    def state_dict(self) -> dict[str, Any]:
        """A snapshot, as that class writes it."""
        return {"window_size": self.window_size, "values": list(self.values), "sum": self.sum}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the values of a snapshot; as many as fit into the window."""
        self.values = list(state_dict["values"])[-self.window_size :]


class GreedyLR(surefoot.torch.GreedyLR):
    """A drop-in for `transformers.optimization.GreedyLR`: the same arguments, defaults and rates, step for step.

    Unlike that class it is a scheduler of PyTorch. A loss that is not finite is forgotten; a bare `step()` takes the mean of
    what was observed; rates that are tensors are filled in place; a group that is added later joins at its own rate; a
    checkpoint is a snapshot, overrides no setting, and is read by that class too.

    >>> import torch
    >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
    >>> scheduler = GreedyLR(optimizer, factor=0.5, patience=0)
    >>> optimizer.step()
    >>> scheduler.step(3.0)
    >>> scheduler.get_last_lr(), scheduler.best
    ([0.2], 3.0)

    Args:
        optimizer: The optimizer whose rates are set.
        mode: `"min"` if lower values are better, `"max"` if higher ones are.
        factor: Step of the rates, strictly between 0 and 1.
        patience: Losses in a row to wait through before acting, 0 or more.
        threshold: How much better than the best a loss must be, 0 or more.
        threshold_mode: `"rel"` or `"abs"`.
        cooldown: Steps after a cut in which nothing happens, 0 or more.
        warmup: Steps after a raise in which nothing happens, 0 or more.
        min_lr: Lower limit of the rates, one number or one per group; the base rates must not be below it.
        max_lr: Upper limit of the rates, likewise.
        eps: The largest change of a rate that is not worth making, 0 or more.
        verbose: Kept, and without effect: every change of the first group's rate is logged, at INFO, to the logger
            `surefoot`.
        smooth: Whether losses are averaged before they are compared.
        window_size: How many, 1 or more.
        reset_start: Cuts decided with all rates at their lower limits before everything starts over; None for never.
        last_epoch: Only -1; to go on with an earlier run, use `load_state_dict`.
        compat: Only `"transformers"`; `surefoot.torch.GreedyLR` has surefoot's own rule.

    Raises:
        TypeError: The optimizer is not one, or an argument is not a number where one is needed.
        ValueError: An argument is outside its range.
    """

    _rule = staticmethod(spelling.hold_all)
    policy: HoldAll

    mode = _shown("mode", "Which losses are better.")
    factor = _shown("factor", "Step of the rates.")
    patience = _shown("patience", "Losses in a row to wait through before acting.")
    threshold = _shown("threshold", "How much better than the best a loss must be.")
    threshold_mode = _shown("threshold_mode", '`"rel"` or `"abs"`.')
    cooldown = _shown("cooldown", "Length of the stage after a cut.")
    warmup = _shown("warmup", "Length of the stage after a raise.")
    min_lrs = _shown("min_lrs", "Lower limit of every group's rate.")
    max_lrs = _shown("max_lrs", "Upper limit of every group's rate.")
    eps = _shown("eps", "The largest change of a rate that is not worth making.")
    smooth = _shown("smooth", "Whether losses are averaged.")
    window_size = _shown("window_size", "How many losses are averaged.")
    reset_start = _shown("reset_start", "Cuts at the lower limits that are left before a reset.")
    reset_start_original = _shown("reset_start_original", "The same at the start.")
    best = _shown("best", "Best loss so far.")
    num_bad_epochs = _shown("num_bad_epochs", "Losses in a row that were not better than the best.")
    num_good_epochs = _shown("num_good_epochs", "Losses in a row that were.")
    cooldown_counter = _shown("cooldown_counter", "Steps left of the stage after a cut.")
    warmup_counter = _shown("warmup_counter", "Steps left of the stage after a raise.")

    def __new__(cls, *_arguments: Any, **_named: Any) -> Self:
        """There is nothing left to choose here."""
        return object.__new__(cls)

    def __init__(  # noqa: PLR0917 - that class takes them by position, too
        self,
        optimizer: Optimizer,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        threshold_mode: Literal["rel", "abs"] = "abs",
        cooldown: int = 0,
        warmup: int = 0,
        min_lr: float | Sequence[float] = 1e-3,
        max_lr: float | Sequence[float] = 1.0,
        eps: float = 1e-8,
        verbose: bool = False,
        smooth: bool = False,
        window_size: int = 50,
        reset_start: int | None = 500,
        *,
        last_epoch: int = -1,
        compat: Literal["transformers"] = "transformers",
    ) -> None:
        checks.one_of("compat", compat, ("transformers",))
        self._verbose = bool(verbose)
        super().__init__(
            optimizer,
            last_epoch,
            on_device=False,  # Rates of several groups, each with limits of its own, are decided on the host.
            mode=mode,
            factor=factor,
            patience=patience,
            threshold=threshold,
            threshold_mode=threshold_mode,
            cooldown=cooldown,
            warmup=warmup,
            min_lr=min_lr,
            max_lr=max_lr,
            eps=eps,
            verbose=verbose,
            smooth=smooth,
            window_size=window_size,
            reset_start=reset_start,
        )

    @property
    def state(self) -> HoldAllState:
        """The rule's state."""
        state: HoldAllState = self._runner.state
        return state

    @property
    def _streaming_avg(self) -> StreamingAverage | None:
        """The window, for those who look there; a copy."""
        return StreamingAverage(self.policy.window, self.state.window) if self.policy.smooth else None

    @property
    def verbose(self) -> bool:
        """What it was made with; changes are logged anyway."""
        return self._verbose

    def step(self, metrics: Any = None, epoch: int | None = None, **signals: Any) -> None:  # type: ignore[override]
        """Take in the loss of an optimizer step and set the rates for the next one.

        Args:
            metrics: The loss, as one number or a tensor with one element; None for the mean of what was observed.
            epoch: What `last_epoch` becomes, if not one more.
            **signals: Further measurements, which this rule does not look at.

        Raises:
            TypeError: The loss is not a number.
            ValueError: The loss is a tensor with several elements.
        """
        super().step(metrics, **signals)
        if epoch is not None:
            self.last_epoch = epoch

    def get_lr(self) -> list[float | Tensor]:
        """The rate of every group."""
        return list(self.state.rates)

    def state_dict(self) -> dict[str, Any]:
        """A snapshot in plain containers, as transformers' class writes and reads it.

        It holds the settings too, for that class. Here they are only compared with, on loading.
        """
        pending = {"total": float(self._total), "observed": self._observed}
        written = checkpoint.written(self.policy, self.state)
        return {**written, "verbose": self._verbose, "last_epoch": self.last_epoch, **pending}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, by this class or by transformers', and set the rates.

        This scheduler's own settings stay; those in the snapshot that differ are named in a warning. What the snapshot lacks
        stays as it is.

        Raises:
            ValueError: The snapshot is another scheduler's, or has other groups.
        """
        if not checkpoint.is_theirs(state_dict):
            raise ValueError("this is no snapshot of transformers' GreedyLR, nor of one that follows its path")
        self._admit()
        state = checkpoint.hold_all_state(state_dict, self.policy, self.state)
        checkpoint.warn_of_differences(state_dict, self.policy, self.state.bases)
        self.last_epoch = state_dict.get("last_epoch", self.last_epoch)
        self._total, self._observed = state_dict.get("total", 0.0), state_dict.get("observed", 0)
        self._runner = runner(self.policy, state)
        self._begin(max(self.last_epoch, 0))
        if self.last_epoch >= 0:  # Not while it waits for its turn in SequentialLR: the rates are not its own yet.
            self._write(state.scale)

    def _admit(self) -> None:
        """Let groups join that were added to the optimizer."""
        new = surefoot.torch.base_rates(self.optimizer)[len(self.state.rates) :]
        if new:
            self._runner = runner(self.policy, self.state.joined(tuple(new)))

    def _write(self, scale: Any) -> None:
        del scale  # One number cannot say it: every group has a rate of its own.
        self._admit()
        groups = self.optimizer.param_groups
        for group, rate in zip(groups, self.state.rates, strict=True):
            group.setdefault("initial_lr", rate)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._written = (self.state.scale, len(groups))
        self._last_lr = self.get_lr()


def get_greedy_schedule(optimizer: Optimizer, **settings: Any) -> GreedyLR:
    """A `GreedyLR` for an optimizer.

    Args:
        optimizer: The optimizer whose rates are set.
        **settings: As `GreedyLR` takes them.
    """
    return GreedyLR(optimizer, **settings)
