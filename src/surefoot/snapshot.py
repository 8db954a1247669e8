"""States as checkpoints hold them: plain containers that anyone can load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from surefoot.policy import Policy


def plain(value: Any) -> Any:
    """A copy in dicts, lists and numbers.

    `torch.load(weights_only=True)` reads it. A tensor would be refused by `torch.distributed.checkpoint` where a scheduler that
    has seen no loss yet has a number.
    """
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {name: plain(item) for name, item in value._asdict().items()}
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def restored(like: Any, data: Any, policy: Policy[Any]) -> Any:
    """What `plain` was given, in the structure of `like`."""
    if hasattr(like, "_fields"):
        if isinstance(data, dict) and set(data) == set(like._fields):
            return type(like)(**{name: restored(getattr(like, name), data[name], policy) for name in like._fields})
        raise ValueError(f"this snapshot is not that of a {type(policy).__name__}")
    if isinstance(like, tuple):
        if isinstance(data, (list, tuple)) and len(data) == len(like):
            return tuple(data)
        raise ValueError(f"this snapshot was taken with other settings than {policy!r}: the lengths of its windows differ")
    return like.new_tensor(data) if hasattr(like, "new_tensor") else data


def as_tensors(value: Any, device: Any = "cpu") -> Any:
    """Lists, tuples and dicts with tensors of their own on a device in the place of arrays of NumPy.

    >>> as_tensors({"step": 3, "moves": [np.ones(2)]})
    {'step': 3, 'moves': [tensor([1., 1.], dtype=torch.float64)]}
    """
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(value).to(device, copy=True)  # Aligned as PyTorch does, whatever NumPy did.
    if isinstance(value, dict):
        return {name: as_tensors(inner, device) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(as_tensors(inner, device) for inner in value)
    return value
