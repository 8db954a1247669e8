"""MoMo: momentum whose rate is found from a model of the loss and a lower bound of it."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from surefoot import checks
from surefoot.moments import Group, adam, check, read, wide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DIRECTIONS = ("sgd", "adam")


class MoMo(Optimizer):
    r"""Momentum, or Adam, that goes no further than its model of the loss reaches the loss's lower bound.

    Each batch's loss, laid out as a plane at its own weights, is a model of the objective. The mean of these planes, with the
    weights $1-\beta, (1-\beta)\beta, \ldots$ of momentum, is a plane again: with the averages $f_k$ of the losses, $d_k$ of the
    gradients and $\gamma_k$ of the inner products $\langle g, w\rangle$, it is $f_k - \gamma_k + \langle d_k, w\rangle$, taken
    down to the lower bound $b$ at most. A step minimises this model plus the squared distance over twice the rate. With the
    rate $\alpha$, no decay of the weights, and $D_k$, which is 1, or Adam's root of the mean square, it is

    $$w_{k+1} = w_k - \min\Bigl(\frac{\alpha}{\rho_k},\;
      \frac{\max(f_k - \gamma_k + \langle d_k, w_k\rangle - \rho_k b,\; 0)}{\langle d_k, D_k^{-1} d_k\rangle}\Bigr)
      D_k^{-1} d_k,$$

    where $\rho_k$ is the sum of the averages' weights, $1 - \beta^k$, or 1 where they begin at the first values. So
    `group["lr"]` is the largest rate, and schedulers and policies may set it as they do with any optimizer; `scale` says how
    much of it the last step used. Without momentum it is the Polyak step with a ceiling.

    Groups may have rates and decays of their own. The step stays the exact minimum of the model, with the distance in each
    group measured by its own rate.

    The loss comes with the step, as it was before it, from the same batch as the gradients:

    >>> import torch
    >>> weights = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> optimizer = MoMo([weights], lr=10.0)
    >>> loss = weights.square().sum()
    >>> loss.backward()
    >>> _ = optimizer.step(loss=loss)
    >>> weights.data, round(optimizer.scale, 6)
    (tensor([1.5000, 2.0000]), 0.025)

    Loss and gradients that are not all finite change nothing. A parameter without gradient counts as one with a gradient of
    zeros, unless it never had any. Each step reads a few numbers per tensor, for which the host waits. With a `GradScaler`, the
    loss is the one before scaling.

    Attributes:
        direction, least, estimate: Settings.
        scale: How much of the largest rate the last step used: from 0 to 1, more only while a corrected average begins; 1
            before the first step.
        lower_bound: The lower bound for the next step, estimated or not.

    Args:
        params: Parameters or groups of them, real numbers; a group may have its own `lr`, `weight_decay` and `eps`.
        lr: The largest rate, 0 or more; unless given, 1 for `"sgd"` and 0.01 for `"adam"`.
        direction: `"sgd"` for MoMo, `"adam"` for MoMo-Adam.
        momentum: beta of `"sgd"`, from 0 to below 1.
        betas: Of Adam's averages, from 0 to below 1; the first is beta.
        eps: What Adam adds to the root of the squares, 0 or more.
        weight_decay: 0 or more: the squared distance to 0 that the step minimises as well, so that weights are divided by
            1 + rate x decay.
        lower_bound: What no batch's loss goes below; in the unit of the loss, 0 for most.
        estimate: Whether to raise the bound by what the steps reveal (MoMo*), never below `lower_bound`.

    Raises:
        TypeError: A setting is not a number where one is needed, or a parameter is complex.
        ValueError: A setting is outside its range.

    Reference: Schaipp et al., 2024, arXiv:2305.07583: MoMo, MoMo-Adam, and MoMo* with its estimate of the bound.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor | None = None,
        *,
        direction: Literal["sgd", "adam"] = "sgd",
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        lower_bound: float = 0.0,
        estimate: bool = False,
    ) -> None:
        checks.one_of("direction", direction, DIRECTIONS)
        checks.number("lower_bound", lower_bound, advice="a loss without one needs no MoMo")
        self.direction, self.least, self.estimate = direction, lower_bound, estimate
        if lr is None:
            lr = 1.0 if direction == "sgd" else 0.01
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._model = {"steps": 0, "loss": 0.0, "product": 0.0, "lower_bound": lower_bound, "scale": 1.0}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters.

        Raises:
            TypeError: A setting is not a number, or a parameter is complex.
            ValueError: A setting is outside its range, or a momentum that is not the other groups'.
        """
        super().add_param_group(param_group)
        try:
            self._check(self.param_groups[-1])
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    def _check(self, settings: dict[str, Any]) -> None:
        check(settings)
        for name in ("momentum", "betas"):
            if settings[name] != self.defaults[name]:
                raise ValueError(f"{name} must be the same in all groups, got {settings[name]} in one of them")

    @property
    def scale(self) -> float:
        """How much of the largest rate the last step used."""
        return float(self._model["scale"])

    @property
    def lower_bound(self) -> float:
        """The lower bound for the next step."""
        return float(self._model["lower_bound"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, loss: Any = None) -> Any:
        """Take in a loss and its gradients, and make a step.

        Args:
            closure: What finds the gradients and returns the loss.
            loss: The loss, one number or a tensor with one element, if the gradients are there already.

        Returns:
            The loss.

        Raises:
            ValueError: There is neither a closure nor a loss, or both; or the loss is not one number; or a gradient is sparse.
        """
        if (closure is None) == (loss is None):
            got = "neither" if loss is None else "both"
            raise ValueError(f"a step needs either a closure or a loss, got {got} (after loss.backward(): step(loss=loss))")
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if isinstance(loss, Tensor) and loss.numel() != 1:
            raise ValueError(f"expected one loss, got a tensor of shape {tuple(loss.shape)}; reduce it first: loss.mean()")
        groups = [Group.of(self, settings, with_idle=True) for settings in self.param_groups]
        before = read(
            [
                torch.stack([wide(gradient).abs().max(), torch.dot(wide(gradient), wide(parameter))])
                for group in groups
                for gradient, parameter in zip(group.gradients, group.parameters, strict=True)
            ]
        )
        if isfinite(loss) and all(isfinite(largest) for largest, _ in before):
            self._advance(groups, float(loss), [product for _, product in before])
        return loss

    def __getstate__(self) -> dict[str, Any]:
        own = ("direction", "least", "estimate")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    @property
    def _model(self) -> dict[str, float]:
        """The plane but for its slope, which is remembered with the parameters."""
        found: dict[str, float] = self.param_groups[0]["model"]
        return found

    @_model.setter
    def _model(self, model: dict[str, float]) -> None:
        self.param_groups[0]["model"] = model  # Never changed in place: it is in the snapshots, too.

    def _advance(self, groups: list[Group], loss: float, products: list[float]) -> None:
        """Make a step, given the inner product of each parameter with its gradient."""
        model, is_adam = self._model, self.direction == "adam"
        beta = self.defaults["betas"][0] if is_adam else self.defaults["momentum"]
        # What begins at its first value takes it whole. A parameter may begin later than the others.
        shares = [1.0 - beta if is_adam or "mean" in memory else 1.0 for group in groups for memory in group.memory]
        share = 1.0 - beta if is_adam or model["steps"] else 1.0
        mean = model["loss"] + share * (loss - model["loss"])
        product = beta * model["product"] + sum(own * new for own, new in zip(shares, products, strict=True))
        steps = model["steps"] + 1
        total = 1.0 - beta**steps if is_adam else 1.0
        planes = [self._plane(group) for group in groups]
        lands = [_Land.of(group, *plane) for group, plane in zip(groups, planes, strict=True)]

        height = (mean - product + sum(land.slope / land.shrink for land in lands)) / total
        bound = model["lower_bound"]
        if self.estimate and height < bound:
            bound = max(height / 2.0, self.least)
        drop = sum(land.rate * land.square / land.shrink for land in lands)
        scale = min(1.0 / total, total * max(height - bound, 0.0) / drop) if drop > 0.0 else 1.0 / total
        if self.estimate:
            lowest = mean - product + sum(land.slope - 0.5 * scale * land.rate * land.square for land in lands)
            bound = max(lowest / total, self.least) if isfinite(lowest) else bound

        for group, plane, land in zip(groups, planes, lands, strict=True):
            _move(group, *plane, scale * land.rate, land.shrink)
        self._model = {"steps": steps, "loss": mean, "product": product, "lower_bound": bound, "scale": scale}

    def _plane(self, group: Group) -> tuple[list[Tensor], list[Tensor]]:
        """The averages of the gradients, and what each number of them is divided by in a step; nothing for 1."""
        if self.direction == "adam":
            means, spreads, _ = adam(group)
            return means, spreads
        beta = group.settings["momentum"]
        for gradient, memory in zip(group.gradients, group.memory, strict=True):
            if "mean" in memory:
                memory["mean"].mul_(beta).add_(gradient, alpha=1.0 - beta)
            else:
                memory["mean"] = gradient.clone()
        return [memory["mean"] for memory in group.memory], []


class _Land(NamedTuple):
    """What the model knows of a group.

    Attributes:
        slope: The inner product of the averaged gradient and the weights.
        square: That of the averaged gradient and the direction.
        rate: The largest rate.
        shrink: What the weights are divided by.
    """

    slope: float
    square: float
    rate: float
    shrink: float

    @classmethod
    def of(cls, group: Group, means: list[Tensor], spreads: list[Tensor]) -> _Land:
        ways = [mean / spread for mean, spread in zip(means, spreads, strict=True)] if spreads else means
        rows = [
            torch.stack([torch.dot(wide(mean), wide(parameter)), torch.dot(wide(mean), wide(way))])
            for mean, parameter, way in zip(means, group.parameters, ways, strict=True)
        ]
        slope, square = map(sum, zip((0.0, 0.0), *read(rows), strict=True))
        rate = float(group.settings["lr"])
        return cls(slope, square, rate, 1.0 + rate * group.settings["weight_decay"])


def _move(group: Group, means: list[Tensor], spreads: list[Tensor], rate: float, shrink: float) -> None:
    if not group.parameters:
        return
    if spreads:
        torch._foreach_addcdiv_(group.parameters, means, spreads, -rate)
    else:
        torch._foreach_add_(group.parameters, means, alpha=-rate)
    if shrink != 1.0:
        torch._foreach_div_(group.parameters, shrink)
