"""Backtracking: gradient descent whose every step searches for a rate that lowers the loss of its own batch enough."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from surefoot import checks
from surefoot.moments import Group, check, read, wide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RESETS = ("grow", "keep", "full")
_STEPS_PER_EPOCH = 500  # Where nobody says how many: that of the authors' code.


class Backtracking(Optimizer):
    r"""Gradient descent with the Armijo line search, on each step's own batch.

    With the batch's loss $f$ and its gradient $g$ at the weights $w$, a step tries the rates
    $\eta, \beta\eta, \beta^2\eta, \ldots$ and takes the first that lowers the loss enough:

    $$f(w - \eta g) \le f(w) - c\,\eta\,|g|^2.$$

    `group["lr"]` is the largest rate, the first that is ever tried; schedulers and policies may set it as they do with any
    optimizer. Groups with rates of their own are searched together: all rates are multiplied by one scale, so that the ratios
    between them stay, and $\eta\,|g|^2$ is summed over the groups. The loss is compared in its own precision: a step never
    raises it, and where it is as low as that precision can tell, equal is enough.

    The closure computes the loss of the batch, anew whenever it is called, and nothing else: `step` clears the gradients, calls
    `backward()` on the first loss, and calls the closure once more for each rate that it tries, without gradients then.

    >>> import torch
    >>> weights = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> optimizer = Backtracking([weights], lr=10.0, shrink=0.5)
    >>> optimizer.step(lambda: weights.square().sum())
    tensor(25.)
    >>> weights.data, optimizer.scale, optimizer.trials
    (tensor([-0.7500, -1.0000]), 0.0625, 5)

    Trials leave nothing behind. Random numbers of PyTorch are the same in all passes of a step, so dropout sees one mask, and
    go on afterwards as after one pass. So do the buffers of `module`, such as the running statistics of batch normalisation.

    A loss or gradients that are not finite change nothing, and such a trial counts as one that is too high. If no rate is found
    in `max_trials`, the weights stay, and so does the last rate; if there was none yet, the next step goes on from where this
    one ended. Every trial is a forward pass, whose loss the host waits for. One copy of the parameters is kept during a step.

    Attributes:
        decrease, shrink, reset, growth, max_trials: Settings.
        module, steps_per_epoch: Settings that may be made later.
        scale: How much of the largest rate the last step used, from 0 to 1: 0 if it found none, and 1 before the first step.
        steps: Steps so far, each with one forward and one backward pass.
        trials: Forward passes so far beyond those.
        failures: Steps so far that found no rate.

    Args:
        params: Parameters or groups of them, real numbers; a group may have its own `lr`.
        lr: The largest rate, 0 or more.
        decrease: c above, strictly between 0 and 1: the least share of what the slope promises.
        shrink: beta above, strictly between 0 and 1.
        reset: Where a search begins: `"grow"` with the last rate times `growth` to the power of 1 / `steps_per_epoch`;
            `"keep"` with the last rate, so that rates never rise; `"full"` with the largest. No search begins above it.
        growth: How much a rate may grow in an epoch, 1 or more.
        steps_per_epoch: Steps in which all batches come by once, 1 or more; 500 unless given.
        max_trials: Rates that a step tries at most, 1 or more.
        module: The model, if it has buffers that change in a forward pass.

    Raises:
        TypeError: A setting is not a number where one is needed, `module` is none, or a parameter is complex.
        ValueError: A setting is outside its range.

    Reference: Vaswani et al., 2019, arXiv:1905.09997: `"keep"`, `"full"` and `"grow"` are its options 0, 1 and 2. The other
    defaults are those of the authors' code.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        *,
        decrease: float = 0.1,
        shrink: float = 0.9,
        reset: Literal["grow", "keep", "full"] = "grow",
        growth: float = 2.0,
        steps_per_epoch: int | None = None,
        max_trials: int = 100,
        module: nn.Module | None = None,
    ) -> None:
        checks.fraction("decrease", decrease)
        checks.fraction("shrink", shrink)
        checks.one_of("reset", reset, RESETS)
        checks.number("growth", growth, low=1.0, advice='rates that never rise: reset="keep"')
        checks.whole("max_trials", max_trials, low=1)
        if steps_per_epoch is not None:
            checks.whole("steps_per_epoch", steps_per_epoch, low=1)
        if module is not None and not isinstance(module, nn.Module):
            raise TypeError(f"module must be the model whose buffers are put back, got {module!r}")
        self.decrease, self.shrink, self.reset, self.growth = decrease, shrink, reset, growth
        self.steps_per_epoch, self.max_trials, self.module = steps_per_epoch, max_trials, module
        super().__init__(params, {"lr": lr})
        self._found = {"rate": None, "scale": 1.0, "steps": 0, "trials": 0, "failures": 0}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters.

        Raises:
            TypeError: The rate is not a number, or a parameter is complex.
            ValueError: The rate is outside its range.
        """
        super().add_param_group(param_group)
        try:
            check(self.param_groups[-1])
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    @property
    def scale(self) -> float:
        """How much of the largest rate the last step used."""
        return float(self._found["scale"])

    @property
    def steps(self) -> int:
        """Steps so far."""
        return int(self._found["steps"])

    @property
    def trials(self) -> int:
        """Forward passes so far beyond one per step."""
        return int(self._found["trials"])

    @property
    def failures(self) -> int:
        """Steps so far that found no rate."""
        return int(self._found["failures"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Find the gradients, search for a rate, and make a step.

        Args:
            closure: What returns the loss of the batch, one number in a tensor, and leaves `backward()` to the step.

        Returns:
            The loss before the step, outside its graph. The gradients are left with the parameters.

        Raises:
            TypeError: There is no closure, or its loss is no tensor.
            ValueError: The loss is not one number, does not depend on the parameters, or was sent backward by the closure; or a
                gradient is sparse.
        """
        if not callable(closure):
            raise TypeError(
                "a line search computes the loss several times, so a step needs a closure, "
                f"got {closure!r} (such as step(lambda: cross_entropy(model(x), y)))"
            )
        self.zero_grad()
        before = _Surroundings.of(self)
        with torch.enable_grad():
            loss = closure()
            self._check_loss(loss)
            torch.autograd.backward(loss)
        loss = loss.detach()
        after = _Surroundings.of(self)
        groups = [Group.of(self, settings) for settings in self.param_groups]
        slope = sum(float(group.settings["lr"]) * square for group, square in zip(groups, _squares(groups), strict=True))
        found = {**self._found, "steps": self.steps + 1}
        if isfinite(loss) and isfinite(slope) and slope > 0.0:
            try:
                found |= self._search(groups, closure, before, loss, slope)
            finally:
                after.put_back()
        self._found = found
        return loss

    def __getstate__(self) -> dict[str, Any]:
        own = ("decrease", "shrink", "reset", "growth", "steps_per_epoch", "max_trials", "module")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    @property
    def _found(self) -> dict[str, Any]:
        """The last rate of the group with the largest, what it was as a scale, and the counts."""
        found: dict[str, Any] = self.param_groups[0]["found"]
        return found

    @_found.setter
    def _found(self, found: dict[str, Any]) -> None:
        self.param_groups[0]["found"] = found  # Never changed in place: it is in the snapshots, too.

    def _search(
        self, groups: list[Group], closure: Callable[[], Tensor], before: _Surroundings, loss: Tensor, slope: float
    ) -> dict[str, Any]:
        """Move the weights by the first rate that will do; and what is found with it."""
        largest = max(float(group.settings["lr"]) for group in groups)
        start = scale = self._first(largest)
        weights = [parameter.clone() for group in groups for parameter in group.parameters]
        is_found, trials = False, 0
        try:
            while not is_found and trials < self.max_trials:
                scale = start * self.shrink**trials
                _go(groups, weights, scale)
                before.put_back()
                # In the loss's precision: where the least that is asked for is lost in rounding, equal is enough.
                enough = torch.tensor(float(loss) - self.decrease * scale * slope, dtype=loss.dtype).item()
                reached, trials = float(closure()), trials + 1
                is_found = isfinite(reached) and reached <= enough
        finally:
            if not is_found:
                _go(groups, weights, 0.0)
        # A batch without a rate, as where its loss is all rounding, says nothing against the one that suited others.
        is_news = is_found or self._found["rate"] is None
        return {
            "rate": scale * largest if is_news else self._found["rate"],
            "scale": scale if is_found else 0.0,
            "trials": self.trials + trials,
            "failures": self.failures + (not is_found),
        }

    def _first(self, largest: float) -> float:
        """The scale to try first, given the largest rate of a group, which is above 0."""
        rate: float | None = self._found["rate"]
        if rate is None or self.reset == "full":
            return 1.0
        if self.reset == "grow":
            rate *= self.growth ** (1.0 / (self.steps_per_epoch or _STEPS_PER_EPOCH))
        return min(1.0, rate / largest)

    def _check_loss(self, loss: Any) -> None:
        """Raise unless the closure did what it should."""
        if not isinstance(loss, Tensor):
            raise TypeError(f"the closure must return the loss as a tensor, got {loss!r} (leave out .item())")
        if loss.numel() != 1:
            raise ValueError(f"expected one loss, got a tensor of shape {tuple(loss.shape)}; reduce it first: loss.mean()")
        if any(parameter.grad is not None for settings in self.param_groups for parameter in settings["params"]):
            raise ValueError("the closure must only compute the loss, got gradients from it (leave out loss.backward())")
        if not loss.requires_grad:
            raise ValueError("the closure's loss must depend on the parameters, got one without a graph (leave out .detach())")


class _Surroundings(NamedTuple):
    """What a forward pass may change besides its result.

    Attributes:
        random: Devices with the states of their random numbers.
        buffers: The modules' tables of buffers, each buffer's name, itself, and a copy.
    """

    random: list[tuple[torch.device, Tensor]]
    buffers: list[tuple[dict[str, Tensor | None], str, Tensor, Tensor]]

    @classmethod
    def of(cls, optimizer: Backtracking) -> Self:
        """Those of an optimizer's closure."""
        parameters = (parameter for settings in optimizer.param_groups for parameter in settings["params"])
        devices = {torch.device("cpu"), *(parameter.device for parameter in parameters)}
        tables = [] if optimizer.module is None else [module._buffers for module in optimizer.module.modules()]  # noqa: SLF001 - to be put back by name
        return cls(
            [(device, _random(device).get_rng_state(*_place(device))) for device in devices],
            [(table, name, buffer, buffer.clone()) for table in tables for name, buffer in table.items() if buffer is not None],
        )

    def put_back(self) -> None:
        """Make them what they were."""
        for device, state in self.random:
            _random(device).set_rng_state(state, *_place(device))
        for table, name, buffer, copy in self.buffers:
            table[name] = buffer.copy_(copy)


def _random(device: torch.device) -> Any:
    """The module that keeps the random numbers of a device."""
    return torch if device.type == "cpu" else torch.get_device_module(device)


def _place(device: torch.device) -> tuple[torch.device, ...]:
    """How that module is told which device, if there can be several."""
    return () if device.type in {"cpu", "mps"} else (device,)


def _squares(groups: list[Group]) -> list[float]:
    """The inner product of each group's gradient with itself; NaN if one is not finite."""
    rows = []
    for group in groups:
        for gradient in group.gradients:
            flat = wide(gradient)
            # As a share of the largest: squares of float32 overflow above 1e19, and vanish below 1e-23.
            largest = flat.abs().max().clamp(min=torch.finfo(flat.dtype).tiny)
            flat = flat / largest
            rows.append(torch.stack([largest, torch.dot(flat, flat)]))
    left = iter([largest * largest * square for largest, square in read(rows)])
    return [sum(next(left) for _ in group.gradients) for group in groups]


def _go(groups: list[Group], weights: list[Tensor], scale: float) -> None:
    """Go from the weights by so much of the groups' rates."""
    left = iter(weights)
    for group in groups:
        if group.parameters:
            torch._foreach_copy_(group.parameters, [next(left) for _ in group.parameters])
            if scale > 0.0:
                torch._foreach_add_(group.parameters, group.gradients, alpha=-scale * float(group.settings["lr"]))
