"""Factorisations on their way, one or a fleet of them: what changes, and what is random."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array

from surefoot.batches import Batches
from surefoot.nmf.arrays import gram_of, wide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from numpy.typing import NDArray

_CHANGING = "codes parts alive codes_edge parts_edge codes_noise parts_noise move move_square"
"""What a run may change, or another one in its place has otherwise."""


@dataclass
class Factors:
    r"""Factorisations on their way: what `Factorisation.step` changes.

    The shapes are those of one run; in a fleet every array but a shared matrix has one more dimension in front.

    Attributes:
        codes: W, how much of each part is in each row; shape (rows, rank).
        parts: H, what each part looks like; shape (rank, columns).
        rows: V, the rows to train on; shape (rows, columns), also in a fleet of which all runs share it.
        held_out: Rows held out; shape (held-out rows, columns), likewise.
        alive: Whether the loss has always been finite; a run where it was not is frozen.
        codes_edge, parts_edge: The stability edges of the first step; numbers.
        codes_noise, parts_noise: Standard deviation of the noise in one entry of a gradient; numbers.
        move: The last change of the parts, zeros before the first, or where nobody asked for it; shape of `parts`.
        move_square: The sum of its squares; a number.
        streams: What is random from here on.
        gram: $W^\top W$, in float64; shape (rank, rank). Kept only where steps change few rows: see `refresh`.
        lengths: Squared norms of the rows of W, in float64; shape (rows,). Likewise.
    """

    codes: Any
    parts: Any
    rows: Any
    held_out: Any
    alive: Any
    codes_edge: Any
    parts_edge: Any
    codes_noise: Any
    parts_noise: Any
    move: Any
    move_square: Any
    streams: Streams
    gram: Any = None
    lengths: Any = None

    def __len__(self) -> int:
        """How many runs there are in a fleet."""
        return int(self.codes.shape[0])

    @property
    def shares_rows(self) -> bool:
        """Whether this is a fleet whose runs have one matrix."""
        return bool(self.rows.ndim < self.codes.ndim)

    def draw(self, awake: Any = None) -> tuple[Any, Any, Any]:
        """The next batch of every run: its rows, their codes, and the place where `put` puts new ones; all if none are drawn.

        Args:
            awake: Which runs use up what is random; None for all.
        """
        self.streams = self.streams if awake is None else self.streams.parted(awake)
        if not self.streams.order:
            return self.rows, self.codes, ...
        self.refresh(self.streams.refill())
        batch = self.streams.batch(awake)
        # As places in one table of all runs' rows: with one index instead of two, looking up is twice as fast.
        place = batch if batch.ndim == 1 else batch + self.codes.shape[-2] * np.arange(len(batch))[:, None]
        xp, there = array_namespace(self.codes), device(self.codes)
        of_codes = xp.asarray(place, device=there)
        of_rows = xp.asarray(batch, device=there) if self.shares_rows else of_codes
        return _taken(xp, self.rows, of_rows), _taken(xp, self.codes, of_codes), of_codes

    def refresh(self, begun: NDArray[np.bool_]) -> None:
        """Take W^T W and the rows' lengths afresh for runs that begin an epoch.

        In between, `put` brings them up to date from the rows that change; its rounding adds up over one epoch at most.
        """
        if begun.all():
            _, codes = wide(self.codes)
            self.gram, self.lengths = _measured(codes)
        elif begun.any():
            index = array_namespace(self.codes).asarray(np.flatnonzero(begun), device=device(self.codes))
            _, codes = wide(self.codes[index])
            self.gram[index], self.lengths[index] = _measured(codes)

    def put(self, place: Any, old: Any, new: Any) -> None:
        """Put new codes in the place of old ones, as `draw` named it."""
        if place is ...:
            self.codes = new
            return
        self.codes.reshape(-1, new.shape[-1])[place] = new
        xp, old, new = wide(old, new)
        self.lengths.reshape(-1)[place] = xp.vecdot(new, new)
        twice = (new - old).mT @ (new + old)  # Its symmetric part is the difference of both Grams.
        self.gram += 0.5 * (twice + twice.mT)

    def save(self) -> dict[str, Any]:
        """All that changes: see `surefoot.problems.Resumable`."""
        held = {name: getattr(self, name) for name in (*_CHANGING.split(), "gram", "lengths")}
        return held | {"streams": self.streams.save()}

    def resume(self, saved: Mapping[str, Any]) -> Self:
        """These factorisations, which have not begun, where they were then."""
        xp, there = array_namespace(self.codes), device(self.codes)
        for name in (*_CHANGING.split(), "gram", "lengths"):
            value = saved[name]
            is_ready = value is None or is_numpy_array(self.codes)
            setattr(self, name, value if is_ready else xp.asarray(value, device=there))
        self.streams.resume(saved["streams"])
        return self

    def replace(self, places: Sequence[int], others: Factors) -> None:
        """Put the runs of another fleet into these places, in their order."""
        index = array_namespace(self.codes).asarray(np.array(places, np.int64), device=device(self.codes))
        kept = () if self.gram is None else ("gram", "lengths")
        for name in (*_CHANGING.split(), *kept, *(() if self.shares_rows else ("rows", "held_out"))):
            getattr(self, name)[index] = getattr(others, name)
        self.streams = self.streams.replaced(places, others.streams)


@dataclass
class Pieces:
    """The runs of a fleet that does not fit into memory at once.

    Attributes:
        pieces: Fleets that do, one after another.
    """

    pieces: list[Factors]

    def __len__(self) -> int:
        """How many runs there are in all."""
        return sum(map(len, self.pieces))

    def parted(self) -> Iterator[tuple[Factors, slice]]:
        """Each piece, and where its runs stand among all."""
        first = 0
        for piece in self.pieces:
            yield piece, slice(first, first + len(piece))
            first += len(piece)


def _taken(xp: Any, table: Any, places: Any) -> Any:
    """Rows of a table, in the shape of their places."""
    width = table.shape[-1]
    return xp.take(table.reshape(-1, width), places.reshape(-1), axis=0).reshape(*places.shape, width)


def _measured(codes: Any) -> tuple[Any, Any]:
    """W^T W, and the squared norms of its rows."""
    xp = array_namespace(codes)
    return gram_of(xp, codes), xp.vecdot(codes, codes)


@dataclass
class Streams:
    """The order of rows and the noise of runs, from one stream for all runs that began together from one seed.

    Attributes:
        order: Per stream, the order of the rows; empty where every step takes all of them.
        noise: Per stream, where the noise comes from.
        stream: Which of the streams is a run's own, as an array of the fleet's shape: () for a single run.
        ahead: Per stream, the batches of an epoch; shape (streams, batches, size).
        used: Per stream, how many of these are used up.
    """

    order: list[Batches]
    noise: list[np.random.Generator]
    stream: NDArray[np.intp]
    ahead: NDArray[np.int64]
    used: NDArray[np.intp]

    @classmethod
    def start(cls, seeds: Sequence[int], stream: NDArray[np.intp], *, rows: int, size: int) -> Streams:
        """Streams from these seeds, for batches of `size` of all the rows."""
        order = [Batches(rows, size, seed) for seed in seeds] if size < rows else []
        # Neither the stream of the batches nor that of the first factors.
        noise = [np.random.default_rng((seed, 2)) for seed in seeds]
        batches = rows // size
        return cls(order, noise, stream, np.zeros((len(seeds), batches, size), np.int64), np.full(len(seeds), batches))

    def save(self) -> dict[str, Any]:
        """Where the streams are, and whose they are."""
        return {
            "order": [order.save() for order in self.order],
            "noise": [noise.bit_generator.state for noise in self.noise],
            **{name: getattr(self, name) for name in ("stream", "ahead", "used")},
        }

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Go on from there; runs that some slept beside have streams of their own by then."""
        first, noise = self.order, np.random.default_rng()
        self.order = [deepcopy(first[0]).resume(order) for order in saved["order"]]
        self.noise = [deepcopy(noise) for _ in saved["noise"]]
        for noise, state in zip(self.noise, saved["noise"], strict=True):
            noise.bit_generator.state = state
        self.stream, self.ahead, self.used = (saved[name] for name in ("stream", "ahead", "used"))

    def refill(self) -> NDArray[np.bool_]:
        """Draw an epoch for the streams whose batches are used up; and whether that was so, for each run."""
        empty = self.used == self.ahead.shape[1]
        for place in np.flatnonzero(empty):
            self.ahead[place] = self.order[place].take(self.ahead.shape[1])
        self.used[empty] = 0
        begun: NDArray[np.bool_] = empty[self.stream]
        return begun

    def batch(self, awake: Any = None) -> NDArray[np.int64]:
        """Numbers of rows, one batch per run; those asleep are given theirs again the next time."""
        drawn = self.ahead[np.arange(len(self.used)), self.used]
        self.used += 1
        if asleep := self._asleep(awake):
            self.used[list(asleep)] -= 1
        return drawn[self.stream]

    def normal(self, shape: tuple[int, ...], awake: Any = None) -> NDArray[np.float64]:
        """Standard normal numbers of this shape per run, zeros for those asleep."""
        asleep = self._asleep(awake)
        every = [np.zeros(shape) if place in asleep else noise.standard_normal(shape) for place, noise in enumerate(self.noise)]
        drawn: NDArray[np.float64] = np.stack(every)[self.stream]
        return drawn

    def parted(self, awake: Any) -> Streams:
        """Streams of which none belongs to runs that are awake and to others as well."""
        mixed = sorted(set(self.stream[awake].tolist()) & set(self.stream[~awake].tolist()))
        if not mixed:
            return self
        stream = self.stream.copy()
        for new, old in enumerate(mixed, start=len(self.noise)):
            stream[~awake & (self.stream == old)] = new
        others = deepcopy([[streams[place] for place in mixed] for streams in (self.order or self.noise, self.noise)])
        every = [*range(len(self.noise)), *mixed]
        order = self.order and self.order + others[0]
        return Streams(order, self.noise + others[1], stream, self.ahead[every], self.used[every])

    def _asleep(self, awake: Any) -> set[int]:
        return set() if awake is None else set(self.stream[~awake].tolist())

    def replaced(self, places: Sequence[int], others: Streams) -> Streams:
        """The streams after runs were replaced, those that no run uses any more left out."""
        stream = self.stream.copy()
        stream[list(places)] = len(self.noise) + others.stream
        used, stream = np.unique(stream, return_inverse=True)
        order, noise = self.order + others.order, self.noise + others.noise
        ahead, count = np.concatenate([self.ahead, others.ahead])[used], np.concatenate([self.used, others.used])[used]
        return Streams(
            [order[place] for place in used] if order else [], [noise[place] for place in used], stream, ahead, count
        )
