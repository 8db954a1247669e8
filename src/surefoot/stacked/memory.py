"""How much memory a run takes, and how many runs are worked on at once."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from surefoot.stacked.fleet import NetworkFleet

CACHE = 8 * 2**20
"""Bytes that a part may take on a CPU. Measured: with less, calls cost more than arithmetic; with more, it waits for memory."""
_SPARE = 0.7


class PerRun(NamedTuple):
    """Bytes of memory that one run takes.

    Attributes:
        order: The numbers of the rows of the batches to come.
        kept: Parameters, running statistics and what the optimizer remembers.
        working: Gradients, and an estimate of what is there between forwards and backwards, only while it is worked on.
    """

    order: int
    kept: int
    working: int


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
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run.model(torch.from_numpy(fleet.network.data().train_x[: run.batches.size]))
    between = sum(size for pointer, size in saved.items() if pointer not in own)
    times = 3 if any(isinstance(module, nn.Conv2d) for module in run.model.modules()) else 1
    memories = fleet._optimizer.memories + fleet.gradients  # noqa: SLF001
    return PerRun(order, 4 * (weights * (1 + memories) + buffers), 4 * weights + times * between)


def at_once(fleet: NetworkFleet, runs: int) -> int:
    """How many of so many runs are worked on together: those that fit into a cache, and into memory in any case.

    Raises:
        MemoryError: What has to be kept of so many runs does not fit.
    """
    order, kept, working = per_run(fleet)
    room, lasting = int(_SPARE * (fleet.capacity or free(fleet.device))), runs * (order + kept)
    if lasting + working > room:
        most = max(0, (room - working) // (order + kept))
        raise MemoryError(
            f"{runs} runs of {fleet.name} must find {_size(lasting + working)} of memory, and there are {_size(room)} "
            f"on {fleet.device} (train at most {most} at once)"
        )
    together = min(runs, (room - lasting) // working)
    if together < runs:
        warnings.warn(
            f"{runs} runs of {fleet.name} do not fit on {fleet.device} at once: worked on {together} by {together}",
            stacklevel=4,
        )
    if torch.device(fleet.device).type == "cpu":
        together = min(together, max(1, CACHE // (kept + working)))
    parts = -(-runs // together)
    return -(-runs // parts)


def free(device: str) -> int:
    """Bytes of memory that are free there."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Not every system says.
        return 2**63 - 1


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024.0:  # noqa: PLR2004 - the unit's own size
            return f"{count:.0f} {unit}"
        count /= 1024.0
    return f"{count:.1f} GiB"
