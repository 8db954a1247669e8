"""What is kept of a training on disk, so that it can go on from there as if it had never stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
CARD = "training.json"


class KeepError(RuntimeError):
    """What is kept of a training cannot be used; the message says where, why, and what to do."""


@dataclass
class Kept:
    """Where a training stands after a round.

    Attributes:
        identity: All that its outcome depends on, as plain data.
        rounds: Rounds done.
        slots: Slots of each task in the next one.
        references: What each task's runs are measured against: see `surefoot.learn.score.reference`.
        curve: What each round came to.
        best: Of the best check so far, `round` and `score`; empty before the first.
        seconds: What it took, in all.
        transitions: Decisions that were learned from, in all.
        costs: Seconds that a slot of each task took in the last round in which environment workers trained it, 0 before; they
            share the tasks accordingly, and nothing else depends on it.
        arrays: Weights and what Adam remembers of them; under `best.` those of the policy of the best check.
    """

    identity: dict[str, Any]
    rounds: int = 0
    slots: list[int] = field(default_factory=list)
    references: list[list[float]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    transitions: int = 0
    costs: list[float] = field(default_factory=list)
    arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Put all of it into a folder, or nothing.

        The card names the file of weights and its checksum. It is replaced when these are there, and those before are removed
        when it is: whenever the process dies, one card and its weights are whole.

        Raises:
            OSError: The folder cannot be written to.
        """
        from safetensors.numpy import save

        name, data = f"round-{self.rounds}.safetensors", save(self.arrays)
        whole.write(folder / name, data, lasting=True)
        card = {key: value for key, value in vars(self).items() if key != "arrays"}
        card |= {"format": FORMAT, "weights": name, "sha256": sha256(data).hexdigest()}
        whole.write(folder / CARD, (json.dumps(card, indent=1, allow_nan=False) + "\n").encode(), lasting=True)
        for old in folder.glob("round-*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> Kept | None:
        """What `write` put there; None if nothing is there.

        Raises:
            KeepError: What is there is damaged, or another version's.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        card = folder / CARD
        if not card.exists():
            return None
        try:
            said = json.loads(card.read_text("utf-8"))
            if said.pop("format") != FORMAT:
                raise KeepError(f"{card} is of another version of surefoot; remove the folder, or name another")
            data = (folder / Path(said.pop("weights")).name).read_bytes()
            if sha256(data).hexdigest() != said.pop("sha256"):
                raise KeepError(f"the weights beside {card} are damaged; remove the folder to begin again")
            return cls(**said, arrays=load(data))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise KeepError(f"{card} cannot be read: {error} (remove the folder to begin again)") from error


def parted(mine: Mapping[str, Any], kept: Mapping[str, Any]) -> str:
    """The first thing in which two identities differ, in words; nothing if they are the same.

    >>> parted({"seed": 0, "settings": {"rounds": 9}}, {"seed": 0, "settings": {"rounds": 8}})
    'settings.rounds is 9 here and 8 there'
    """
    mine, kept = (json.loads(json.dumps(identity)) for identity in (mine, kept))
    for name in {**mine, **kept}:
        here, there = mine.get(name), kept.get(name)
        if here == there:
            continue
        if isinstance(here, dict) and isinstance(there, dict):
            return f"{name}.{parted(here, there)}"
        short = [repr(value) if len(repr(value)) < 60 else "something else" for value in (here, there)]  # noqa: PLR2004 - a line
        return f"{name} differs" if short[0] == short[1] else f"{name} is {short[0]} here and {short[1]} there"
    return ""
