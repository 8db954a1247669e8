"""A policy whose state lives in tensors on one device and never leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surefoot.arithmetic import lift

if TYPE_CHECKING:
    from surefoot.policy import Policy


class DeviceRunner:
    """Folds a policy over losses on a device, in buffers that stay where they are.

    Nothing is read back, so nothing waits for the device, and what it does can be compiled or captured in a CUDA graph
    together with the optimizer's step: a replay finds the state where the capture left it.

    Attributes:
        state: The policy's state, every number in it a tensor; the same tensors for ever.
        scale: Its scale.

    Args:
        policy: The policy.
        state: Where to start, in plain numbers or tensors.
        device: Where the state is kept.
    """

    def __init__(self, policy: Policy[Any], state: Any, device: torch.device) -> None:
        self._policy = policy
        self.state = _on(device, lift(state, torch.zeros((), device=device)))
        self.scale: Tensor = self.state.scale

    @torch.no_grad()
    def advance(self, loss: Any, **signals: Any) -> Tensor:
        """Take in one loss, a tensor on the device, and return the next scale."""
        _copy(self.state, self._policy.update(self.state, loss, **signals))
        return self.scale

    def why(self) -> str:
        """Nothing: whoever asked would have to wait for the device."""
        return ""

    def because(self) -> None:
        """Nothing, likewise."""


def _on(device: torch.device, value: Any) -> Any:
    """A state's tensors as buffers of their own on a device."""
    if isinstance(value, tuple):
        moved = [_on(device, item) for item in value]
        return type(value)(*moved) if hasattr(value, "_fields") else tuple(moved)
    return value.detach().to(device, copy=True) if isinstance(value, Tensor) else value


def _copy(buffers: Any, values: Any) -> None:
    if isinstance(buffers, tuple):
        for buffer, value in zip(buffers, values, strict=True):
            _copy(buffer, value)
    elif isinstance(buffers, Tensor):
        buffers.copy_(values)
