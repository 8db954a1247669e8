"""Losses from TensorBoard's files of events."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from surefoot.loss_log import RATES, LossLog, chosen, finite_rates

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, tag: str | None = None) -> LossLog:
    """The scalars of a tag, and the rate if one is there.

    Args:
        path: A folder with events, or one file of them.
        tag: The tag of the loss; None for the usual ones.

    Raises:
        ImportError: `tensorboard` is not installed.
        ValueError: There are no scalars, or it is not clear which is the loss.
    """
    events = _events(path)
    tags: list[str] = sorted(events.Tags()["scalars"])
    if not tags:
        raise ValueError(f"{path} must be a folder of TensorBoard with scalars in it, and there are none")
    loss = chosen(tags, tag, str(path), what="tags", option="--tag")
    rows = events.Scalars(loss)
    rate = next((name for name in tags if name in RATES or name.startswith("lr-") or "learning_rate" in name), None)
    rates = None if rate is None else _at([row.step for row in rows], events.Scalars(rate))
    return LossLog(path.name, [row.step for row in rows], [row.value for row in rows], finite_rates(rates, str(path)), {})


def _events(path: Path) -> Any:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise ImportError(f"{path} is read by TensorBoard, which is not installed: pip install tensorboard") from error
    events = EventAccumulator(str(path), size_guidance={"scalars": 0})  # All of them; its own choice is 10,000.
    events.Reload()
    return events


def _at(steps: list[int], rows: Any) -> list[float]:
    """The rate at each step: the last that was noted until then, or the first of all."""
    noted = [row.step for row in rows]
    return [rows[max(bisect_right(noted, step) - 1, 0)].value for step in steps]
