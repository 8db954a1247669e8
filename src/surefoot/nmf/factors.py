"""Factorisations on their way, one or a fleet of them: what changes, and what is random."""

from __future__ import annotations

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

    def draw(self) -> tuple[Any, Any]:
        """The next batch of every run, as an index into `rows` and one into `codes`; all rows where none are drawn."""
        if not self.streams.order:
            return ..., ...
        place = array_namespace(self.codes).asarray
        batch = place(self.streams.batch(), device=device(self.codes))
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

    def batch(self) -> NDArray[np.int64]:
        """Numbers of rows, one batch per run."""
        drawn: NDArray[np.int64] = np.stack([order.draw() for order in self.order])[self.stream]
        return drawn

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Standard normal numbers of this shape per run."""
        drawn: NDArray[np.float64] = np.stack([noise.standard_normal(shape) for noise in self.noise])[self.stream]
        return drawn

    def replaced(self, places: Sequence[int], others: Streams) -> Streams:
        """The streams after runs were replaced, those that no run uses any more left out."""
        stream = self.stream.copy()
        stream[list(places)] = len(self.noise) + others.stream
        used, stream = np.unique(stream, return_inverse=True)
        order, noise = self.order + others.order, self.noise + others.noise
        return Streams([order[place] for place in used] if order else [], [noise[place] for place in used], stream)
