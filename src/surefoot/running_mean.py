"""The losses of single batches, out of the mean over an epoch that Keras keeps."""

from __future__ import annotations

from math import isfinite
from typing import Any


class RunningMean:
    """What every batch added to a model's mean loss.

    Keras tells its callbacks the mean over the epoch so far. The metric behind it holds two sums, `total` and `count`, of the
    losses times the sizes of their batches and of those sizes, and what they grew by is the batch's own. They are in float32:
    after n batches a loss is known to about n parts in ten million.
    """

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """An epoch begins, and with it a new mean."""
        self._total = self._count = 0.0
        self._spoiled: Any = None

    def take(self, model: Any, logs: dict[str, Any]) -> float:
        """The mean loss of what was added last."""
        mean = self._mean(model)
        if mean is None:  # A `train_step` of the user's own, which returned the batch's loss itself.
            if "loss" not in logs:
                raise ValueError(
                    f'train_step must return a loss, got {", ".join(logs)} (or name one of them, with every="epoch")'
                )
            return float(logs["loss"])
        total, count = float(mean.total), float(mean.count)
        loss = (total - self._total) / (count - self._count)
        if isfinite(total):
            self._total, self._count = total, count
        else:
            self._spoiled = mean
        return loss

    def mend(self) -> None:
        """Leave a loss that was not finite out of the mean, now that another batch follows.

        It would hide all others until the end of the epoch. If none follows, or they are no better, the mean says so.
        """
        if self._spoiled is not None:
            self._spoiled.total.assign(self._total)
            self._spoiled.count.assign(self._count)
            self._spoiled = None

    def _mean(self, model: Any) -> Any:
        """The last metric of that name that something was added to: a model's own come after those that Keras makes."""
        means = [metric for metric in model.metrics if metric.name == "loss" and hasattr(metric, "total")]
        return next((mean for mean in reversed(means) if float(mean.count) > self._count), None)
