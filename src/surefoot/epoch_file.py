"""States by the epoch that they begin, in a small file beside a model's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot import document

if TYPE_CHECKING:
    import os


class EpochFile:
    """The states that the last two epochs began with, as JSON.

    Two, because weights and states are written one after the other: whichever was written last when a run is killed, the state
    that belongs to the weights is there. The file is replaced as a whole or not at all.

    >>> import tempfile
    >>> file = EpochFile(Path(tempfile.mkdtemp()) / "policy.json")
    >>> for epoch in range(5):
    ...     file.keep(epoch, {"scale": 0.5**epoch})
    >>> file.epochs(), file.at(3)
    ([3, 4], {'scale': 0.125})

    Args:
        path: The file; its folder is made when it is first written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def keep(self, epoch: int, state: dict[str, Any]) -> None:
        """Write the state that an epoch begins with, beside that of the epoch before.

        Args:
            epoch: Its number, 0 for the first.
            state: Plain containers and numbers; infinities are numbers, too.

        Raises:
            OSError: The file cannot be written.
        """
        before = self._read()
        kept = {name: before[name] for name in (str(epoch - 1),) if name in before} | {str(epoch): state}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        document.write(self.path, json.dumps({"epochs": kept}))

    def epochs(self) -> list[int]:
        """The epochs whose beginnings are known; none if there is no file."""
        return sorted(map(int, self._read()))

    def at(self, epoch: int) -> dict[str, Any]:
        """The state that an epoch begins with.

        Raises:
            ValueError: The file holds other epochs, or is not such a file.
        """
        states = self._read()
        if str(epoch) not in states:
            held = " and ".join(states)
            raise ValueError(
                f"{self.path} holds the states that epochs {held} begin with (0 is the first), and training begins with epoch "
                f"{epoch} (to go on, restore the weights and say initial_epoch={max(map(int, states))}; to start anew, delete "
                "the file)"
            )
        return states[str(epoch)]

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return {}
        try:
            states: dict[str, dict[str, Any]] = json.loads(text)["epochs"]
            list(map(int, states))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} is not a file of states by epochs (delete it, or name another path)") from error
        return states
