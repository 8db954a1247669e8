"""Policies as PyTorch schedulers."""

from __future__ import annotations

import logging
import warnings
from math import nan
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from surefoot import budget, checkpoint, checks, spelling
from surefoot.alignment import Alignment, asked_for
from surefoot.arithmetic import widen
from surefoot.device import DeviceRunner
from surefoot.first_steps import FirstSteps
from surefoot.history import BLOCK, History, told
from surefoot.ranks import mean_over_ranks
from surefoot.rate_finder import RateFound, find_rate
from surefoot.rollback import Rollback
from surefoot.runner import runner
from surefoot.snapshot import plain, restored

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from surefoot.accelerate import Prepared
    from surefoot.changes import Change
    from surefoot.drawing import Drawing
    from surefoot.policy import Policy
    from surefoot.runner import Runner
    from surefoot.spelling import GreedySettings

_log = logging.getLogger("surefoot")

__all__ = ["Alignment", "GreedyLR", "PolicyLR", "RateFound", "find_rate", "mean_over_ranks"]


class PolicyLR(LRScheduler):
    """Let a policy set the learning rate of an optimizer.

    Call `step(loss)` after every optimizer step, or `observe(loss)` for every micro-batch and then `step()`, which takes the
    mean of what was observed. Each parameter group keeps its own base rate, `group["initial_lr"]`, and its rate is that times
    the policy's scale, so that the ratios between groups never change. A group that is added later takes the rate it was added
    with as its base, and follows from the next step on. A rate that is a tensor is filled in place.

    While nothing changes, a step costs the same whatever the number of groups is. A loss on an accelerator stays there if the
    rates are tensors on the same device: loss, state and rates are then kept on it, no step waits for it, and `step` can be
    compiled or captured in a CUDA graph with the optimizer's. Otherwise the loss is read, which waits for the device.

    >>> import torch
    >>> from surefoot import Greedy
    >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
    >>> scheduler = PolicyLR(optimizer, Greedy(factor=0.5, patience=0))
    >>> for loss in [3.0, 2.0, 4.0]:
    ...     optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.2]

    A policy that sees more than losses gets the signals of an `Alignment`, which then measures every step of the optimizer.

    A policy that is made for a budget can be told it here, in steps or in seconds; time in which the run was stopped does not
    count. Without either, it goes by its own settings.

    >>> from surefoot import WarmupStableDecay
    >>> PolicyLR(optimizer, WarmupStableDecay(steps=1), total_steps=1000).policy.steps
    1000

    Attributes:
        policy: The policy, with its budget. It is configuration: a checkpoint does not hold it.

    Args:
        optimizer: The optimizer whose rates are set.
        policy: Any policy.
        last_epoch: Only -1; to go on with an earlier run, use `load_state_dict`.
        on_device: Whether loss and state are to stay on the device of the rates, which must be tensors on one device; None to
            find out at the first loss: they stay on an accelerator, and are read on a CPU, where that is faster.
        total_steps: The budget in optimizer steps, 1 or more, for a policy with a setting `steps` that is one.
        total_seconds: The budget in seconds from here on, above 0. The policy gets the signal `progress` with every loss, the
            fraction that is used up by then; schedules made for a budget follow it instead of their own count.
        clock: What tells the time, in seconds from anywhere.
        rollback: The model, to be put back to where it was well when the policy raises an alarm; or a
            `surefoot.rollback.Rollback` with settings of its own. It takes twice the memory of model and optimizer.

    Raises:
        TypeError: The optimizer or the policy is not one, or a budget is no number.
        ValueError: `last_epoch` is not -1, `on_device` is asked for with rates that are not tensors on one device, or the
            budget is outside its range, given twice, or nothing that this policy can use; or it has no alarms to roll back at.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        policy: Policy[Any],
        last_epoch: int = -1,
        *,
        on_device: bool | None = None,
        total_steps: int | None = None,
        total_seconds: float | None = None,
        clock: Callable[[], float] = monotonic,
        rollback: torch.nn.Module | Rollback | None = None,
    ) -> None:
        checks.policy("policy", policy)
        if last_epoch != -1:
            raise ValueError(f"last_epoch must be -1, got {last_epoch} (to go on with an earlier run, use load_state_dict)")
        if total_steps is not None and total_seconds is not None:
            raise ValueError(
                f"a budget must be in steps or in seconds, got {total_steps=} and {total_seconds=} (leave one out)"
            )
        if total_steps is not None:
            policy = budget.in_steps(policy, total_steps)
        if total_seconds is not None and on_device:
            raise ValueError("on_device keeps the host out of every step, and total_seconds needs its clock (leave one out)")
        self._watch = None if total_seconds is None else budget.Stopwatch(total_seconds, clock)
        self.policy = policy = policy if self._watch is None else budget.by_clock(policy)
        self._rollback = None if rollback is None else _rollback(rollback, optimizer, policy)
        self._runner: Runner = runner(policy)
        self._on_device = on_device
        self._written: tuple[Any, int] = (None, 0)
        self._total: Any = 0.0
        self._observed = 0
        self._may_warn = True
        self._prepared: Prepared | None = None
        self._listeners: list[Callable[[Change], None]] = []
        self._first_steps: FirstSteps | None = FirstSteps(optimizer)
        self._begin(0)
        super().__init__(optimizer, last_epoch)
        self._measured = Alignment(optimizer) if asked_for(policy) else None
        # One question in a step where there would be four.
        self._is_special = not (self._watch is None and self._measured is None and self._rollback is None)
        if on_device:
            self._settle(policy.init())
            self._write(self.state.scale)

    @property
    def state(self) -> Any:
        """The policy's state."""
        return self._runner.state

    def observe(self, loss: Any) -> None:
        """Take note of a micro-batch's loss, for the next bare `step()`.

        Args:
            loss: One number, or a tensor with one element, which is left on its device.

        Raises:
            TypeError: It is not a number.
            ValueError: It is a tensor with several elements.
        """
        self._total = self._total + _one_number(loss)
        self._observed += 1

    def step(self, metrics: Any = None, **signals: Any) -> None:  # type: ignore[override] # PyTorch's `epoch` is deprecated.
        """Take in the loss of an optimizer step and set the rates for the next one.

        Args:
            metrics: The loss, as one number or a tensor with one element; None for the mean of what was observed.
            **signals: Further measurements for the policy.

        Raises:
            TypeError: The loss is not a number.
            ValueError: The loss is a tensor with several elements, or there is none although the policy is nothing without.
        """
        if self._is_special:
            if self._prepared is not None and not self._is_due(metrics):
                return
            signals = self._measurements() | signals
        if type(metrics) is not float or self._observed:
            metrics = self._loss(metrics, signals)
        self.last_epoch = step = self.last_epoch + 1
        scale = self._runner.advance(metrics, **signals) if signals else self._runner.advance(metrics)
        written, groups = self._written
        if self._on_device is not True:
            self.history.keep(metrics)
            if step >= self._next_look:
                self._look(metrics)
        if scale is not written or len(self.optimizer.param_groups) != groups:
            self._write(scale)
            if self._on_device is not True and scale != written:
                self._tell(metrics, written, scale)
        if self._is_special and self._rollback is not None:
            self._rollback.step(self.state.alarms)

    def on_change(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Have a function called whenever the rate is changed by a decision, with the `surefoot.changes.Change`.

        Each of them is logged as well, at INFO to the logger `surefoot`, where the record's attribute `surefoot` is the change.
        A smooth schedule of time decides nothing on its way. Where losses stay on a device, nobody is told.

        >>> import torch
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
        >>> scheduler = GreedyLR(optimizer, factor=0.5, patience=0)
        >>> off = scheduler.on_change(lambda change: print(change.step, change.reason, change.rates))
        >>> optimizer.step()
        >>> scheduler.step(3.0)
        1 raised: 1 better in a row (0.2,)

        Args:
            listener: It is called after the rates were set.

        Returns:
            A function that takes the listener off again.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def plot(self) -> Drawing:
        """The loss and the rate of the first group over the steps so far, and the reasons of changes.

        A notebook shows it; `plot().save(path)` writes it as `.svg`, `.png`, `.html` or `.json`.

        Raises:
            ValueError: No loss was met yet.
        """
        from surefoot import plots  # Drawing is for those who look, and training does not wait for it.

        return plots.of_schedule(self.history, base_rates(self.optimizer)[0])

    def get_lr(self) -> list[float | Tensor]:
        """The rate of every group: its base rate times the policy's scale."""
        return [group["initial_lr"] * self.state.scale for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """A snapshot of what changes in a run, in plain containers; the policy's settings are not part of it."""
        pending = {"total": plain(self._total), "observed": self._observed}
        elapsed = {} if self._watch is None else {"elapsed": self._watch.elapsed}
        return {"last_epoch": self.last_epoch, "state": plain(self.state), **pending, **elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, with this scheduler's own policy, and set the rates.

        Raises:
            ValueError: The snapshot does not fit the policy: it is another's, or that of other settings.
        """
        missing = {"last_epoch", "state", "total", "observed"} - set(state_dict)
        if missing:
            raise ValueError(f"this is no snapshot of a PolicyLR: it lacks {', '.join(sorted(missing))}")
        state = restored(self.policy.init(), state_dict["state"], self.policy)
        self.last_epoch = state_dict["last_epoch"]
        self._total, self._observed = plain(state_dict["total"]), state_dict["observed"]
        if self._measured is not None and self.last_epoch > 0:
            self._measured.forget()
        if self._watch is not None:
            self._watch.set(state_dict.get("elapsed", 0.0))
        if self._rollback is not None:
            self._rollback.restart(state.alarms)
        if self._on_device:
            self._settle(state)
        else:
            self._runner = runner(self.policy, state)
        self._begin(max(self.last_epoch, 0))
        if self.last_epoch >= 0:  # SequentialLR winds those that wait for their turn back to -1: the rates are not theirs yet.
            self._write(self.state.scale)

    @property
    def _is_accelerate_prepared(self) -> bool:
        """Read by `accelerator.prepare`, which wraps what is not; the wrapper steps once per process, and hides `observe`."""
        return True

    @_is_accelerate_prepared.setter
    def _is_accelerate_prepared(self, _: bool) -> None:
        """Set by it, when it has taken the scheduler in."""
        from surefoot.accelerate import Prepared

        self._prepared, self._is_special = self._prepared or Prepared(self.optimizer), True

    def _is_due(self, metrics: Any) -> bool:
        """Take note of a loss after `accelerator.prepare`, and tell whether it completes an optimizer step."""
        assert self._prepared is not None
        if metrics is not None:
            self.observe(metrics)
        if not self._prepared.due():
            return False
        if self._observed:
            self._total, self._observed = self._prepared.mean(self._total / self._observed), 1
        return True

    def _tell(self, loss: float, before: float, scale: float) -> None:
        """Keep a change of the scale, and tell of it if it was a decision."""
        self.history.turn(scale)
        because = self._runner.because()
        if because is None:
            return
        noted = self.last_epoch, before, scale, because, loss, self._last_lr
        self.history.note(noted)
        if self._listeners or _log.isEnabledFor(logging.INFO):
            change = told(noted)
            said = "step %d: %s, scale %.4g, rate %.4g"
            _log.info(said, change.step, change.reason, scale, change.rates[0], extra={"surefoot": change})
            for listener in tuple(self._listeners):
                listener(change)

    def _look(self, loss: float) -> None:
        """Look at the first steps one by one, and after every so many others see to the history."""
        if self._first_steps is not None and self._first_steps.look(loss, stacklevel=3):
            return
        self._first_steps = None
        self._next_look = self.last_epoch + BLOCK
        self.history.thin()

    def _begin(self, steps: int) -> None:
        """Keep a new history, after so many steps."""
        self.history = History(steps, self.state.scale)
        self._next_look = 0

    def _loss(self, metrics: Any, signals: dict[str, Any]) -> Any:
        if metrics is None or self._prepared is not None:  # It has been observed then.
            if not self._observed:
                self._warn_if_idle(signals)
                return nan  # A schedule of time does not look at it, and one driven by the loss forgets it.
            metrics = self._total / self._observed
        self._total, self._observed = 0.0, 0
        metrics = _one_number(metrics)
        if isinstance(self._runner, DeviceRunner) or not isinstance(metrics, Tensor):
            return metrics
        if self._on_device is None:
            self._on_device = metrics.device.type != "cpu" and self._device() == metrics.device
            if self._on_device:
                self._settle(self.state)
                return metrics
        return float(metrics)

    def _measurements(self) -> dict[str, Any]:
        """What is known of the last step besides its loss."""
        signals = {} if self._watch is None else {"progress": self._watch.progress()}
        if self._measured is None:
            return signals
        is_on_device = isinstance(self._runner, DeviceRunner)
        measured = self._measured.take()
        return signals | {name: value if is_on_device else float(value) for name, value in measured.items()}

    def _device(self) -> torch.device | None:
        """The device that all rates are tensors on, if there is one."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        devices = {rate.device if isinstance(rate, Tensor) else None for rate in rates}
        return devices.pop() if len(devices) == 1 else None

    def _settle(self, state: Any) -> None:
        """Keep the state on the device of the rates from now on."""
        device = self._device()
        if device is None:
            raise ValueError(
                "on_device needs the rate of every group to be a tensor, all on one device "
                "(make them so: torch.optim.AdamW(parameters, lr=torch.tensor(1e-3, device=device), capturable=True))"
            )
        self._runner = DeviceRunner(self.policy, state, device)

    def _warn_if_idle(self, signals: dict[str, Any]) -> None:
        start = self.policy.init()
        if hasattr(start, "alarms"):
            raise ValueError(
                f"step() got no loss and none was observed, which {type(self.policy).__name__} would take for an explosion; "
                "call step(loss), or observe(loss) before step()"
            )
        if self._may_warn and self.policy.update(start, nan, **signals) == start:
            message = (
                f"step() got no loss and none was observed, so {type(self.policy).__name__} leaves the rate as it is; "
                "call step(loss), or observe(loss) before step()"
            )
            warnings.warn(message, UserWarning, stacklevel=4)
        self._may_warn = False

    def _write(self, scale: Any) -> None:
        groups = self.optimizer.param_groups
        rates: list[float | Tensor] = []
        for group in groups:
            rate = group["lr"]
            if type(rate) is float and type(scale) is float:
                group["lr"] = new = group.setdefault("initial_lr", rate) * scale
                rates.append(new)
            elif isinstance(rate, Tensor):
                new = group.setdefault("initial_lr", rate.clone()) * scale
                rate.copy_(new) if isinstance(new, Tensor) else rate.fill_(new)
                rates.append(rate.clone())
            else:
                group["lr"] = new = float(group.setdefault("initial_lr", rate) * scale)
                rates.append(new)
        self._last_lr = rates
        # A scale on a device changes in place, so that it has to be written at every step.
        self._written = (None if isinstance(scale, Tensor) else scale, len(groups))

    def _initial_step(self) -> None:
        """Called by the base class's constructor, and again by SequentialLR for its first scheduler."""
        self._step_count, self.last_epoch = 1, 0
        self._write(self.state.scale)

    def _update_lr(self, epoch: int | None = None) -> None:
        """Called by SequentialLR to hand over: the losses observed so far belong to the scheduler before."""
        self.last_epoch = 0 if epoch is None else epoch
        self._total, self._observed = 0.0, 0
        self._write(self.state.scale)


class GreedyLR(PolicyLR):
    """Raise the rate while the loss keeps improving, lower it when it stops: `PolicyLR` with a `Greedy` policy.

    >>> import torch
    >>> optimizer = torch.optim.AdamW(torch.nn.Linear(2, 1).parameters(), lr=1e-3)
    >>> scheduler = GreedyLR(optimizer, window=20)
    >>> optimizer.step()
    >>> scheduler.step(torch.tensor(0.7))

    Args:
        optimizer: The optimizer whose rates are set.
        last_epoch: Only -1; to go on with an earlier run, use `load_state_dict`.
        on_device: See `PolicyLR`.
        compat: `"transformers"` to follow the path of transformers' class; makes a `surefoot.transformers.GreedyLR`.
        **settings: Those of `surefoot.Greedy`, or what transformers' GreedyLR calls them: `min_lr`, `max_lr`, `cooldown`,
            `warmup`, `smooth`, `window_size`, `reset_start`; `eps` and `verbose` have no effect, as every change is logged.

    Raises:
        TypeError: The optimizer is not one, there is no such setting, or one is not a number where one is needed.
        ValueError: A setting is outside its range, or is named in both spellings.
    """

    _rule: Callable[..., Any] = staticmethod(spelling.greedy)

    def __new__(
        cls,
        optimizer: Optimizer | None = None,  # None only for a copy.
        last_epoch: int = -1,
        *,
        on_device: bool | None = None,
        compat: Literal["transformers"] | None = None,
        **settings: Unpack[GreedySettings],
    ) -> Self:
        """One class to call and two rules: as `pathlib.Path` does, it may make one of its subclass."""
        import surefoot.transformers

        del optimizer, last_epoch, on_device
        if compat is None:
            return object.__new__(cls)
        checks.one_of("compat", compat, ("transformers",))
        if cls is not GreedyLR:
            raise TypeError(f"compat is decided by the class: derive {cls.__name__} from surefoot.transformers.GreedyLR")
        spelling.refuse_own(settings)
        return object.__new__(surefoot.transformers.GreedyLR)  # type: ignore[return-value] # It is one of this class, too.

    def __init__(
        self,
        optimizer: Optimizer,
        last_epoch: int = -1,
        *,
        on_device: bool | None = None,
        compat: Literal["transformers"] | None = None,
        **settings: Unpack[GreedySettings],
    ) -> None:
        del compat  # `__new__` has seen to it.
        super().__init__(optimizer, self._rule(settings, base_rates(optimizer)), last_epoch, on_device=on_device)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict`, perhaps of transformers' GreedyLR, was taken, with this scheduler's own settings.

        Raises:
            ValueError: The snapshot does not fit: it is another policy's, that of other settings, or has other groups.
        """
        if checkpoint.is_theirs(state_dict):
            state_dict = checkpoint.translated(state_dict, self.policy, base_rates(self.optimizer))
        super().load_state_dict(state_dict)


def _rollback(model: torch.nn.Module | Rollback, optimizer: Optimizer, policy: Policy[Any]) -> Rollback:
    if not hasattr(policy.init(), "alarms"):
        raise ValueError(
            f"rollback goes by the alarms that a policy counts in its state, and {type(policy).__name__} counts none "
            "(leave it out, or take Learned or surefoot.control.Control)"
        )
    return model if isinstance(model, Rollback) else Rollback(model, optimizer)


def base_rates(optimizer: Any) -> list[float]:
    """The base rate of every group."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    return [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]


def _one_number(loss: Any) -> Any:
    """The loss as a float, or as a tensor without dimensions outside its graph, in float32 or wider."""
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            raise ValueError(f"expected one loss, got a tensor of shape {tuple(loss.shape)}; reduce it first: loss.mean()")
        return widen(loss).reshape(())
    if isinstance(loss, (str, bytes)) or not hasattr(loss, "__float__"):
        raise TypeError(f"a loss must be a number or a tensor with one element, got {loss!r}")
    return float(loss)
