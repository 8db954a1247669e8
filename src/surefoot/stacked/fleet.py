"""Many trainings of one network at once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from surefoot import checks
from surefoot.batches import Batches
from surefoot.fleet import OfProblem, as_pairs, as_rates, as_seeds
from surefoot.snapshot import as_tensors
from surefoot.stacked import engines, memory
from surefoot.stacked.asleep import Asleep
from surefoot.stacked.layout import Layout
from surefoot.stacked.optimizers import Stacked, Step
from surefoot.stacked.trainings import Desk, Part, Trainings
from surefoot.stacked.watch import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    from surefoot.networks import Network, Training

_LARGEST_RATE = 1e30
_LARGEST_ORDER = 2**23
_EXAMPLES_AT_ONCE = 128
_UNRECORDED = 3
"""Steps on a GPU before one is recorded: libraries set themselves up in the first."""


@dataclass(frozen=True)
class NetworkFleet(OfProblem):
    """A network of which many trainings advance together, each as `surefoot.networks.Network` trains it alone.

    The same initial parameters, the same order of batches, the same formulas; sums are taken in another order, so figures agree
    to rounding, not to the last bit.

    Attributes:
        network: The problem.
        device: Where all of it lives, such as `"cpu"` or `"cuda"`.
        precision: Of the products: `"float32"` or `"bfloat16"`. Parameters, what the optimizer remembers and losses stay in
            float32.
        engine: `"stacked"` for layers by hand, `"traced"` for any module through `torch.func`; if None, the first where it
            knows all layers.
        compile: Whether PyTorch's compiler is to fuse the operations of a step; it takes long to begin.
        at_once: How many runs are worked on together; if None, as many as fit into a processor's cache, or a device's memory.
        capacity: Bytes of memory that the fleet may take; if None, what is free.
        gradients: Whether each gradient is measured as well as the loss, as `step` describes.

    Raises:
        ValueError: A setting is outside its range, or the optimizer has settings that a fleet does not know.
    """

    network: Network
    device: str = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    engine: Literal["stacked", "traced"] | None = None
    compile: bool = False
    at_once: int | None = None
    capacity: int | None = None
    gradients: bool = False

    def __post_init__(self) -> None:
        checks.one_of("precision", self.precision, ("float32", "bfloat16"))
        if self.engine is not None:
            checks.one_of("engine", self.engine, ("stacked", "traced"))
        for name in ("at_once", "capacity"):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name), low=1)
        _ = self._optimizer  # Settings that cannot be stacked are refused here.

    @property
    def problem(self) -> Network:
        """The network."""
        return self.network

    def init(self, seeds: Sequence[int]) -> Trainings:
        """One training per seed, with the initial parameters and the order of batches of `Network.init(seed)`.

        Raises:
            ValueError: There are no seeds.
            MemoryError: The parameters of so many runs do not fit.
        """
        seeds = as_seeds(seeds)
        alone = {seed: self.network.init(seed) for seed in sorted(set(seeds))}
        orders, runs = [alone[seed].batches.copy() for seed in seeds], len(seeds)
        size = self.at_once or memory.at_once(self, runs)
        parts = [self._part(first, [alone[seed] for seed in seeds[first : first + size]]) for first in range(0, runs, size)]
        return self._trainings(orders, parts)

    def _trainings(self, orders: list[Batches], parts: list[Part]) -> Trainings:
        """Trainings of which none has drawn a batch."""
        rows = torch.zeros(len(orders), orders[0].size, dtype=torch.long, device=self.device)
        vector = torch.zeros(len(orders), device=self.device)
        return Trainings(
            orders,
            rows[None][:0],
            0,
            parts,
            rates=vector.clone(),
            rows=rows,
            losses=vector,
            healthy=torch.ones_like(vector, dtype=torch.bool),
            measured=torch.zeros(2, len(orders), device=self.device),
        )

    def save(self, runs: Trainings) -> dict[str, Any]:
        """Trainings as plain data and tensors: see `surefoot.problems.Resumable`.

        Which runs are worked on together is saved, too: sums depend on it.
        """
        names = [each.name for each in fields(Part) if each.name != "desk"]
        return {
            "orders": [order.save() for order in runs.orders],
            "parts": [{name: getattr(part, name) for name in names} for part in runs.parts],
            **{name: getattr(runs, name) for name in ("ahead", "place", "healthy")},
        }

    def resume(self, seeds: Sequence[int], saved: Mapping[str, Any]) -> Trainings:
        """The trainings that were saved."""
        rows, size = len(self.network.data().train_x), self.network.batch_size
        pairs = zip(as_seeds(seeds), saved["orders"], strict=True)
        orders = [Batches(rows, size, seed).resume(order) for seed, order in pairs]
        runs = self._trainings(orders, [Part(**as_tensors(part, self.device)) for part in saved["parts"]])
        runs.ahead, runs.place, runs.healthy = as_tensors([saved[name] for name in ("ahead", "place", "healthy")], self.device)
        return runs

    def step(self, runs: Trainings, rates: Any, awake: Any = None) -> tuple[Trainings, Mapping[str, Any]]:
        """One optimizer step of every run that is awake, at its own rate.

        Returns:
            The runs, and per run `loss`, its batch's before the step. With `gradients` also `alignment`, between -1 and 1, the
            cosine of the angle between downhill and its last move, 0 where there is none; and `relative_step`, the norm of this
            move over that of its parameters.
        """
        rates = as_rates(rates, len(runs))
        rates = torch.from_numpy(rates) if isinstance(rates, np.ndarray) else rates
        runs.rates.copy_(rates.clamp(max=_LARGEST_RATE))
        if runs.place == len(runs.ahead):
            self._draw(runs)
        runs.rows.copy_(runs.ahead[runs.place])
        runs.place += 1
        asleep = None if awake is None else Asleep.of(runs, awake, self._views)
        with torch.no_grad():
            self._go(runs)
            losses = torch.where(runs.healthy, runs.losses, nan).double()
            runs.healthy &= losses.isfinite()
        if asleep is not None:
            asleep.put_back(runs)
        signals = {"loss": losses}
        if self.gradients:
            signals |= zip(("alignment", "relative_step"), runs.measured.double(), strict=True)
        return runs, {name: _shown(signal) for name, signal in signals.items()}

    def held_out(self, runs: Trainings) -> Any:
        """The mean cross-entropy of the held-out examples for every run; it leaves the runs as they are."""
        _, (x, y) = self._tables
        total = torch.zeros(len(runs), dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for part in runs.parts:
                block = self._desk(runs, part).block
                for first in range(0, len(x), _EXAMPLES_AT_ONCE):
                    some = slice(first, first + _EXAMPLES_AT_ONCE)
                    total[part.where] += self._engine.judge(block, x[some], y[some]).double() * len(x[some])
        return _shown(torch.where(runs.healthy, total / len(x), nan))

    def restart(self, runs: Trainings, places: Sequence[int], seeds: Sequence[int]) -> Trainings:
        """The runs, those at these places begun afresh from these seeds."""
        for place, seed in zip(*as_pairs(places, seeds), strict=True):
            run = self.network.init(seed)
            part = next(part for part in runs.parts if place < part.first + part.runs)
            at = place - part.first
            for layout, vector, named in zip(self._layouts, (part.weights, part.buffers), _tensors(run), strict=True):
                for view, fresh in zip(layout.views(vector, part.runs).values(), layout.pick(named), strict=True):
                    view[at] = fresh
            for view in (view for vector in part.remembered for view in self._layouts[0].views(vector, part.runs).values()):
                view[at] = 0.0
            part.notes[:, at] = 0.0
            part.steps[at], runs.healthy[place], runs.orders[place] = 0.0, True, run.batches
            if left := len(runs.ahead) - runs.place:
                runs.ahead[runs.place :, place] = torch.from_numpy(run.batches.take(left))
        return runs

    @cached_property
    def _optimizer(self) -> Stacked:
        return Stacked(self.network.makes)

    @cached_property
    def _engine(self) -> engines.Engine:
        return engines.engine(self._pattern(), self.engine)

    @cached_property
    def _learn(self) -> Callable[[engines.Block, Tensor, Tensor], Tensor]:
        return torch.compile(self._engine.learn, dynamic=False) if self.compile else self._engine.learn

    @cached_property
    def _layouts(self) -> tuple[Layout, Layout]:
        model = self._pattern()
        return Layout.of(model.named_parameters()), Layout.of(model.named_buffers())

    def _pattern(self) -> nn.Module:
        """A network whose numbers are of no account. It takes none of the random ones that somebody else is going to draw."""
        with torch.random.fork_rng(devices=[]):
            return self.network.model()

    @cached_property
    def _tables(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Inputs and labels, to train on and held out, where they are needed."""
        x, y, held_out_x, held_out_y = (torch.from_numpy(array).to(self.device) for array in self.network.data())
        kind = getattr(torch, self.precision)
        x, held_out_x = (table.to(kind) if table.is_floating_point() else table for table in (x, held_out_x))
        return (x.contiguous(), y.long()), (held_out_x.contiguous(), held_out_y.long())

    def _part(self, first: int, runs: Sequence[Training]) -> Part:
        named = zip(*(_tensors(run) for run in runs), strict=True)
        weights, buffers = (
            layout.stack([layout.pick(tensors) for tensors in models], self.device)
            for layout, models in zip(self._layouts, named, strict=True)
        )
        remembered = [torch.zeros_like(weights) for _ in range(self._optimizer.memories)]
        steps = torch.zeros(len(runs), dtype=torch.float64, device=self.device)
        notes = steps.new_zeros(self._optimizer.notes(len(self._layouts[0].shapes)), len(runs))
        move = torch.zeros_like(weights) if self.gradients else None
        return Part(first, len(runs), weights, buffers, remembered, steps, notes, move)

    def _views(self, part: Part) -> Iterator[Tensor]:
        """All that changes in a part with a step, with one row per run."""
        weights, buffers = self._layouts
        for layout, vector in [(buffers, part.buffers), *((weights, vector) for vector in (part.weights, *part.remembered))]:
            yield from layout.views(vector, part.runs).values()
        yield from (part.steps, *part.notes)

    def _desk(self, runs: Trainings, part: Part) -> Desk:
        """The desk of a part, with its parameters as they are now."""
        if part.desk is None:
            weights, buffers = self._layouts
            kind = getattr(torch, self.precision)
            is_low = kind != part.weights.dtype
            low, low_gradient = (torch.empty_like(part.weights, dtype=kind) if is_low else None for _ in range(2))
            gradient = torch.empty_like(part.weights)
            used, found = (part.weights, gradient) if low is None or low_gradient is None else (low, low_gradient)
            views = weights.views(used, part.runs)
            block = engines.Block(part.runs, views, weights.views(found, part.runs), buffers.views(part.buffers, part.runs))
            shapes = [tuple(view.shape) for view in views.values()]
            rates, losses = runs.rates[part.where], runs.losses[part.where]
            step = Step(part.weights, gradient, part.memory, rates, part.steps, shapes, part.notes, losses)
            part.desk = Desk(block, low, low_gradient, step)
        desk: Desk = part.desk
        if desk.low is not None:
            desk.low.copy_(part.weights)
        return desk

    def _draw(self, runs: Trainings) -> None:
        """The rows of the next batches, for about an epoch at a time."""
        order = runs.orders[0]
        count = max(1, min(order.rows // order.size, _LARGEST_ORDER // runs.rows.numel()))
        runs.ahead = torch.from_numpy(np.stack([order.take(count) for order in runs.orders], 1)).to(self.device)
        runs.place = 0

    def _go(self, runs: Trainings) -> None:
        """The step, on a GPU recorded once and replayed from then on: its calls cost more than small networks' arithmetic."""
        if torch.device(self.device).type != "cuda":
            with _flushing():
                self._advance(runs)
        elif isinstance(runs.replay, int) and runs.replay < _UNRECORDED:
            stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                self._advance(runs)
            torch.cuda.current_stream(self.device).wait_stream(stream)
            runs.replay += 1
        else:
            if isinstance(runs.replay, int):
                runs.replay = torch.cuda.CUDAGraph()
                with torch.cuda.graph(runs.replay):
                    self._advance(runs)  # Recorded, not done.
            runs.replay.replay()

    def _advance(self, runs: Trainings) -> None:
        """The step itself: nothing here looks at a number, so that a device is never waited for."""
        (table, labels), _ = self._tables
        for part in runs.parts:
            desk, rows = self._desk(runs, part), runs.rows[part.where]
            x, y = (source.index_select(0, rows.flatten()).view(*rows.shape, *source.shape[1:]) for source in (table, labels))
            part.steps.add_(1.0)
            runs.losses[part.where] = self._learn(desk.block, x, y)
            if desk.low_gradient is not None:
                desk.step.gradient.copy_(desk.low_gradient)
            if part.move is None:
                self._optimizer.step(desk.step)
            else:
                runs.measured[:, part.where] = watched(desk.step, part.move, self._optimizer.step)


@contextmanager
def _flushing() -> Iterator[None]:
    """Take numbers below about 1e-38 for 0, as what an idle unit remembers soon becomes: a CPU is slow at them."""
    was = bool(np.float32(1e-30) * np.float32(1e-10) == 0.0)  # PyTorch does not say.
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was)


def _tensors(run: Training) -> tuple[Any, Any]:
    return list(run.model.named_parameters()), list(run.model.named_buffers())


def _shown(vector: Tensor) -> Any:
    return vector.numpy() if vector.device.type == "cpu" else vector
