"""The tasks of the comparison: frozen definitions, read from a file that people can read, too."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot import checks
from surefoot.contest import optimizers, sources
from surefoot.nmf import Factorisation

if TYPE_CHECKING:
    from torch import nn

    from surefoot.networks import Network

ROLES = ("test", "development")
FIELDS = ("vision", "language", "tabular", "factorisation")
MODELS = ("perceptron", "normed-perceptron", "convolutions", "normed-convolutions", "factorisation")
LOSSES = ("cross-entropy", "squared error")


@dataclass(frozen=True)
class ContestTask:
    """What is trained: data, model, batch size, loss and budget.

    Attributes:
        name: Lower-case words with hyphens.
        role: One of `ROLES`: "test", or "development" for choosing defaults.
        field: One of `FIELDS`.
        data: One of `surefoot.contest.sources.NAMES`.
        held_out: Rows of the data that are held out, 1 or more; which, a fixed seed decides.
        model: One of `MODELS`.
        sizes: Of a perceptron, the widths of its hidden layers, perhaps none; of convolutions, the pixels in a row and the two
            numbers of filters; of a factorisation, its rank.
        batch_size: Rows in a batch, 1 or more.
        loss: One of `LOSSES`: the first for networks, the second for factorisations.
        steps: The budget in optimizer steps, 1 or more.
        needs: Debian packages and Python packages that the data come from.

    Raises:
        ValueError: A setting is outside its range.
        TypeError: A setting is of the wrong kind.
    """

    name: str
    role: str
    field: str
    data: str
    held_out: int
    model: str
    sizes: tuple[int, ...]
    batch_size: int
    loss: str
    steps: int
    needs: tuple[str, ...]

    def __post_init__(self) -> None:
        _words("name", self.name)
        for key, allowed in _ALLOWED.items():
            checks.one_of(key, getattr(self, key), allowed)
        for key in ("held_out", "batch_size", "steps"):
            checks.whole(key, getattr(self, key), low=1)
        for key in ("sizes", "needs"):
            if not isinstance(getattr(self, key), tuple):
                raise TypeError(f"{key} must be a list, got {getattr(self, key)!r}")
        for size in self.sizes:
            checks.whole("sizes", size, low=1)
        for need in self.needs:
            _words("needs", need)
        count = {"convolutions": 3, "normed-convolutions": 3, "factorisation": 1}.get(self.model, len(self.sizes))
        if len(self.sizes) != count:
            raise ValueError(f"sizes must be {count} for the model {self.model}, got {list(self.sizes)}")
        loss = LOSSES[self.model == "factorisation"]
        if self.loss != loss:
            raise ValueError(f"loss must be {loss!r} for the model {self.model}, got {self.loss!r}")

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The cells that schedules are compared in on this task; a factorisation has `sgd` alone."""
        return ("sgd",) if self.model == "factorisation" else optimizers.CELLS

    def problem(self, optimizer: str = "sgd") -> Network | Factorisation:
        """The task under an optimizer, with the optimizer's default rate as its base; for a factorisation, its own.

        Nothing is read yet.

        Args:
            optimizer: One of `surefoot.contest.optimizers.OPTIMIZERS`; for a factorisation, `sgd`.

        Raises:
            ValueError: The task cannot be trained by an optimizer of this name.
            ModuleNotFoundError: The optimizer's package is not installed.
        """
        if self.model == "factorisation":
            checks.one_of("optimizer", optimizer, self.optimizers)
            load = partial(sources.matrix, self.data, self.held_out)
            return Factorisation(self.name, load, steps=self.steps, rank=self.sizes[0], batch_size=self.batch_size)
        chosen = optimizers.find(optimizer)
        if sentence := chosen.missing():
            raise ModuleNotFoundError(sentence)
        from surefoot.networks import Network

        return Network(
            self.name,
            optimizer,
            chosen.rate,
            self.steps,
            self.batch_size,
            partial(sources.load, self.data, self.held_out),
            partial(_build, self.data, self.held_out, self.model, self.sizes),
            made=chosen.make,
        )

    def missing(self) -> str | None:
        """A sentence that says which data are not on this machine and how to get them; None if all are there."""
        found = [sentence for need in self.needs if (sentence := sources.missing(need))]
        return f"{self.name}: {'; '.join(found)}" if found else None


def load(path: str | Path | None = None) -> tuple[ContestTask, ...]:
    """The tasks of a file, in its order; those of the comparison if None.

    >>> [task.name for task in load() if task.role == "development"][:2]
    ['digits-mlp', 'digits-cnn']

    Raises:
        ValueError: The file cannot be read, or a key of a task is missing, unknown, or wrong; the sentence names the place.
    """
    place = files("surefoot.contest") / "tasks.toml" if path is None else Path(path)
    try:
        entries = tomllib.loads(place.read_text(encoding="utf-8")).get("task")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{place} must be a readable file of tasks in TOML, got {error}") from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{place} must hold one [[task]] or more, got {'none' if not entries else repr(entries)}")
    tasks = tuple(_task(str(place), number, entry) for number, entry in enumerate(entries, 1))
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{place}: the name of every task must be its own, got {name!r} {names.count(name)} times")
    return tasks


def _task(place: str, number: int, entry: dict[str, Any]) -> ContestTask:
    where = f"{place}: task {entry.get('name', number)!r}"
    keys = [field.name for field in fields(ContestTask)]
    for key in keys:
        if key not in entry:
            raise ValueError(f"{where} must have the key {key!r}, got none")
    for key in entry:
        if key not in keys:
            raise ValueError(f"{where} must have no keys but {', '.join(keys)}, got {key!r}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    try:
        return ContestTask(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def _words(key: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{key} must be text, got {value!r}")


def _build(data: str, held_out: int, model: str, sizes: tuple[int, ...]) -> nn.Module:
    from surefoot.models import convolutions, perceptron

    split = sources.load(data, held_out)
    inputs, classes = split.train_x.shape[1], int(split.train_y.max()) + 1
    normed = model.startswith("normed-")
    if model.endswith("convolutions"):
        return convolutions(sizes[0], (sizes[1], sizes[2]), classes, batch_norm=normed)
    return perceptron(inputs, sizes, classes, batch_norm=normed)


_ALLOWED = {"role": ROLES, "field": FIELDS, "data": sources.NAMES, "model": MODELS, "loss": LOSSES}
