"""Learned policies as files: the weights of a small network, and a card that says what they are and where they come from.

`NAME.safetensors` holds the weights and `NAME.json` the card, with the checksum of the first. Both are data: nothing in them is
ever executed. Those that come with surefoot lie in its folder `policies`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from importlib import resources
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import checks, whole
from surefoot.control import Control
from surefoot.features import TIERS, Features
from surefoot.perceptron import Perceptron
from surefoot.spec import to_dict
from surefoot.timed import Constant, Linear, Polynomial, WarmupStableDecay
from surefoot.waves import Cosine, OneCycle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable

    from surefoot.policy import Policy

FORMAT = 1
"""The format of the files that this version writes, and the only one that it reads."""

LARGEST = 1_000_000
"""Bytes that either file may have at most; the policies that come with surefoot have a few thousand."""

_KINDS = {
    **dict.fromkeys(("name", "description", "tier", "surefoot", "sha256"), str),
    **dict.fromkeys(("schedule", "training"), dict),
    "bound": bool,
}
_SCHEDULES = {kind.__name__: kind for kind in (Constant, Cosine, Linear, OneCycle, Polynomial, WarmupStableDecay)}
_ACTS = ("first", "rise", "cut", "alarm", "rescue", "warmup", "begin", "settle")
_ENDINGS = (".safetensors", ".json")


class PolicyFileError(ValueError):
    """A file is not that of a policy, or not of one that this version can follow."""


@dataclass(frozen=True)
class Card:
    """All that there is to a learned policy but the weights.

    Attributes:
        name: What it is called.
        description: What it is for, in a sentence.
        window, tier, bound: What it sees: see `surefoot.features.Features`.
        inputs: The names of what it sees, in the network's order.
        layers: Sizes of the network, from the inputs to the one output.
        schedule: What it corrects where the budget is known, as `surefoot.spec.to_dict` writes it, but without `steps`.
        first, rise, cut, alarm, rescue, warmup, begin, settle: How it acts: see `surefoot.control.Control`.
        training: Where it comes from: the command, the seed, what it was trained on and for how long.
        judged: What it was measured to be worth, problem by problem; empty before it was.
        surefoot: The version that it was trained with.
        sha256: Checksum of the file of weights; `write` fills it in.
        format: Of the files.

    Raises:
        TypeError: An entry is not of its kind.
        ValueError: An entry is outside its range, or this version knows nothing of that name.
    """

    name: str
    description: str
    window: int
    tier: str
    bound: bool
    inputs: tuple[str, ...]
    layers: tuple[int, ...]
    schedule: dict[str, Any]
    first: tuple[int, ...]
    rise: float
    cut: float
    alarm: float
    rescue: float
    warmup: int = 0
    begin: float = 1.0
    settle: int | None = None
    training: dict[str, Any] = field(default_factory=dict)
    judged: tuple[dict[str, Any], ...] = ()
    surefoot: str = ""
    sha256: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        for name in ("inputs", "layers", "first", "judged"):
            object.__setattr__(self, name, _tuple(name, getattr(self, name)))
        for name, kind in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}")
        known = Features(tier=TIERS[-1], bound=True).names
        if unknown := [name for name in self.inputs if name not in known]:
            raise ValueError(f"this version of surefoot knows no feature {unknown[0]!r}; it knows {', '.join(known)}")
        if self.inputs != self.features.names:
            raise ValueError(
                f"the inputs of tier {self.tier!r} {'with' if self.bound else 'without'} the bound must be "
                f"{', '.join(self.features.names)}, got {', '.join(self.inputs)}"
            )
        for size in self.layers:
            checks.whole("layers", size, low=1)
        if len(self.layers) < 2 or (self.layers[0], self.layers[-1]) != (len(self.inputs), 1):  # noqa: PLR2004 - in and out
            raise ValueError(
                f"layers must begin with the number of inputs, {len(self.inputs)}, and end with one output, got {self.layers}"
            )
        self.control(steps=1)

    @classmethod
    def of(cls, control: Control, *, hidden: Sequence[int], **said: Any) -> Card:
        """The card of a network in this control.

        Args:
            control: With a budget that is known, if it may ever be.
            hidden: Sizes of the network's hidden layers.
            **said: All that the control does not say: `name`, `description`, `training` and so on.
        """
        features = control.features
        schedule = {key: value for key, value in to_dict(control.schedule).items() if key != "steps"}
        acts: dict[str, Any] = {name: getattr(control, name) for name in _ACTS}
        sees: dict[str, Any] = {name: getattr(features, name) for name in ("window", "tier", "bound")}
        said |= {"inputs": features.names, "schedule": schedule}
        return cls(layers=(len(features.names), *hidden, 1), **acts, **sees, **said)

    @property
    def features(self) -> Features:
        """What it sees."""
        return Features(window=self.window, tier=self.tier, bound=self.bound)

    def control(self, steps: int | None) -> Control:
        """All that the network has its place in.

        Args:
            steps: The budget, which the schedule is made for; None if it is not known, for a constant.
        """
        return Control(
            features=self.features,
            schedule=Constant() if steps is None else self._schedule(steps),
            steps=steps,
            **{name: getattr(self, name) for name in _ACTS},
        )

    def _schedule(self, steps: int) -> Policy[Any]:
        settings = dict(self.schedule)
        name = settings.pop("is", None)
        if name not in _SCHEDULES:
            raise ValueError(f"the schedule must be one of {', '.join(_SCHEDULES)}, got {name!r}")
        made: Policy[Any] = _SCHEDULES[name](**settings if name == "Constant" else settings | {"steps": steps})
        return made

    def to_json(self) -> str:
        """The card as text."""
        data = asdict(self) | {"alarm": None if self.alarm == inf else self.alarm}
        return json.dumps(data, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """The card that `to_json` wrote.

        Raises:
            ValueError: The text is no card.
            TypeError: An entry is not of its kind.
        """
        data = json.loads(text, parse_constant=_no_number)
        if not isinstance(data, dict):
            raise TypeError(f"a card must be an object with names and values, got a {type(data).__name__}")
        if data.get("format", FORMAT) != FORMAT:
            raise ValueError(f"it has format {data['format']!r}, and this version of surefoot reads {FORMAT}; try a newer one")
        names = {entry.name for entry in fields(cls)}
        if names != set(data):
            lacks, strange = ", ".join(sorted(names - set(data))), ", ".join(sorted(set(data) - names))
            raise ValueError(f"it lacks {lacks or 'nothing'}, and has {strange or 'nothing'} that no card has")
        return cls(**data | {"alarm": inf if data["alarm"] is None else data["alarm"]})


def shipped() -> tuple[str, ...]:
    """The names of the policies that come with surefoot."""
    folder = _folder()
    files = folder.iterdir() if folder.is_dir() else ()
    return tuple(sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json")))


def read(name: str | os.PathLike[str]) -> tuple[Perceptron, Card]:
    """A policy that comes with surefoot, or one from a file.

    Args:
        name: One of `shipped()`, or the path of either of a policy's files, with or without its ending.

    Raises:
        PolicyFileError: There is no such policy, or it is damaged or not one that this version can follow.
    """
    weights, card = _files(os.fspath(name))
    text, data = _bytes(card), _bytes(weights)
    try:
        about = Card.from_json(text.decode("utf-8"))
    except (TypeError, ValueError, RecursionError) as error:
        raise PolicyFileError(f"{card} is no card of a learned policy: {error}") from error
    if (found := sha256(data).hexdigest()) != about.sha256:
        raise PolicyFileError(
            f"{weights} must have the checksum that its card names, {about.sha256[:12]}..., got {found[:12]}... "
            "(it was damaged, or belongs to another card)"
        )
    return _perceptron(weights, data, about), about


def write(path: str | os.PathLike[str], perceptron: Perceptron, card: Card) -> Card:
    """Write both files of a policy, each whole or not at all; the card last, so that no old one fits new weights.

    Args:
        path: Where, with or without an ending.
        perceptron: The network.
        card: What is to be said of it; the checksum is filled in.

    Returns:
        The card as it was written.

    Raises:
        ValueError: The network's sizes are not those on the card.
        OSError: There is no such folder, or it cannot be written to.
    """
    from safetensors.numpy import save

    if perceptron.sizes != card.layers:
        raise ValueError(f"the network must have the sizes that its card names, {card.layers}, got {perceptron.sizes}")
    data = save(_tensors(perceptron))
    card = replace(card, sha256=sha256(data).hexdigest())
    stem = _stem(os.fspath(path))
    for ending, content in zip(_ENDINGS, (data, card.to_json().encode()), strict=True):
        whole.write(stem + ending, content)
    return card


def _tensors(perceptron: Perceptron) -> dict[str, Any]:
    return {
        f"{place}.{part}": np.ascontiguousarray(array)
        for place, layer in enumerate(perceptron.layers)
        for part, array in zip(("weight", "bias"), layer, strict=True)
    }


def _perceptron(file: Traversable, data: bytes, card: Card) -> Perceptron:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise PolicyFileError(f"{file} is no file of weights: {error}") from error
    expected: dict[str, tuple[int, ...]] = {}
    for place, (inputs, outputs) in enumerate(pairwise(card.layers)):
        expected |= {f"{place}.weight": (outputs, inputs), f"{place}.bias": (outputs,)}
    shapes = {name: tensor.shape for name, tensor in sorted(tensors.items())}
    if shapes != expected:
        raise PolicyFileError(f"{file} must hold weights of the shapes {expected}, as its card says, got {shapes}")
    try:
        return Perceptron(
            tuple((tensors[f"{place}.weight"], tensors[f"{place}.bias"]) for place in range(len(card.layers) - 1))
        )
    except ValueError as error:
        raise PolicyFileError(f"{file} holds weights that no policy has: {error}") from error


def _files(name: str) -> tuple[Traversable, Traversable]:
    if name in (known := shipped()):
        return _folder() / f"{name}.safetensors", _folder() / f"{name}.json"
    stem = _stem(name)
    weights, card = (Path(stem + ending) for ending in _ENDINGS)
    if stem == name and not card.exists() and re.fullmatch(r"[\w-]+", name):
        raise PolicyFileError(
            f"no learned policy is called {name!r}; choose from {', '.join(known) or 'none'}, or name a file such as mine.json"
        )
    return weights, card


def _folder() -> Traversable:
    return resources.files("surefoot") / "policies"


def _stem(path: str) -> str:
    return next((path.removesuffix(ending) for ending in _ENDINGS if path.endswith(ending)), path)


def _bytes(file: Traversable) -> bytes:
    """What a file holds; one that is too large is not read to its end."""
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise PolicyFileError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(content) > LARGEST:
        raise PolicyFileError(f"{file} must not be larger than {LARGEST} bytes; a learned policy has a few thousand")
    return content


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list, got {value!r}")
    return tuple(value)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")
