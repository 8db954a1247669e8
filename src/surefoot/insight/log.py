"""What there is to explain: a run of a store, or a log of losses from anywhere."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot import lineup, spec
from surefoot.learned import Learned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surefoot.runs import Run, Store, Trial

_SIGNALS = ("alignment", "relative_step", "bound", "progress")
_SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Log:
    """Losses in their order, and what else is known of the steps.

    Attributes:
        name: Where it is from.
        losses: The loss of every step.
        rates: The rate of every step; None if it is not known.
        signals: Further measurements by name.
        trial: What was trained, if it is a run of a store.
    """

    name: str
    losses: list[float]
    rates: list[float] | None = None
    signals: dict[str, list[float]] = field(default_factory=dict)
    trial: Trial | None = None

    @property
    def driver(self) -> Learned | None:
        """The learned policy that set the rates, if one did."""
        made = None if self.trial is None else driver_of(self.trial)
        return made if isinstance(made, Learned) else None


def from_file(path: str | Path) -> Log:
    """A log from a file of comma-separated values or of JSON, one line for each step.

    The first line of comma-separated values may name the columns, `loss`, `rate` and signals such as `alignment`, among any
    others; without names the first is the loss and the second the rate. A line of JSON is an object with these names, a list
    of loss and rate, or the loss alone.

    Raises:
        ValueError: A line cannot be read, or there is no loss.
        OSError: The file cannot be read.
    """
    path = Path(path)
    lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    is_json = bool(lines) and (lines[0][0] in "{[" or path.suffix in {".json", ".jsonl"})
    rows = [_parsed(line, path, number) for number, line in enumerate(lines, 1)] if is_json else _separated(lines, path)
    if not rows:
        raise ValueError(f"{path} must hold a loss on each line, and it is empty")
    losses = [_number(row, "loss", path, number) for number, row in enumerate(rows, 1)]
    every = {name for name in ("rate", *_SIGNALS) if all(name in row for row in rows)}
    columns = {name: [_number(row, name, path, number) for number, row in enumerate(rows, 1)] for name in every}
    rates = columns.pop("rate", None)
    if rates is not None and not all(isfinite(rate) and rate >= 0.0 for rate in rates):
        raise ValueError(f"the rates of {path} must be finite and 0 or more (leave the column out if they are not known)")
    return Log(path.name, losses, rates, columns)


def from_store(store: Store, wanted: str) -> Log:
    """The run of that key, of a prefix that no other has, or of `problem/policy/seed`.

    Raises:
        ValueError: There is no such run, or more than one.
    """
    found = [run for run in store if _is_meant(run.trial, wanted)]
    if len(found) != 1:
        near = [f"{run.trial.key[:12]} ({named(run.trial)})" for run, _ in zip(found or store, range(3), strict=False)]
        held = ", ".join(near) or "nothing"
        count = f"{len(found)} runs are" if found else "no run is"
        raise ValueError(
            f"{count} called {wanted!r} in {store.path}; name one by problem/policy/seed or by its key, such as {held}"
        )
    return of_run(found[0])


def of_run(run: Run) -> Log:
    """A run of a store as a log."""
    signals = {name: values.tolist() for name, values in run.signals.items()}
    return Log(named(run.trial), run.loss.tolist(), run.rate.tolist(), signals, run.trial)


def named(trial: Trial) -> str:
    """What a run is called: problem, policy and seed.

    >>> from surefoot.runs import Trial
    >>> named(Trial("wine-mlp", 1, "sgd", {"is": "Constant"}, 0.1, 300, 20, 4, ""))
    'wine-mlp/constant/4'
    """
    return f"{trial.problem}/{_label(trial)}/{trial.seed}"


def driver_of(trial: Trial) -> Any:
    """The policy that set a run's rates."""
    if trial.policy.get("is") == "Explored":  # It brings all that learning needs along.
        from surefoot.learn.explored import Explored

        return spec.from_dict(trial.policy, known=(Explored,))
    return spec.from_dict(trial.policy)


def _label(trial: Trial) -> str:
    made = driver_of(trial)
    return made.name if isinstance(made, Learned) else lineup.label(made, trial.steps)


def _is_meant(trial: Trial, wanted: str) -> bool:
    is_prefix = len(wanted) >= _SHORTEST_PREFIX and trial.key.startswith(wanted.lower())
    return is_prefix or wanted == named(trial)


def _separated(lines: Sequence[str], path: Path) -> list[dict[str, Any]]:
    rows = list(csv.reader(lines))
    if rows and "loss" in (names := [name.strip() for name in rows[0]]):
        return [dict(zip(names, row, strict=False)) for row in rows[1:]]
    if rows and not _is_number(rows[0][0]):
        raise ValueError(
            f"the columns of {path} must be named, one of them loss, or be losses and rates; got {lines[0][:60]!r}"
        )
    return [dict(zip(("loss", "rate"), row, strict=False)) for row in rows]


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number} of {path} must be JSON, got {line[:60]!r}") from error
    if isinstance(found, Mapping):
        return dict(found)
    return dict(zip(("loss", "rate"), found if isinstance(found, list) else [found], strict=False))


def _number(row: Mapping[str, Any], name: str, path: Path, number: int) -> float:
    value = row.get(name)
    if value is None and name in row and name != "rate":
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
