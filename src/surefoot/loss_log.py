"""Losses that somebody has already: read from the files that trainings and trackers leave behind."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNALS = ("alignment", "relative_step", "bound", "progress")
LOSSES = ("loss", "train_loss", "train/loss", "train_loss_step", "training_loss", "Loss/train", "loss/train")
"""How a training loss is called, what is most certainly one first."""
RATES = ("rate", "lr", "learning_rate", "train/learning_rate", "surefoot/rate", "train/lr")
STEPS = ("step", "Step", "_step", "global_step", "train/global_step", "trainer/global_step")
_OTHER_LOSSES = ("eval", "val", "test", "__min", "__max")
_EVENTS = "events.out.tfevents"


class LossLog(NamedTuple):
    """Losses in their order, and what else is known of them.

    Attributes:
        name: Where it is from.
        steps: After how many optimizer steps each loss was noted, or else its place, from 1 on.
        losses: The losses.
        rates: The rate at each of them; None if it is not known.
        signals: Further measurements by name.
    """

    name: str
    steps: list[int]
    losses: list[float]
    rates: list[float] | None
    signals: dict[str, list[float]]


def read(path: str | Path, *, column: str | None = None, tag: str | None = None) -> LossLog:
    """A log from a file or a folder, in one of these forms.

    - Comma-separated values, as scripts write them and as MLflow and W&B export them, whose first line may name the columns;
      without names the first is the loss and the second the rate. Rows without a loss are left out.
    - JSON lines: objects with names, lists of loss and rate, or losses alone.
    - `trainer_state.json` of a Hugging Face Trainer, or a folder with it.
    - A folder of TensorBoard, or a file of its events.

    Args:
        path: The file or folder.
        column: The name of the loss among columns or keys; None for the usual ones.
        tag: The name of the loss in TensorBoard; None for the usual ones.

    Raises:
        ImportError: It is TensorBoard's, and `tensorboard` is not installed.
        OSError: It cannot be read.
        ValueError: There is no such file, a line cannot be read, or it is not clear which is the loss.
    """
    path = Path(path)
    if path.is_dir() and (path / "trainer_state.json").is_file():
        path = path / "trainer_state.json"
    if not path.exists():
        raise ValueError(f"there is no file {path}; name one with losses")
    if path.is_dir() or path.name.startswith(_EVENTS):
        from surefoot import tensorboard_log

        return tensorboard_log.read(path, tag)
    if tag is not None:
        raise ValueError(f"--tag names a loss in TensorBoard, and {path} is none of its folders (name a column with --column)")
    return _from_text(path, column)


def _from_text(path: Path, column: str | None) -> LossLog:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text, comma-separated values or JSON: {error}") from error
    history = _history(text) if text.lstrip().startswith("{") else None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    is_json = bool(lines) and (lines[0][0] in "{[" or path.suffix in {".json", ".jsonl"})
    if history is not None:
        rows: list[dict[str, Any]] = history
    elif is_json:
        rows = [_parsed(line, path, number) for number, line in enumerate(lines, 1)]
    else:
        rows = _separated(lines, path, column)
    if not rows:
        raise ValueError(f"{path} must hold a loss on each line, and it is empty")
    names = list(dict.fromkeys(name for row in rows for name in row))
    loss = chosen(names, column, str(path), what="columns", option="--column")
    # What is evaluated in between has rows of its own, and so has whatever else was logged.
    return _columns(path, [(number, row) for number, row in enumerate(rows, 1) if row.get(loss, "") != ""], names, loss)


def chosen(names: Sequence[str], asked: str | None, where: str, *, what: str, option: str) -> str:
    """The one of these names that is the training loss's.

    >>> chosen(["step", "train/loss", "eval/loss"], None, "a.csv", what="columns", option="--column")
    'train/loss'

    Raises:
        ValueError: There is none, or there are several.
    """
    if asked is not None:
        if asked in names:
            return asked
        raise ValueError(f"{where} has no {asked!r} among its {what}: {', '.join(names)}")
    for name in LOSSES:
        if name in names:
            return name
    likely = [name for name in names if "loss" in name.lower() and not any(word in name.lower() for word in _OTHER_LOSSES)]
    if len(likely) == 1:
        return likely[0]
    raise ValueError(
        f"the {what} of {where} must have names, one of them loss, or be losses and rates; got {', '.join(names) or 'none'} "
        f"(say with {option} which is the training loss)"
    )


def finite_rates(rates: Sequence[float] | None, where: str) -> list[float] | None:
    """The rates, if all can be ones.

    Raises:
        ValueError: One is not finite, or is below 0.
    """
    if rates is not None and not all(isfinite(rate) and rate >= 0.0 for rate in rates):
        raise ValueError(f"the rates of {where} must be finite and 0 or more (leave them out if they are not known)")
    return None if rates is None else list(rates)


def _columns(path: Path, rows: Sequence[tuple[int, dict[str, Any]]], names: Sequence[str], loss: str) -> LossLog:
    if not rows:
        raise ValueError(f"{path} must hold a loss on each line, and {loss} is empty on all")

    def whole(which: Sequence[str]) -> list[float] | None:
        """The first of these columns that every row has."""
        for name in which:
            if name in names and name != loss and all(row.get(name, "") not in {"", None} for _, row in rows):
                return [_number(row, name, path, number) for number, row in rows]
        return None

    losses = [_number(row, loss, path, number, is_loss=True) for number, row in rows]
    signals = {name: values for name in SIGNALS if (values := whole([name])) is not None}
    steps = whole(STEPS)
    places = [int(step) for step in steps] if steps and all(map(isfinite, steps)) else list(range(1, len(losses) + 1))
    return LossLog(path.name, places, losses, finite_rates(whole(RATES), str(path)), signals)


def _history(text: str) -> list[dict[str, Any]] | None:
    """The rows of a Trainer's state, if the text is one."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    history = found.get("log_history") if isinstance(found, dict) else None
    return [dict(row) for row in history if isinstance(row, Mapping)] if isinstance(history, list) else None


def _separated(lines: Sequence[str], path: Path, column: str | None) -> list[dict[str, Any]]:
    rows = list(csv.reader(lines))
    if rows and not _is_number(rows[0][0]):
        names = [name.strip() for name in rows[0]]
        return [dict(zip(names, row, strict=False)) for row in rows[1:]] or [dict.fromkeys(names, "")]
    if rows and column is not None:
        raise ValueError(f"the first line of {path} must name its columns for {column!r} to be one, got {lines[0][:60]!r}")
    return [dict(zip(("loss", "rate"), row, strict=False)) for row in rows]


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number} of {path} must be JSON, got {line[:60]!r}") from error
    if isinstance(found, Mapping):
        return dict(found)
    return dict(zip(("loss", "rate"), found if isinstance(found, list) else [found], strict=False))


def _number(row: Mapping[str, Any], name: str, path: Path, number: int, *, is_loss: bool = False) -> float:
    value = row.get(name)
    if value is None and is_loss:
        return nan  # How JSON writes what is no number.
    if not _is_number(value):
        raise ValueError(f"row {number} of {path} must have a number for {name}, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)
