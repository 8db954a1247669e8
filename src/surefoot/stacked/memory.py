"""How much memory a run takes, and how many runs are worked on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from surefoot import memory

if TYPE_CHECKING:
    from torch import Tensor

    from surefoot.stacked.fleet import NetworkFleet

CACHE = 8 * 2**20
"""Bytes that may lie between forwards and backwards on a CPU; parameters, each used once, were measured not to matter."""


class PerRun(NamedTuple):
    """Bytes of memory that one run takes.

    Attributes:
        order: The numbers of the rows of the batches to come.
        kept: Parameters, running statistics and what the optimizer remembers.
        working: Gradients, and an estimate of what is there between forwards and backwards, only while it is worked on.
        between: That estimate alone.
    """

    order: int
    kept: int
    working: int
    between: int


def per_run(fleet: NetworkFleet) -> PerRun:
    """The bytes that one run takes.

    What is there between forwards and backwards is counted as what autograd would save for one batch, three times as much where
    there are convolutions: their patches overlap.
    """
    run = fleet.network.init(0)
    weights, buffers = (layout.size for layout in fleet._layouts)  # noqa: SLF001 - the fleet's other half
    order = 8 * run.batches.rows
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {parameter.untyped_storage().data_ptr() for parameter in run.model.parameters()}
    # As everywhere here, nobody else's random numbers are used up: a module may draw some.
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run.model(torch.from_numpy(fleet.network.data().train_x[: run.batches.size]))
    between = sum(size for pointer, size in saved.items() if pointer not in own)
    times = 3 if any(isinstance(module, nn.Conv2d) for module in run.model.modules()) else 1
    memories = fleet._optimizer.memories + fleet.gradients  # noqa: SLF001
    return PerRun(order, 4 * (weights * (1 + memories) + buffers), 4 * weights + times * between, times * between)


def at_once(fleet: NetworkFleet, runs: int) -> int:
    """How many of so many runs are worked on together: those that fit into a cache, and into memory in any case.

    Raises:
        MemoryError: What has to be kept of so many runs does not fit.
    """
    order, kept, working, between = per_run(fleet)
    together = memory.at_once(
        fleet.name,
        runs,
        kept=order + kept,
        working=working,
        capacity=fleet.capacity or free(fleet.device),
        device=fleet.device,
        depth=5,
    )
    if torch.device(fleet.device).type == "cpu":
        together = min(together, max(1, CACHE // max(between, 1)))
    parts = -(-runs // together)
    return -(-runs // parts)


def free(device: str) -> int:
    """Bytes of memory that are free there."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return memory.free()
