"""A training that can be tried out, and is then put back as it was: every number, and every object."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch.optim import Optimizer


def keep(value: Any) -> Callable[[], Any]:
    """Remember tensors, and dicts, lists and tuples of them; what is returned puts the very same objects back.

    >>> state = {"moment": torch.ones(1), "step": 3}
    >>> back, moment = keep(state), state["moment"]
    >>> state["moment"].fill_(7.0), state.update(step=4, more=torch.zeros(1))
    (tensor([7.]), None)
    >>> back() is state, state["moment"] is moment, state
    (True, True, {'moment': tensor([1.]), 'step': 3})
    """
    if isinstance(value, Tensor):
        return _kept_tensor(value)
    if isinstance(value, dict):
        entries = {name: keep(item) for name, item in value.items()}

        def refilled() -> Any:
            value.clear()
            value.update({name: back() for name, back in entries.items()})
            return value

        return refilled
    if isinstance(value, (list, tuple)):
        items = [keep(item) for item in value]

        def relisted() -> Any:
            found = [back() for back in items]
            if isinstance(value, list):
                value[:] = found
            return value

        return relisted
    own = deepcopy(value)  # Numbers and words are their own copies.
    return lambda: own


@contextmanager
def put_back(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Whatever is done to model and optimizer inside is undone at the end, also after an error or Ctrl-C.

    That is parameters, their gradients, buffers and modes of the model; state and groups of the optimizer, rates that are
    tensors included, and plain attributes such as a count of steps; and PyTorch's random numbers, on the CPU and on the devices
    of the model.
    """
    parameters = every_parameter(model, optimizer)
    backs = [
        *(_kept_tensor(parameter) for parameter in parameters),
        *(_kept_module(module) for module in model.modules()),
        keep(optimizer.state),
        *(_kept_group(group) for group in optimizer.param_groups),
    ]
    gradients = [(parameter, parameter.grad) for parameter in parameters]
    plain = {name: value for name, value in vars(optimizer).items() if isinstance(value, (bool, int, float, str, type(None)))}
    for parameter in parameters:
        parameter.grad = None  # What is accumulated meanwhile is no part of these.
    try:
        with same_randomness(parameters):
            yield
    finally:
        for back in backs:
            back()
        for parameter, gradient in gradients:
            parameter.grad = gradient
        vars(optimizer).update(plain)


def every_parameter(model: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    """The parameters of both, each once."""
    grouped = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return list(dict.fromkeys([*model.parameters(), *grouped]))


@contextmanager
def same_randomness(tensors: Iterable[Tensor]) -> Iterator[None]:
    """PyTorch's random numbers go on afterwards as if none had been drawn, on the CPU and on the devices of these tensors."""
    devices = sorted({tensor.device.index or 0 for tensor in tensors if tensor.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        yield


def _kept_group(group: dict[str, Any]) -> Callable[[], None]:
    settings = {name: keep(value) for name, value in group.items() if name != "params"}

    def back() -> None:
        for name in group.keys() - settings.keys() - {"params"}:
            del group[name]
        group.update({name: setting() for name, setting in settings.items()})

    return back


def _kept_tensor(value: Tensor) -> Callable[[], Tensor]:
    copy = value.detach().clone()

    def refilled() -> Tensor:
        with torch.no_grad():
            value.copy_(copy)
        return value

    return refilled


def _kept_module(module: nn.Module) -> Callable[[], None]:
    """Its own buffers, as objects, and whether it trains."""
    buffers, is_training = keep(module._buffers), module.training  # noqa: SLF001 - A buffer may be replaced by another tensor.

    def back() -> None:
        buffers()
        module.training = is_training

    return back
