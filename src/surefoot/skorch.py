"""Policies in skorch: a callback that sets the rate of a net's optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from skorch.callbacks import Callback, Checkpoint
except ImportError as missing:
    raise ImportError("surefoot.skorch needs skorch (pip install 'surefoot[skorch]')") from missing

from surefoot import checks
from surefoot.direction import signed
from surefoot.torch import PolicyLR

if TYPE_CHECKING:
    from surefoot.changes import Change
    from surefoot.policy import Policy

__all__ = ["PolicyCallback"]

_KEY = "surefoot"
"""Where the schedule is kept in the first group of an optimizer's checkpoint."""


class PolicyCallback(Callback):  # type: ignore[misc] # skorch has no types.
    """Let a policy set the learning rate of a skorch net, by the loss of every batch or by a metric of every epoch.

    The schedule is saved with the net's optimizer, so by skorch's `Checkpoint` and `save_params`, and with a pickled net.

    The history has the rate and the scale to go on with in every epoch's row, and every change with its reason in the row of
    its batch. Trackers read epochs from there, and `event_surefoot`, the reason of the epoch's last change, is a mark in the
    printed table.

    >>> import numpy as np, torch
    >>> from skorch import NeuralNetRegressor
    >>> from surefoot import Greedy
    >>> callback = PolicyCallback(Greedy(factor=0.5, patience=0, window=1))
    >>> net = NeuralNetRegressor(torch.nn.Linear, module__in_features=2, module__out_features=1, lr=0.01, max_epochs=2,
    ...                          verbose=0, train_split=None, callbacks=[callback])
    >>> ones = np.ones((8, 2), "float32")
    >>> history = net.fit(ones, ones[:, :1]).history
    >>> history[:, "surefoot/rate"], history[-1, "event_surefoot"]
    ([0.02, 0.04], 'raised: 1 better in a row')

    Attributes:
        policy: Any policy.
        monitor: A column of the history to go by once an epoch, such as `"valid_loss"`; None for the loss of every batch.
        greater_is_better: Whether higher values of `monitor` are better; None to go by its name.

    Raises:
        TypeError: The policy is not one.
    """

    def __init__(self, policy: Policy[Any], monitor: str | None = None, greater_is_better: bool | None = None) -> None:
        checks.policy("policy", policy)
        self.policy = policy
        self.monitor = monitor
        self.greater_is_better = greater_is_better

    def initialize(self) -> PolicyCallback:
        """Called by skorch when a net begins anew."""
        self.scheduler_: PolicyLR | None = None
        self.state_: dict[str, Any] | None = None
        return self

    def on_train_begin(self, net: Any, **_others: Any) -> None:
        """Called by skorch when a training begins or goes on."""
        self._check_place([callback for _, callback in net.callbacks_])
        self.sign_ = 1.0 if self.monitor is None else signed(self.monitor, self.policy, self.greater_is_better)
        if self.scheduler_ is None or self.scheduler_.optimizer is not net.optimizer_:
            self.scheduler_ = PolicyLR(net.optimizer_, self.policy)
            self.scheduler_.on_change(lambda change: self._record(net, change))
            net.optimizer_.register_state_dict_post_hook(self._save)
            if self.state_ is not None:
                self.scheduler_.load_state_dict(self.state_)

    def on_epoch_begin(self, net: Any, **_others: Any) -> None:
        """Called by skorch; by now a `LoadInitState` has loaded its checkpoint, too."""
        assert self.scheduler_ is not None
        self.reason_: str | bool = False
        loaded = net.optimizer_.param_groups[0].pop(_KEY, None)
        if loaded is not None:
            self.scheduler_.load_state_dict(loaded)

    def on_batch_end(self, net: Any, training: bool, loss: Any = None, **_others: Any) -> None:
        """Called by skorch after the optimizer's step."""
        del net
        if training and self.monitor is None:
            self.scheduler_.step(loss)  # type: ignore[union-attr] # It was made when the training began.

    def on_epoch_end(self, net: Any, **_others: Any) -> None:
        """Called by skorch."""
        assert self.scheduler_ is not None
        row = net.history[-1]
        if self.monitor is not None:
            if self.monitor not in row:
                known = ", ".join(name for name, value in row.items() if isinstance(value, float) and name != "dur")
                raise ValueError(
                    f"there is no {self.monitor} in this epoch's history, but {known} (an EpochScoring must stand before)"
                )
            self.scheduler_.step(self.sign_ * float(row[self.monitor]))
        net.history.record("surefoot/rate", float(self.scheduler_.get_last_lr()[0]))
        net.history.record("surefoot/scale", float(self.scheduler_.state.scale))
        net.history.record("event_surefoot", self.reason_)

    def __getstate__(self) -> dict[str, Any]:
        """Without the scheduler, whose optimizer the net saves itself."""
        scheduler = getattr(self, "scheduler_", None)
        saved = {} if scheduler is None else {"scheduler_": None, "state_": scheduler.state_dict()}
        return {**vars(self), **saved}

    def _check_place(self, callbacks: list[Any]) -> None:
        count = sum(isinstance(callback, PolicyCallback) for callback in callbacks)
        if count > 1:
            raise ValueError(f"this net has {count} PolicyCallbacks, which would all set its rate (keep one)")
        before = callbacks[: callbacks.index(self)]
        if self.monitor is not None and any(isinstance(callback, Checkpoint) for callback in before):
            raise ValueError("a Checkpoint before the PolicyCallback would save an epoch without its step (put it behind)")

    def _save(self, optimizer: Any, saved: dict[str, Any]) -> None:
        del optimizer
        assert self.scheduler_ is not None
        saved["param_groups"][0][_KEY] = self.scheduler_.state_dict()

    def _record(self, net: Any, change: Change) -> None:
        self.reason_ = change.reason
        if self.monitor is None:
            for name, value in change.told().items():
                net.history.record_batch(name, value)
