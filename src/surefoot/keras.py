"""Policies as Keras callbacks."""

from __future__ import annotations

import logging
import threading
import warnings
from typing import TYPE_CHECKING, Any, Literal, Unpack

from surefoot import checks, direction, spelling
from surefoot.changes import Change
from surefoot.epoch_file import EpochFile
from surefoot.runner import runner
from surefoot.running_mean import RunningMean
from surefoot.snapshot import plain, restored

try:
    import keras
except ModuleNotFoundError as error:
    remedy = "pip install 'surefoot[keras]'"
    if error.name in {"tensorflow", "jax", "torch"}:
        remedy = "install it, or set KERAS_BACKEND before Keras is imported, to torch or jax, say"
    raise ImportError(f"surefoot.keras needs {error.name}, which is not installed: {remedy}") from error

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from surefoot.policy import Policy
    from surefoot.runner import Runner
    from surefoot.spelling import GreedySettings

__all__ = ["GreedyLR", "PolicyCallback"]

_log = logging.getLogger("surefoot")
_CLAIM = "surefoot"
"""The key in the `params` of one `fit` by which two callbacks find out about each other."""


class PolicyCallback(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types.
    """Let a policy set the learning rate of a model that is trained by `fit`.

    The rate that the model was compiled with is the base, and what is trained at is that times the policy's scale. The policy
    is told the loss of every batch, or any of the epoch's metrics at its end. Keras logs a batch's loss only as part of the
    epoch's mean so far; the callback takes it out of there, weighted by the batch's size, so that a smaller last batch counts
    as what it is. With `steps_per_execution` above 1, an update has the mean loss of an execution, and there is one for each.

    The lengths in a policy's settings count its updates: batches, executions or epochs. With gradients accumulated over n
    batches, `Every(policy, steps=n)` makes a step of them.

    Every epoch's logs get the entries `learning_rate` and `scale`, as they were when its last batch was trained or, where the
    policy sees batches, as that batch left them. Put the callback before those that write logs, such as `TensorBoard`.

    >>> import keras, numpy as np
    >>> from surefoot import Plateau
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.25), loss="mse")
    >>> halving = PolicyCallback(Plateau(factor=0.5, patience=0), every="epoch")
    >>> nothing = np.zeros((4, 2)), np.zeros((4, 1))
    >>> model.fit(*nothing, epochs=4, verbose=0, callbacks=[halving]).history["learning_rate"]
    [0.25, 0.25, 0.125, 0.0625]

    Attributes:
        policy: The policy. It is configuration: a checkpoint does not hold it.
        monitor: What it is told.
        every: When it is told, `"batch"` or `"epoch"`.

    Args:
        policy: Any policy that needs to see nothing but losses.
        monitor: A key of the epoch's logs, such as `"val_accuracy"`.
        every: `"batch"`, for the loss alone, or `"epoch"`; None for batches with `monitor="loss"` and for epochs otherwise.
        mode: `"min"` if lower values are better, `"max"` if higher ones are, `"auto"` to go by the metric's name.
        path: A small file, to be kept beside the weights, with the state that the next epoch begins with. A `fit` that finds it
            goes on from there: see `docs/keras.md`. None for no file.

    Raises:
        TypeError: The policy is not one.
        ValueError: A setting is outside its range, the metric's direction is not known or not that of the policy, or the policy
            needs to see more than losses.
    """

    def __init__(
        self,
        policy: Policy[Any],
        monitor: str = "loss",
        *,
        every: Literal["batch", "epoch"] | None = None,
        mode: Literal["auto", "min", "max"] = "auto",
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        checks.policy("policy", policy)
        policy.update(policy.init(), 1.0)  # One that needs signals says so here.
        checks.one_of("mode", mode, ("auto", "min", "max"))
        self.policy, self.monitor = policy, monitor
        self.every = ("batch" if monitor == "loss" else "epoch") if every is None else every
        checks.one_of("every", self.every, ("batch", "epoch"))
        if self.every == "batch" and monitor != "loss":
            raise ValueError(f'{monitor} is known once an epoch, and only the loss of every batch is (say every="epoch")')
        self._sign = _sign(monitor, policy, mode)
        self._file = None if path is None else EpochFile(path)
        self._bases: list[float] | None = None
        self._optimizers: list[Any] | None = None
        self._begin(policy.init(), 0)
        self._losses = RunningMean()
        self._listeners: list[Callable[[Change], None]] = []
        self._is_begun = self._has_missed = False

    @property
    def state(self) -> Any:
        """The policy's state."""
        return self._runner.state

    def get_state(self) -> dict[str, Any]:
        """A snapshot of what changes in a run, and of the base rates, in plain containers; no settings are part of it."""
        return {"state": plain(self.state), "updates": self._updates, "bases": self._bases}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was called, with this callback's own policy, from the next epoch on.

        Raises:
            ValueError: The snapshot does not fit the policy: it is another's, or that of other settings.
        """
        missing = {"state", "updates", "bases"} - set(state)
        if missing:
            raise ValueError(f"this is no snapshot of a PolicyCallback: it lacks {', '.join(sorted(missing))}")
        self._begin(restored(self.policy.init(), state["state"], self.policy), state["updates"])
        self._bases, self._optimizers = state["bases"], None

    def on_change(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Have `listener(change)` called after every decision, when the new rates are set.

        Returns:
            A function that takes the listener off again.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def set_model(self, model: Any) -> None:
        """Called by Keras before any callback has begun, so that the rates are still those that the model was compiled with."""
        super().set_model(model)
        optimizers = _optimizers(model)
        if self._optimizers is not None and list(map(id, self._optimizers)) != list(map(id, optimizers)):
            self._begin(self.policy.init(), 0)  # Another training, with a base of its own.
            self._bases = None
        self._optimizers = optimizers
        rates = [_settable(optimizer) for optimizer in optimizers]
        self._bases = rates if self._bases is None else self._bases

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras; all callbacks of one `fit` share its `params`."""
        del logs
        if self.params is not None and self.params.setdefault(_CLAIM, 0):
            raise ValueError("a policy must set the rate alone, got two surefoot callbacks in one fit (leave one of them out)")
        if self.params is not None:
            self.params[_CLAIM] = 1
        self._thread, self._is_begun = threading.get_ident(), False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras: set the rates, whatever else has been restored since."""
        del logs
        if not self._is_begun:
            self._is_begun = True
            if self.params is not None:
                self.params.pop(_CLAIM, None)
            if self._file is not None and self._file.epochs():
                self.set_state(self._file.at(epoch))
            elif self._file is not None:
                self._file.keep(epoch, self.get_state())
        self._losses.start()
        self._write()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        del batch, logs
        self._losses.mend()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras: tell the policy the loss of the batch."""
        del batch
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "Keras calls a callback that is not in a list from other threads, out of order (say "
                f"fit(..., callbacks=[{type(self).__name__}(...)]))"
            )
        if self.every == "batch":
            self._advance(self._losses.take(self.model, logs or {}))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras: add to the logs, tell the policy the metric of the epoch, and write the file."""
        logs = {} if logs is None else logs
        found = logs.get(self.monitor)
        logs.update(self._rates(), scale=float(self._scale))
        if self.every == "epoch" and found is not None:
            self._advance(found)
        elif self.every == "epoch":
            self._warn(epoch, logs)
        if self._file is not None:
            self._file.keep(epoch + 1, self.get_state())

    def _begin(self, state: Any, updates: int) -> None:
        self._runner: Runner = runner(self.policy, state)
        self._scale, self._updates = state.scale, updates

    def _advance(self, value: float) -> None:
        before, self._updates = self._scale, self._updates + 1
        self._scale = scale = self._runner.advance(self._sign * value)
        if scale == before:
            return
        self._write()
        if reason := self._runner.why():
            rates = tuple(base * scale for base in self._bases or ())
            change = Change(self._updates, before, scale, reason, value, rates)
            _log.info("step %d: %s, scale %.4g, rate %.4g", change.step, reason, scale, rates[0], extra={"surefoot": change})
            for listener in tuple(self._listeners):
                listener(change)

    def _write(self) -> None:
        # By way of `self.model`, which on JAX brings the optimizer's variables up to date first.
        for optimizer, base in zip(_optimizers(self.model), self._bases or (), strict=True):
            optimizer.learning_rate = base * self._scale

    def _rates(self) -> dict[str, float]:
        """The rates as they are, under the names that Keras's own callbacks log them by."""
        optimizers = _optimizers(self.model)
        if len(optimizers) == 1:
            return {"learning_rate": float(optimizers[0].learning_rate)}
        return {f"learning_rate_{optimizer.name}": float(optimizer.learning_rate) for optimizer in optimizers}

    def _warn(self, epoch: int, logs: dict[str, Any]) -> None:
        if not self._has_missed:
            self._has_missed = True
            message = (
                f"epoch {epoch} has no {self.monitor} among its logs ({', '.join(logs)}), so that the policy is told nothing; "
                "name one of them by `monitor`, or hand validation_data to fit if one of it is meant"
            )
            warnings.warn(message, UserWarning, stacklevel=2)


class GreedyLR(PolicyCallback):
    """Raise the rate while the loss keeps improving, lower it when it stops: `PolicyCallback` with a `Greedy` policy.

    >>> GreedyLR(window=20, patience=5).policy.window
    20

    Args:
        monitor, every, path: See `PolicyCallback`.
        **settings: Those of `surefoot.Greedy`, or what transformers' GreedyLR calls them, but for absolute limits.

    Raises:
        TypeError: There is no such setting, or one is not a number where one is needed.
        ValueError: A setting is outside its range, or is named in both spellings.
    """

    def __init__(
        self,
        monitor: str = "loss",
        *,
        every: Literal["batch", "epoch"] | None = None,
        path: str | os.PathLike[str] | None = None,
        **settings: Unpack[GreedySettings],
    ) -> None:
        if {"min_lr", "max_lr"} & settings.keys():
            raise TypeError("min_lr and max_lr are absolute, and the base rate is not known yet (say min_scale and max_scale)")
        mode = settings.pop("mode", "auto")  # What it says of a policy, Keras's callbacks say of a metric.
        super().__init__(spelling.greedy(settings, ()), monitor, every=every, mode=mode, path=path)


def _sign(monitor: str, policy: Any, mode: str) -> float:
    """What the metric is multiplied by so that the policy takes better values for better."""
    known = direction.lower_is_better(monitor)
    if known is None and mode == "auto":
        raise ValueError(f'whether a higher {monitor} is better cannot be told from its name (say mode="min" or mode="max")')
    if mode != "auto" and known is not None and known != (mode == "min"):
        better = "lower" if known else "higher"
        raise ValueError(f'{better} values of {monitor} are better, got mode="{mode}" (leave it out)')
    return direction.signed(monitor, policy, {"auto": None, "min": False, "max": True}[mode])


def _optimizers(model: Any) -> list[Any]:
    """Those that a model is trained with, each with a rate of its own."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # That of a LossScaleOptimizer.
    return list(getattr(optimizer, "optimizers", [optimizer]))


def _settable(optimizer: Any) -> float:
    """The optimizer's rate, if it can be set."""
    try:
        rate = float(optimizer.learning_rate)
        optimizer.learning_rate = rate
    except (TypeError, AttributeError) as error:
        raise TypeError(
            f"a policy sets the rate itself, so {type(optimizer).__name__} must be made with a number, got a schedule (say "
            f"{type(optimizer).__name__}(learning_rate=1e-3), or leave the callback out)"
        ) from error
    return rate
