"""What happens to a scheduler in `accelerator.prepare`: it goes by optimizer steps, and by one loss for all processes.

There is nothing to import from here. `accelerator.prepare(scheduler)` finds its way by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surefoot.ranks import mean_over_ranks

try:
    from accelerate.state import PartialState
except ImportError as error:
    raise ImportError("surefoot.accelerate needs accelerate: pip install 'surefoot[hf]'") from error

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Prepared:
    """Tells a scheduler when a step of the optimizer was made, and the mean of its loss over the processes.

    Accelerate calls a scheduler for every micro-batch, and after steps that its gradient scaler leaves out. So it is the
    optimizer itself that is asked, not accelerate's `sync_gradients`, which knows nothing of the scaler.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    >>> prepared = Prepared(optimizer)
    >>> prepared.due()
    False
    >>> optimizer.step()
    >>> prepared.due(), prepared.due()
    (True, False)

    Args:
        optimizer: The scheduler's optimizer, be it as accelerate has wrapped it.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer: Optimizer = getattr(optimizer, "optimizer", optimizer)
        self._stepped = False
        self._attach()

    def due(self) -> bool:
        """Whether the optimizer has made a step since the last time that it had."""
        stepped, self._stepped = self._stepped, False
        return stepped

    def mean(self, loss: Any) -> Tensor:
        """The mean of a loss over all processes; each of them has to ask.

        Args:
            loss: This process's loss, a number or a tensor with one element.
        """
        if not isinstance(loss, Tensor):
            state = PartialState()
            loss = torch.tensor(loss, dtype=torch.float64, device=state.device if state.use_distributed else "cpu")
        return mean_over_ranks(loss)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy of an optimizer has lost its hooks.
        self.__dict__.update(state)
        self._attach()

    def _attach(self) -> None:
        self._optimizer.register_step_post_hook(self._note)

    def _note(self, *_: Any) -> None:
        self._stepped = True
