"""One loss for all processes of a distributed training, and each its share of the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from surefoot.arithmetic import widen

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn
    from torch.distributed import ProcessGroup


def mean_over_ranks(loss: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """The mean of a loss over the ranks of `torch.distributed`, the same number on each of them.

    Ranks that decide from different losses set different rates, and their weights drift apart without a word. So hand the
    scheduler of every rank this mean: `scheduler.step(mean_over_ranks(loss))`. Every rank has to call it, as often as all
    others. A loss that is not finite on one rank makes the mean not finite on all of them, so that all of them forget it.

    Where no process group has been set up, in a training by a single process, the mean is the loss itself, so that one script
    serves both.

    >>> import torch
    >>> loss = torch.tensor(0.75, requires_grad=True)
    >>> mean_over_ranks(loss)
    tensor(0.7500)

    Args:
        loss: This rank's loss, of any shape, on a device that the group's backend can reach. It is left as it is.
        group: The ranks to take the mean over, None for all of them.

    Returns:
        A new tensor outside any graph, on the same device, in float32 or wider.

    Raises:
        TypeError: The loss is not a tensor.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss must be a tensor, got {loss!r} (torch.tensor(loss, device=...) on the device of this rank)")
    total: Tensor = widen(loss).clone(memory_format=torch.contiguous_format)
    if not (distributed.is_available() and distributed.is_initialized()):
        return total
    # A sum and a division, not ReduceOp.AVG, which gloo does not know.
    distributed.all_reduce(total, group=group)
    return total / distributed.get_world_size(group)


def distributed_over(model: nn.Module, ranks: int) -> DistributedDataParallel:
    """A model whose gradients are the means over all ranks.

    Raises:
        RuntimeError: This process is not in a process group of so many ranks.
    """
    size = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 0
    if size != ranks:
        found = f"one of {size}" if size else "none"
        raise RuntimeError(
            f"a training of {ranks} ranks must be called in a process group of {ranks}, found {found} "
            "(surefoot.engine.on_ranks makes one)"
        )
    return DistributedDataParallel(model)


def share(rows: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """This rank's part of a batch, and the weight of its mean loss in the mean over ranks.

    With it, the mean over ranks is the mean over the whole batch, also where the parts differ in size, by one row at most.
    """
    count = distributed.get_world_size()
    part = np.array_split(rows, count)[distributed.get_rank()]
    return part, len(part) * count / len(rows)
