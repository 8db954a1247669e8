"""Many trainings of one network at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from surefoot import checks
from surefoot.fleet import as_pairs, as_rates, as_seeds
from surefoot.stacked import engines, memory
from surefoot.stacked.asleep import Asleep
from surefoot.stacked.layout import Block, Layout
from surefoot.stacked.optimizers import Stacked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surefoot.batches import Batches
    from surefoot.networks import Network, Training

_LARGEST_RATE = 1e30
_LARGEST_ORDER = 2**25
"""How many numbers of rows are drawn ahead at most, over all runs."""
_EXAMPLES_AT_ONCE = 128

Precision = Literal["float32", "bfloat16"]


class Part(NamedTuple):
    """Some neighbouring runs that are worked on together: views of all that belongs to them."""

    block: Block
    low: Tensor | None
    weights: Tensor
    gradient: Tensor
    memory: list[Tensor]
    steps: Tensor
    rates: Tensor
    rows: Tensor
    losses: Tensor


@dataclass
class Trainings:
    """Networks on their way, stacked: what `NetworkFleet.step` changes. It can be copied and pickled.

    Attributes:
        orders: Where each run's batches come from.
        ahead: Rows of the next batches, shape (batches, runs, examples).
        place: Which of them comes next.
        weights: The parameters of every run in a row of its own, shape (runs, parameters), float32.
        buffers: Running statistics likewise.
        memory: What the optimizer remembers, each of the shape of `weights`.
        steps: Steps made by each run, shape (runs, 1).
        rates: The rates of the step that is made, shape (runs, 1).
        rows: The rows of its batches, shape (runs, examples).
        losses: The losses before it, shape (runs,).
        healthy: Whether a run's losses were finite so far, shape (runs,).
    """

    orders: list[Batches]
    ahead: Tensor
    place: int
    weights: Tensor
    buffers: Tensor
    memory: list[Tensor]
    steps: Tensor
    rates: Tensor
    rows: Tensor
    losses: Tensor
    healthy: Tensor
    parts: list[Part] = field(default_factory=list, repr=False)
    replay: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.orders)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "parts": [], "replay": None}  # Views and recordings belong to this object's own tensors.


@dataclass(frozen=True)
class NetworkFleet:
    """A network of which many trainings advance together, each exactly as `surefoot.networks.Network` trains it alone.

    Exactly means to rounding: the same initial parameters, the same order of batches, the same formulas in another order of
    sums.

    Attributes:
        network: The problem.
        device: Where all of it lives, such as `"cpu"` or `"cuda"`.
        precision: Of the products: `"float32"` or `"bfloat16"`. Parameters, gradients' sums and losses stay in float32.
        engine: `"stacked"` for layers by hand, `"traced"` for any module through `torch.func`; the faster one where both are
            possible if None.
        compile: Whether PyTorch's compiler is to fuse each step; it takes long to begin.
        at_once: How many runs are worked on together; as many as fit into a processor's cache, or a device, if None.
    """

    network: Network
    device: str = "cpu"
    precision: Precision = "float32"
    engine: engines.Kind | None = None
    compile: bool = False
    at_once: int | None = None

    def __post_init__(self) -> None:
        checks.one_of("precision", self.precision, ("float32", "bfloat16"))
        if self.engine is not None:
            checks.one_of("engine", self.engine, ("stacked", "traced"))
        if self.at_once is not None:
            checks.whole("at_once", self.at_once, low=1)
        self._optimizer  # noqa: B018 - what cannot be stacked is refused here.

    @property
    def name(self) -> str:
        """The network's name."""
        return self.network.name

    @property
    def optimizer(self) -> str:
        """Name of the optimizer that takes the steps."""
        return self.network.optimizer

    @property
    def base(self) -> float:
        """The network's base rate."""
        return self.network.base

    @property
    def steps(self) -> int:
        """The network's budget in optimizer steps."""
        return self.network.steps

    @property
    def revision(self) -> int:
        """The revision of the network's definition."""
        return self.network.revision

    def init(self, seeds: Sequence[int]) -> Trainings:
        """One training per seed, with the initial parameters and the order of batches of `Network.init(seed)`."""
        seeds = as_seeds(seeds)
        alone: dict[int, tuple[Tensor, Tensor, Training]] = {}
        for seed in seeds:
            if seed not in alone:
                run = self.network.init(seed)
                alone[seed] = (*self._rows(run), run)
        runs, like = len(seeds), {"device": self.device}
        weights, buffers = (torch.stack([alone[seed][place] for seed in seeds]).to(**like) for place in (0, 1))
        orders = [alone[seed][2].batches.copy() for seed in seeds]
        return Trainings(
            orders=orders,
            ahead=torch.empty(0, runs, orders[0].size, dtype=torch.long, **like),
            place=0,
            weights=weights,
            buffers=buffers,
            memory=[torch.zeros_like(weights) for _ in range(self._optimizer.memories)],
            steps=torch.zeros(runs, 1, dtype=torch.float64, **like),
            rates=torch.zeros(runs, 1, **like),
            rows=torch.zeros(runs, orders[0].size, dtype=torch.long, **like),
            losses=torch.zeros(runs, **like),
            healthy=torch.ones(runs, dtype=torch.bool, **like),
        )

    def step(self, runs: Trainings, rates: Any, awake: Any = None) -> tuple[Trainings, Mapping[str, Any]]:
        """One optimizer step of every run that is awake, at its own rate; the loss is its batch's before the step."""
        rates = as_rates(rates, len(runs))
        rates = torch.from_numpy(rates) if isinstance(rates, np.ndarray) else rates
        runs.rates[:, 0] = rates.clamp(max=_LARGEST_RATE)
        if runs.place == len(runs.ahead):
            self._draw(runs)
        runs.rows.copy_(runs.ahead[runs.place])
        runs.place += 1
        asleep = None if awake is None else Asleep.of(runs, awake)
        with torch.no_grad():
            self._advance(runs)
            losses = torch.where(runs.healthy, runs.losses, nan).double()
            runs.healthy &= losses.isfinite()
        if asleep is not None:
            asleep.put_back(runs)
        return runs, {"loss": self._shown(losses)}

    def held_out(self, runs: Trainings) -> Any:
        """The mean cross-entropy of the held-out examples for every run; it leaves the runs as they are."""
        _, (x, y) = self._tables
        total = torch.zeros(len(runs), dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for part, where in zip(self._parts(runs), self._spans(len(runs)), strict=True):
                _lower(part)
                for chunk in (slice(start, start + _EXAMPLES_AT_ONCE) for start in range(0, len(x), _EXAMPLES_AT_ONCE)):
                    total[where] += self._engine.judge(part.block, x[chunk], y[chunk]).double() * len(x[chunk])
        return self._shown(torch.where(runs.healthy, total / len(x), nan))

    def restart(self, runs: Trainings, places: Sequence[int], seeds: Sequence[int]) -> Trainings:
        """The runs, those at these places begun afresh from these seeds."""
        for place, seed in zip(*as_pairs(places, seeds), strict=True):
            run = self.network.init(seed)
            weights, buffers = self._rows(run)
            runs.weights[place], runs.buffers[place], runs.orders[place] = weights, buffers, run.batches
            for tensor in (*runs.memory, runs.steps):
                tensor[place] = 0.0
            runs.healthy[place] = True
            if left := len(runs.ahead) - runs.place:
                runs.ahead[runs.place :, place] = torch.from_numpy(run.batches.take(left))
        return runs

    @cached_property
    def _optimizer(self) -> Stacked:
        from surefoot.networks import OPTIMIZERS

        return Stacked(OPTIMIZERS[self.network.optimizer])

    @cached_property
    def _engine(self) -> engines.Engine:
        return engines.engine(self.network.model(), self.engine)

    @cached_property
    def _layouts(self) -> tuple[Layout, Layout]:
        model = self.network.model()
        return Layout.of(model.named_parameters()), Layout.of(model.named_buffers())

    @cached_property
    def _tables(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Inputs and labels, to train on and held out, where they are needed."""
        split = self.network.data()
        x, y, held_out_x, held_out_y = (torch.from_numpy(array).to(self.device) for array in split)
        kind = getattr(torch, self.precision)
        x, held_out_x = (table.to(kind) if table.is_floating_point() else table for table in (x, held_out_x))
        return (x.contiguous(), y.long()), (held_out_x, held_out_y.long())

    def _rows(self, run: Training) -> tuple[Tensor, Tensor]:
        weights, buffers = self._layouts
        return weights.row(run.model.named_parameters()), buffers.row(run.model.named_buffers())

    def _draw(self, runs: Trainings) -> None:
        """The rows of the next batches, for about an epoch at a time."""
        order = runs.orders[0]
        count = max(1, min(order.rows // order.size, _LARGEST_ORDER // runs.rows.numel()))
        runs.ahead = torch.from_numpy(np.stack([order.take(count) for order in runs.orders], 1)).to(self.device)
        runs.place = 0

    def _spans(self, runs: int) -> list[slice]:
        size = self.at_once or memory.at_once(self, runs)
        return [slice(start, min(start + size, runs)) for start in range(0, runs, size)]

    def _parts(self, runs: Trainings) -> list[Part]:
        if not runs.parts:
            runs.parts = [self._part(runs, where) for where in self._spans(len(runs))]
        return runs.parts

    def _part(self, runs: Trainings, where: slice) -> Part:
        weights, buffers = runs.weights[where], runs.buffers[where]
        kind = getattr(torch, self.precision)
        low = None if kind == weights.dtype else torch.empty_like(weights, dtype=kind)
        gradient = torch.empty_like(weights, dtype=kind)
        shapes, others = self._layouts
        views = (shapes.views(weights if low is None else low), shapes.views(gradient), others.views(buffers))
        return Part(
            Block(len(weights), *views),
            low,
            weights,
            gradient,
            [tensor[where] for tensor in runs.memory],
            *(tensor[where] for tensor in (runs.steps, runs.rates, runs.rows, runs.losses)),
        )

    def _advance(self, runs: Trainings) -> None:
        """The step itself: nothing here looks at a number, so that a device is never waited for."""
        (table, labels), _ = self._tables
        for part in self._parts(runs):
            part.steps.add_(1.0)
            _lower(part)
            rows = part.rows.flatten()
            x = table.index_select(0, rows).view(*part.rows.shape, *table.shape[1:])
            y = labels.index_select(0, rows).view(*part.rows.shape, *labels.shape[1:])
            part.losses.copy_(self._engine.learn(part.block, x, y))
            self._optimizer.step(part.weights, part.gradient.float(), part.memory, part.rates, part.steps)

    def _shown(self, vector: Tensor) -> Any:
        return vector.numpy() if vector.device.type == "cpu" else vector


def _lower(part: Part) -> None:
    if part.low is not None:
        part.low.copy_(part.weights)
