"""Where a training is, kept in a file now and then, so that it can go on from there when its process was killed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from surefoot import checks, whole
from surefoot.measured import on_host
from surefoot.packed import PackedError, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

T = TypeVar("T")

SECONDS, SHARE = 30.0, 0.01
"""From one checkpoint to the next, and of the time that they may take, unless somebody says otherwise."""


class Keeper:
    """A file that knows where a training is, for `surefoot.loop.train` and `surefoot.loop.drive`.

    A file that is damaged, of another version or of another training counts as none, and a folder that cannot be written to
    means that nothing is kept: then the training begins again when it was killed. What has been kept is the figures so far and
    all that the others depend on, so that they are the same to the last bit, whether there was a cut or not.

    >>> from tempfile import TemporaryDirectory
    >>> from surefoot import Greedy, train
    >>> from surefoot.catalogue import problem
    >>> with TemporaryDirectory() as folder:
    ...     def rows():
    ...         keeper = Keeper(f"{folder}/wines.safetensors", "wine-mlp, greedy, seed 0", seconds=0.0)
    ...         return train(problem("wine-mlp"), Greedy(), steps=20, keeper=keeper)
    ...     for row in rows():
    ...         if row.step == 10:
    ...             break
    ...     list(rows()) == list(train(problem("wine-mlp"), Greedy(), steps=20))
    True

    Args:
        path: The file; nobody makes its folder.
        identity: All that the training depends on. A file that was written with another one is not gone on from.
        seconds: Time from one checkpoint to the next at least, 0 or more.
        share: The part of the time that checkpoints may take, above 0 and at most 1: where writing one takes long, they are
            written less often. With 1, and 0 seconds, there is one after every step.
        clock: What time it is, in seconds.

    Attributes:
        before: Seconds that the clock had counted for this training until the checkpoint that it went on from; 0 if it began.

    Raises:
        TypeError: A setting is not a number.
        ValueError: A setting is outside its range.
    """

    def __init__(
        self,
        path: str | Path,
        identity: str,
        *,
        seconds: float = SECONDS,
        share: float = SHARE,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        checks.number("seconds", seconds, low=0.0)
        checks.number("share", share, low=0.0, high=1.0)
        if share == 0.0:
            raise ValueError("share must be above 0: checkpoints take some time (to have none, leave the keeper out)")
        self.path, self.identity, self.seconds, self.share = Path(path), identity, seconds, share
        self.before = 0.0
        self._clock = clock
        self._began = now = clock()
        self._due = now + seconds
        self._way = _Way()

    def find(self, resume: Callable[[Any], T]) -> T | None:
        """Take up the training where the file says that it was.

        Args:
            resume: Makes what was handed to `keep` what it was.

        Returns:
            What `resume` does; None if there is nothing to go on from.
        """
        try:
            found = unpack(self.path.read_bytes())
            if found["identity"] != self.identity:
                return None
            way, resumed = _Way(*found["way"]), resume(found["where"])
        except (OSError, PackedError, LookupError, TypeError, ValueError, AttributeError, RuntimeError):
            return None  # Whatever is wrong with it: to begin again does no harm.
        self._way, self.before = way, found["seconds"]
        return resumed

    def noting(self, evaluate: Callable[[int, Any], None] | None) -> Callable[[int, Any], None] | None:
        """The same function, with a note of what it is told."""
        if evaluate is None:
            return None

        def noted(step: int, loss: Any) -> None:
            self._way.evaluations.append((step, loss))
            evaluate(step, loss)

        return noted

    def past(self, evaluate: Callable[[int, Any], None] | None) -> Iterator[tuple[int, Any, Any]]:
        """Step, loss and rate of the steps that were made before; what was evaluated in between is told again."""
        way = self._way
        evaluations = dict(way.evaluations)
        for step, (loss, rate) in enumerate(zip(*way.rows(), strict=True)):
            yield step, loss, rate
            if evaluate is not None and step + 1 in evaluations:
                evaluate(step + 1, evaluations[step + 1])

    @property
    def step(self) -> int:
        """How many steps have been made."""
        return len(self._way)

    def is_due(self, loss: Any, rate: Any) -> bool:
        """Take note of a step, and say whether it is time for a checkpoint."""
        self._way.note(loss, rate)
        return self._clock() >= self._due

    def keep(self, where: Any) -> None:
        """Write a checkpoint, if that can be done.

        Args:
            where: All that the further steps depend on, as `surefoot.packed.pack` takes it.
        """
        now = self._clock()
        told = {"identity": self.identity, "seconds": self.before + now - self._began, "way": self._way.told(), "where": where}
        # Not lasting: to wait for a busy disk took half a second. A file that a power failure spoils is noticed.
        with suppress(OSError, TypeError):  # It is no reason to lose the training itself.
            whole.write(self.path, pack(told))
        done = self._clock()
        self._due = done + max(self.seconds, (done - now) * (1.0 / self.share - 1.0))

    def remove(self) -> None:
        """Forget it: the training is finished, and its figures are safe."""
        with suppress(OSError):
            whole.remove(self.path)


def restored(like: Any, state: Any) -> Any:
    """A policy's state, or a list of them, whose tuples are named again as those of another one are.

    >>> from surefoot import Plateau
    >>> restored(Plateau().init(), (0.5, 2.0, 1, 0))
    PlateauState(scale=0.5, best=2.0, bad=1, rest=0)

    Raises:
        ValueError: It is the state of another policy.
    """
    if isinstance(state, list):
        return [restored(like, one) for one in state]
    if not hasattr(like, "_fields"):
        return state
    if not isinstance(state, tuple) or len(state) != len(like):
        raise ValueError(f"this is not the state of a policy whose states are a {type(like).__name__}")
    return type(like)(*map(restored, like, state))


class _Way:
    """What a training has come to so far.

    Args:
        losses, rates: Of the steps so far; shape (steps,), or of a fleet (steps, runs).
        evaluations: After how many steps what was measured.
    """

    def __init__(
        self, losses: NDArray[np.float64] | None = None, rates: Any = None, evaluations: Sequence[tuple[int, Any]] = ()
    ) -> None:
        self._old = None if losses is None else (losses, rates)
        self._new: list[tuple[Any, Any]] = []
        self.evaluations = list(evaluations)

    def __len__(self) -> int:
        return len(self._new) + (0 if self._old is None else len(self._old[0]))

    def note(self, loss: Any, rate: Any) -> None:
        """Take note of a step."""
        self._new.append((loss, rate))

    def rows(self) -> tuple[Iterable[Any], Iterable[Any]]:
        """Losses and rates, plain numbers for a single run."""
        if self._old is None:
            return (), ()
        losses, rates = self._old
        return (losses, rates) if losses.ndim > 1 else (losses.tolist(), rates.tolist())

    def told(self) -> tuple[Any, Any, list[tuple[int, Any]]]:
        """All of it, as it is made from."""
        if self._new:
            losses, rates = (_stacked(column) for column in zip(*self._new, strict=True))
            if self._old is not None:
                losses, rates = np.concatenate([self._old[0], losses]), np.concatenate([self._old[1], rates])
            self._old, self._new = (losses, rates), []
        return (*(self._old or (None, None)), self.evaluations)


def _stacked(values: Iterable[Any]) -> NDArray[np.float64]:
    return np.array([value if isinstance(value, float) else on_host(value) for value in values], np.float64)
