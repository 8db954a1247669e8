"""Optimizers that train at one point and are judged at another, as Schedule-Free ones do."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn
    from torch.optim import Optimizer


def has_modes(optimizer: Optimizer) -> bool:
    """Whether an optimizer takes parameters where they are trained by `train()`, and where they are judged by `eval()`.

    >>> has_modes(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    False
    """
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def as_judged(model: nn.Module, optimizer: Optimizer, batches: Iterable[Tensor]) -> nn.Module:
    """A copy of a model where its optimizer wants it to be judged; model and optimizer stay as they are, to the last bit.

    Running statistics of batch normalisation are those of where the model is trained, and are wrong where it is judged. So the
    copy is shown some batches first, as the authors of Schedule-Free ask.

    Args:
        model: What is trained.
        optimizer: What trains it, and `has_modes`.
        batches: Inputs to train on; they are looked at only where there are running statistics.

    Reference: Defazio et al., 2024, arXiv:2405.15682.
    """
    # A copy, not a way there and back: what `eval()` does, `train()` undoes only but for rounding.
    model, optimizer = deepcopy((model, optimizer))
    modes: Any = optimizer
    modes.eval()
    if any(isinstance(layer, _BatchNorm) and layer.track_running_stats for layer in model.modules()):
        was_training = model.training
        model.train()
        with torch.no_grad():
            for batch in batches:
                model(batch)
        model.train(was_training)
    return model
