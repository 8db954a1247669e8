"""What the optimizers of this library remember of gradients, and how they gather them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from surefoot import checks

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Group(NamedTuple):
    """The parameters of a group that a step is about.

    Attributes:
        settings: One of `Optimizer.param_groups`.
        parameters, gradients: Those that have a gradient, and these.
        memory: What the optimizer remembers of each.
    """

    settings: dict[str, Any]
    parameters: list[Tensor]
    gradients: list[Tensor]
    memory: list[dict[str, Any]]

    @classmethod
    def of(cls, optimizer: Optimizer, settings: dict[str, Any], *, with_idle: bool = False) -> Group:
        """What there is to do for one of an optimizer's groups.

        Args:
            optimizer: The optimizer.
            settings: The group.
            with_idle: Whether a parameter that had a gradient before, and has none now, counts as one with a gradient of zeros.

        Raises:
            ValueError: A gradient is sparse.
        """
        parameters, gradients = [], []
        for parameter in settings["params"]:
            gradient = parameter.grad
            if gradient is None and with_idle and parameter in optimizer.state:
                gradient = torch.zeros_like(parameter)
            if gradient is None or not parameter.numel():
                continue
            if gradient.layout is not torch.strided:
                raise ValueError("gradients must be dense, got a sparse one (make the embedding with sparse=False)")
            parameters.append(parameter)
            gradients.append(gradient)
        return cls(settings, parameters, gradients, [optimizer.state[parameter] for parameter in parameters])

    def kept(self, name: str) -> list[Tensor]:
        """What is remembered by this name, zeros at first."""
        for parameter, memory in zip(self.parameters, self.memory, strict=True):
            if name not in memory:
                memory[name] = torch.zeros_like(parameter)
        return [memory[name] for memory in self.memory]


def adam(group: Group) -> tuple[list[Tensor], list[Tensor], list[float]]:
    """Take the gradients into Adam's averages, as `torch.optim.Adam` does to the last bit.

    Returns:
        The mean of the gradients, not yet corrected; the root of that of their squares, corrected, plus `eps`; and by what the
        mean is to be divided.
    """
    if not group.parameters:
        return [], [], []
    first, second = group.settings["betas"]
    means, squares = group.kept("mean"), group.kept("square")
    for memory in group.memory:
        memory["steps"] = memory.get("steps", 0) + 1
    torch._foreach_lerp_(means, group.gradients, 1.0 - first)
    torch._foreach_mul_(squares, second)
    torch._foreach_addcmul_(squares, group.gradients, group.gradients, 1.0 - second)
    spreads = list(torch._foreach_sqrt(squares))  # noqa: SLF001 - as fast as PyTorch's own optimizers
    torch._foreach_div_(spreads, [(1.0 - second ** memory["steps"]) ** 0.5 for memory in group.memory])
    torch._foreach_add_(spreads, group.settings["eps"])
    return means, spreads, [1.0 - first ** memory["steps"] for memory in group.memory]


def wide(tensor: Tensor) -> Tensor:
    """All numbers of a tensor in a row, in float32 or wider, so that sums of many stay exact enough."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32)).flatten()


def read(rows: list[Tensor]) -> list[list[float]]:
    """Rows of a few numbers each, from any devices, in one piece: the host waits for it once."""
    return torch.stack([row.double().to(rows[0].device) for row in rows]).tolist() if rows else []


def check(settings: dict[str, Any]) -> None:
    """Raise unless those settings that a group has are in their ranges, and its parameters real."""
    checks.number("lr", float(settings["lr"]), low=0.0)
    for name in ("weight_decay", "eps"):
        checks.number(name, settings.get(name, 0.0), low=0.0)
    for name, value in (("momentum", settings.get("momentum", 0.0)), *(("betas", beta) for beta in settings.get("betas", ()))):
        checks.number(name, value, low=0.0)
        if value >= 1.0:
            raise ValueError(f"{name} must be below 1, got {value}")
    for parameter in settings["params"]:
        if not parameter.is_floating_point():
            raise TypeError(f"parameters must be real numbers, got one of {parameter.dtype} (train its real view instead)")
