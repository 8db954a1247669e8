"""Factorisations on their way, one or a fleet of them: what changes, and what is random."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace, device

from surefoot.batches import Batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass
class Factors:
    """Factorisations on their way: what `Factorisation.step` changes.

    The shapes are those of one run; in a fleet every array but a shared matrix has one more dimension in front.

    Attributes:
        codes: W, how much of each part is in each row; shape (rows, rank).
        parts: H, what each part looks like; shape (rank, columns).
        rows: V, the rows to train on; shape (rows, columns), also in a fleet of which all runs share it.
        held_out: Rows held out; shape (held-out rows, columns), likewise.
        alive: Whether the loss has always been finite; a run where it was not is frozen.
        codes_edge, parts_edge: The stability edges of the first step; numbers.
        codes_noise, parts_noise: Standard deviation of the noise in one entry of a gradient; numbers.
        move: The last change of the parts, zeros before the first; shape of `parts`.
        streams: What is random from here on.
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
    streams: Streams

    @property
    def shares_rows(self) -> bool:
        """Whether this is a fleet whose runs have one matrix."""
        return bool(self.rows.ndim < self.codes.ndim)

    def draw(self, awake: Any = None) -> tuple[Any, Any]:
        """The next batch of every run, as an index into `rows` and one into `codes`; all rows where none are drawn.

        Args:
            awake: Which runs use up what is random; None for all.
        """
        self.streams = self.streams if awake is None else self.streams.parted(awake)
        if not self.streams.order:
            return ..., ...
        place = array_namespace(self.codes).asarray
        batch = place(self.streams.batch(awake), device=device(self.codes))
        if batch.ndim == 1:
            return batch, batch
        whole = place(np.arange(len(batch))[:, None], device=device(self.codes)), batch
        return (batch if self.shares_rows else whole), whole

    def replace(self, places: Sequence[int], others: Factors) -> None:
        """Put the runs of another fleet into these places, in their order."""
        index = array_namespace(self.codes).asarray(np.array(places, np.int64), device=device(self.codes))
        changing = "codes parts alive codes_edge parts_edge codes_noise parts_noise move"
        for name in (*changing.split(), *(() if self.shares_rows else ("rows", "held_out"))):
            getattr(self, name)[index] = getattr(others, name)
        self.streams = self.streams.replaced(places, others.streams)


@dataclass
class Streams:
    """The order of rows and the noise of runs, from one stream for all runs that began together from one seed.

    Attributes:
        order: Per stream, the order of the rows; empty where every step takes all of them.
        noise: Per stream, where the noise comes from.
        stream: Which of the streams is a run's own, as an array of the fleet's shape: () for a single run.
    """

    order: list[Batches]
    noise: list[np.random.Generator]
    stream: NDArray[np.intp]

    @classmethod
    def start(cls, seeds: Sequence[int], stream: NDArray[np.intp], *, rows: int, size: int) -> Streams:
        """Streams from these seeds, for batches of `size` of all the rows."""
        order = [Batches(rows, size, seed) for seed in seeds] if size < rows else []
        # Neither the stream of the batches nor that of the first factors.
        return cls(order, [np.random.default_rng((seed, 2)) for seed in seeds], stream)

    def batch(self, awake: Any = None) -> NDArray[np.int64]:
        """Numbers of rows, one batch per run; those asleep are given theirs again the next time."""
        every = [order.draw() for order in self.order]
        for stream in self._asleep(awake):
            self.order[stream].put_back(every[stream])
        drawn: NDArray[np.int64] = np.stack(every)[self.stream]
        return drawn

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
        return Streams(self.order and self.order + others[0], self.noise + others[1], stream)

    def _asleep(self, awake: Any) -> set[int]:
        return set() if awake is None else set(self.stream[~awake].tolist())

    def replaced(self, places: Sequence[int], others: Streams) -> Streams:
        """The streams after runs were replaced, those that no run uses any more left out."""
        stream = self.stream.copy()
        stream[list(places)] = len(self.noise) + others.stream
        used, stream = np.unique(stream, return_inverse=True)
        order, noise = self.order + others.order, self.noise + others.noise
        return Streams([order[place] for place in used] if order else [], [noise[place] for place in used], stream)
