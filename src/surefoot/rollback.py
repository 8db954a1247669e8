"""Going back to where a training was still well, when its loss explodes."""

from __future__ import annotations

import weakref
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from surefoot import checks

if TYPE_CHECKING:
    from torch.optim import Optimizer

_NOT_KEPT = {"params", "lr", "initial_lr"}


class _Copy(NamedTuple):
    """What a training was: tensors of the model with copies of them, the optimizer's state, and its groups' settings."""

    tensors: list[tuple[Tensor, Tensor]]
    state: dict[Any, Any]
    groups: list[dict[str, Any]]


class Rollback:
    """Copies of a model and its optimizer in memory, to be put back when a policy raises an alarm.

    A copy is made before the first step and every so many steps, and believed only when as many more steps went by without an
    alarm: a model that has just been ruined looks like any other until its loss is seen. So there are two copies at a time, on
    the device of the originals. An alarm puts back the last one that is believed: parameters, buffers and all of the optimizer
    but its rates, which are the policy's. The order of the data and a gradient scaler stay as they are.

    `PolicyLR(optimizer, policy, rollback=model)` makes one and lets it see every step.

    >>> import torch
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1e9)
    >>> rollback, before = Rollback(model, optimizer), model.weight.item()
    >>> model(torch.ones(1)).backward()
    >>> optimizer.step()
    >>> rollback.step(alarms=1), model.weight.item() == before
    (True, True)

    Attributes:
        model: The model, with all of the optimizer's parameters in it.
        optimizer: The optimizer.
        every: Steps from one copy to the next, 1 or more; no fewer than the policy's window, which has one alarm at most.
        count: How often the training was put back.

    Raises:
        TypeError: The model or the optimizer is not one, or a number is not whole.
        ValueError: The optimizer has parameters that are not the model's, or `every` is less than 1.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, *, every: int = 50) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"rollback needs the model whose parameters are trained, got a {type(model).__name__}")
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        checks.whole("every", every, low=1)
        known = set(model.parameters())
        if not all(parameter in known for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError("rollback needs a model that has all parameters of the optimizer, this one lacks some")
        self.model, self.optimizer, self.every, self.count = model, optimizer, every, 0
        self.restart()
        self._watch()

    def restart(self, alarms: Any = 0) -> None:
        """Forget all copies, as after loading a checkpoint; the next one is made before the optimizer's next step.

        Args:
            alarms: How many there were so far.
        """
        self._believed: _Copy | None = None
        self._fresh: _Copy | None = None
        self._is_new = True
        self._age, self._alarms = 0, int(alarms)

    def step(self, alarms: Any) -> bool:
        """Take note of an optimizer step: make a copy if it is time, or put one back if there were more alarms than before.

        Args:
            alarms: The policy's alarms so far, `state.alarms`; reading it waits for the device that it is on.

        Returns:
            Whether the training was put back.
        """
        before, self._alarms = self._alarms, int(alarms)
        if self._alarms > before:
            self._age, self._fresh = 0, None
            return self._back()
        self._age += 1
        if self._age >= self.every:
            self._age = 0
            if self._fresh is not None:
                self._believed, self._fresh = self._fresh, None
            self._fresh = self._copied()
        return False

    def _watch(self) -> None:
        """Make the first copy before the next step, and not now: the model's checkpoint may be loaded in between."""
        this = weakref.ref(self)

        def before_step(*_: Any) -> None:
            rollback = this()
            if rollback is not None and rollback._is_new:  # noqa: SLF001 - it is this one
                rollback._is_new, rollback._believed = False, rollback._copied()  # noqa: SLF001 - the same

        self.optimizer.register_step_pre_hook(before_step)

    @torch.no_grad()
    def _copied(self) -> _Copy | None:
        """A whole copy, or none of a model that is beyond hope."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            return None
        return _Copy(
            [(tensor, tensor.detach().clone()) for tensor in tensors],
            {parameter: _own(values) for parameter, values in self.optimizer.state.items()},
            [_own({name: group[name] for name in group.keys() - _NOT_KEPT}) for group in self.optimizer.param_groups],
        )

    @torch.no_grad()
    def _back(self) -> bool:
        if self._believed is None:
            return False
        tensors, state, groups = self._believed
        for tensor, copy in tensors:
            tensor.copy_(copy)
        for parameter in [parameter for parameter in self.optimizer.state if parameter not in state]:
            del self.optimizer.state[parameter]
        for parameter, values in state.items():
            _put(self.optimizer.state[parameter], values)
        for group, values in zip(self.optimizer.param_groups, groups, strict=False):  # A group may have been added since.
            _put(group, values, keep=_NOT_KEPT)
        self.count += 1
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "every": self.every,
            "count": self.count,
            "alarms": self._alarms,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        alarms = state.pop("alarms")
        self.__dict__.update(state)
        self.restart(alarms)
        self._watch()


def _own(value: Any) -> Any:
    """A copy that shares nothing, of numbers, tensors, and dicts and lists of them."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: _own(item) for name, item in value.items()}
    return [_own(item) for item in value] if isinstance(value, list) else deepcopy(value)


def _put(live: dict[str, Any], kept: dict[str, Any], keep: set[str] | frozenset[str] = frozenset()) -> None:
    """Make one dict like another, with the tensors that are there filled in place: a compiled step may hold on to them."""
    for name in live.keys() - kept.keys() - keep:
        del live[name]
    for name, value in kept.items():
        there = live.get(name)
        if isinstance(there, Tensor) and isinstance(value, Tensor) and there.shape == value.shape:
            there.copy_(value)
        else:
            live[name] = _own(value)
