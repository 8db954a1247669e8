"""Hypergradient descent: an optimizer that learns its rates from the gradient with respect to them."""

from __future__ import annotations

from math import inf, isfinite, sqrt
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from surefoot import checks
from surefoot.moments import Group, adam, check, read, wide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DIRECTIONS = ("sgd", "momentum", "nesterov", "adam", "adamw")
RULES = ("multiplicative", "additive")
GRANULARITIES = ("all", "group", "tensor", "element")


class Sums(NamedTuple):
    """What a rate has to know of the parameters that it moves; all three are sums over them.

    Attributes:
        slope: The inner product of the gradient and the last direction: minus the hypergradient.
        gradient, direction: Their inner products with themselves.
    """

    slope: float = 0.0
    gradient: float = 0.0
    direction: float = 0.0

    @classmethod
    def of(cls, rows: Iterable[Sums]) -> Sums:
        """Those of all the parameters of these."""
        return cls(*map(sum, zip(cls(), *rows, strict=True)))


class HypergradientDescent(Optimizer):
    r"""Descend along the gradient, and along the hypergradient with the rate itself.

    With the gradient $g_t$ and the last step's direction $d_{t-1}$, by which $w_t = w_{t-1} - r_{t-1} d_{t-1}$, the derivative
    of the loss with respect to the last rate is $-\langle g_t, d_{t-1}\rangle$. Before each step the rate descends along it:

    $$r_t = r_{t-1} + \beta\,\langle g_t, d_{t-1}\rangle \quad\text{(additive)} \quad\text{or}\quad
      r_t = r_{t-1}\,\Bigl(1 + \beta\,\frac{\langle g_t, d_{t-1}\rangle}{|g_t|\,|d_{t-1}|}\Bigr) \quad\text{(multiplicative)}.$$

    The rate is `group["lr"]` times a scale, which begins at 1 and is what is learned. So schedulers and policies may set
    `group["lr"]` as they do with any optimizer, and what they set is multiplied by what is learned. The additive rule counts
    its step in units of the base rate: `group["initial_lr"]`, which schedulers write, and `group["lr"]` where there is none.

    What shares a scale is chosen by `per`:

    - `"all"`: one for everything. With groups of several base rates, the ratios between them stay.
    - `"group"`: one for each parameter group. With a single group both are the article's algorithm.
    - `"tensor"`: one for each tensor: for each parameter, as PyTorch uses the word; "layer-wise" elsewhere.
    - `"element"`: one for each single number, which is what the literature on adaptive rates means by "per parameter"
      (Almeida et al., 1998; Jie et al., arXiv:2008.07277). The cosine of the multiplicative rule is then a sign.

    A step whose gradients are not all finite changes nothing. A parameter without gradient stays, and has no part in the
    hypergradient of the next step either. Each step reads a few numbers per tensor, for which the host waits. Besides what the
    direction remembers, one copy of the last direction is kept.

    >>> import torch
    >>> weights = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> optimizer = HypergradientDescent([weights], lr=0.1, hyper_rate=0.5)
    >>> for _ in range(3):
    ...     weights.grad = weights.detach().clone()
    ...     _ = optimizer.step()
    >>> round(optimizer.rates()[0][0], 4)
    0.225

    Args:
        params: Parameters or groups of them, real numbers; a group may have its own `lr`, `weight_decay`, `momentum`, `betas`
            and `eps`.
        lr: The rate to begin with, 0 or more.
        direction: Whose direction is gone: that of `torch.optim.SGD` without momentum, with it, or with Nesterov's, or that of
            Adam or AdamW.
        rule: How the rate changes, `"multiplicative"` or `"additive"`.
        per: What shares a scale.
        hyper_rate: The rate of the rate, beta above. In the multiplicative rule it has no unit and is below 1, 0.02 unless
            given; in the additive one it has the unit of a rate over that of the slope, 1e-6 unless given, and 1e-8 for Adam
            and AdamW, which are the defaults of the article's authors. 0 leaves the rates alone.
        momentum: Of `"momentum"` and `"nesterov"`, from 0 to below 1.
        betas: Of Adam's averages, from 0 to below 1.
        eps: What Adam adds to the root of the squares, 0 or more.
        weight_decay: 0 or more; decoupled for AdamW, a part of the gradient for the others. 0 unless given, 0.01 for AdamW.
        min_scale, max_scale: Limits of the scales, with 1 between them.

    Raises:
        TypeError: A setting is not a number where one is needed, or a parameter is complex.
        ValueError: A setting is outside its range.

    Reference: Baydin et al., 2018, arXiv:1703.04782: its SGD-HD, SGDN-HD and Adam-HD are `"sgd"`, `"nesterov"` and
    `"adam"` with `rule="additive"` and one group.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        *,
        direction: Literal["sgd", "momentum", "nesterov", "adam", "adamw"] = "sgd",
        rule: Literal["multiplicative", "additive"] = "multiplicative",
        per: Literal["all", "group", "tensor", "element"] = "group",
        hyper_rate: float | None = None,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | None = None,
        min_scale: float = 0.0,
        max_scale: float = inf,
    ) -> None:
        for name, value, allowed in (("direction", direction, DIRECTIONS), ("rule", rule, RULES), ("per", per, GRANULARITIES)):
            checks.one_of(name, value, allowed)
        is_adam = direction in {"adam", "adamw"}
        if hyper_rate is None:
            hyper_rate = 0.02 if rule == "multiplicative" else 1e-8 if is_adam else 1e-6
        if weight_decay is None:
            weight_decay = 0.01 if direction == "adamw" else 0.0
        checks.number("hyper_rate", hyper_rate, low=0.0)
        if rule == "multiplicative" and hyper_rate >= 1.0:
            raise ValueError(
                f"hyper_rate must be below 1, got {hyper_rate} (at 1 a single step back would stop the run for ever)"
            )
        checks.limits(min_scale, 1.0 if max_scale == inf else max_scale)
        self.direction, self.rule, self.per = direction, rule, per
        self.hyper_rate, self.min_scale, self.max_scale = hyper_rate, min_scale, max_scale
        settings = {"momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, **settings, "scale": 1.0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, whose scales begin at 1, or where all others' is if they share it.

        Raises:
            TypeError: A setting is not a number, or a parameter is complex.
            ValueError: A setting is outside its range.
        """
        if self.per == "all" and self.param_groups:
            param_group.setdefault("scale", self.param_groups[0]["scale"])
        super().add_param_group(param_group)
        try:
            check(self.param_groups[-1])
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Learn from the gradients how good the last rates were, and make a step at better ones.

        Args:
            closure: What finds the gradients and returns the loss, if they are not there yet.

        Returns:
            What the closure returns.

        Raises:
            ValueError: A gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = [self._gathered(group) for group in self.param_groups]
        largest, sums = _measured(groups)
        if all(map(isfinite, largest)):
            self._learn(groups, sums)
            for group in groups:
                if group.parameters:
                    self._move(group)
        return loss

    def rates(self) -> list[list[Any]]:
        """The rates of the last step, for each group a list with one for each of its tensors.

        Each is a float, or, where each element has its own, a tensor like the parameter.
        """
        return [
            [float(group["lr"]) * self._scale(group, self.state.get(parameter, {})) for parameter in group["params"]]
            for group in self.param_groups
        ]

    def __getstate__(self) -> dict[str, Any]:
        own = ("direction", "rule", "per", "hyper_rate", "min_scale", "max_scale")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def _scale(self, group: dict[str, Any], memory: dict[str, Any]) -> Any:
        return group["scale"] if self.per in {"all", "group"} else memory.get("scale", 1.0)

    def _gathered(self, settings: dict[str, Any]) -> Group:
        group = Group.of(self, settings)
        for parameter in set(settings["params"]) - set(group.parameters):
            if parameter in self.state:
                self.state[parameter].pop("direction", None)  # It does not move now: the next hypergradient is not about it.
        if group.parameters and settings["weight_decay"] and self.direction != "adamw":
            decayed = torch._foreach_add(group.gradients, group.parameters, alpha=settings["weight_decay"])  # noqa: SLF001 - as fast as PyTorch's
            group = group._replace(gradients=list(decayed))
        return group

    def _learn(self, groups: list[Group], sums: list[list[Sums]]) -> None:
        """Move the scales by what the gradients say of the last step."""
        if self.per == "all":
            base = max((_base(group) for group in groups), default=0.0)
            ratios = [_base(group) / base if base else 0.0 for group in groups]
            of_groups = (
                Sums(slope * ratio, gradient, direction * ratio**2)
                for ratio, (slope, gradient, direction) in zip(ratios, map(Sums.of, sums), strict=True)
            )
            scale = self._moved(groups[0].settings["scale"], Sums.of(of_groups), base)
            for group in groups:
                group.settings["scale"] = scale
            return
        for group, of_parameters in zip(groups, sums, strict=True):
            if self.per == "group":
                group.settings["scale"] = self._moved(group.settings["scale"], Sums.of(of_parameters), _base(group))
            elif self.per == "tensor":
                for memory, of_one in zip(group.memory, of_parameters, strict=True):
                    memory["scale"] = self._moved(memory.get("scale", 1.0), of_one, _base(group))
            else:
                for gradient, memory in zip(group.gradients, group.memory, strict=True):
                    self._move_elements(gradient, memory, _base(group))

    def _moved(self, scale: float, sums: Sums, base: float) -> float:
        """A scale after a step of its own."""
        if self.rule == "multiplicative":
            size = sqrt(sums.gradient) * sqrt(sums.direction)
            cosine = max(-1.0, min(1.0, sums.slope / size)) if size else 0.0
            moved = scale * (1.0 + self.hyper_rate * cosine)
        else:
            moved = scale + self.hyper_rate * sums.slope / base if base else scale
        return max(self.min_scale, min(self.max_scale, moved)) if isfinite(moved) else scale

    def _move_elements(self, gradient: Tensor, memory: dict[str, Any], base: float) -> None:
        """The scales of the elements after a step of their own."""
        if "scale" not in memory:
            memory["scale"] = torch.ones_like(gradient)
        if "direction" not in memory or (self.rule == "additive" and not base):
            return
        slope, scale = gradient * memory["direction"], memory["scale"]
        if self.rule == "multiplicative":
            moved = scale * (1.0 + self.hyper_rate * slope.sign())
        else:
            moved = scale + slope * (self.hyper_rate / base)
        scale.copy_(torch.where(moved.isfinite(), moved.clamp(self.min_scale, self.max_scale), scale))

    def _move(self, group: Group) -> None:
        """Go against the direction, and remember it."""
        rate = float(group.settings["lr"])
        scales = [self._scale(group.settings, memory) for memory in group.memory]
        rates = [rate * scale for scale in scales] if self.per != "element" else []
        if self.direction in {"adam", "adamw"}:
            directions = self._adam(group, rates)
        else:
            directions = self._sgd(group)
            if rates and len(set(rates)) == 1:
                torch._foreach_add_(group.parameters, directions, alpha=-rates[0])
            else:
                for parameter, direction, own in zip(group.parameters, directions, rates, strict=bool(rates)):
                    parameter.add_(direction, alpha=-own)
        if self.per == "element":
            for parameter, direction, scale in zip(group.parameters, directions, scales, strict=True):
                parameter.addcmul_(direction, scale, value=-rate)
        for parameter, memory in zip(group.parameters, group.memory, strict=True):
            if "direction" not in memory:
                memory["direction"] = torch.empty_like(parameter)
        torch._foreach_copy_([memory["direction"] for memory in group.memory], directions)

    def _sgd(self, group: Group) -> list[Tensor]:
        if self.direction == "sgd":
            return group.gradients
        buffers, momentum = group.kept("momentum"), group.settings["momentum"]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, group.gradients)
        if self.direction == "momentum":
            return buffers
        return [gradient.add(buffer, alpha=momentum) for gradient, buffer in zip(group.gradients, buffers, strict=True)]

    def _adam(self, group: Group, rates: list[float]) -> list[Tensor]:
        """Adam's direction; the step is made, too, unless there are no rates, so that it is PyTorch's to the last bit."""
        decay = group.settings["weight_decay"] if self.direction == "adamw" else 0.0
        means, spreads, corrections = adam(group)
        directions = [mean / spread for mean, spread in zip(means, spreads, strict=True)]
        torch._foreach_div_(directions, corrections)
        if decay:
            torch._foreach_add_(directions, group.parameters, alpha=decay)
        if rates:
            if decay:
                torch._foreach_mul_(group.parameters, [1.0 - rate * decay for rate in rates])
            steps = [-rate / correction for rate, correction in zip(rates, corrections, strict=True)]
            torch._foreach_addcdiv_(group.parameters, means, spreads, steps)
        return directions


def _base(group: Group) -> float:
    """The rate that scales are multiples of."""
    return float(group.settings.get("initial_lr", group.settings["lr"]))


def _measured(groups: list[Group]) -> tuple[list[float], list[list[Sums]]]:
    """The largest size in each gradient, and what the rates have to know."""
    rows = []
    for group in groups:
        for gradient, memory in zip(group.gradients, group.memory, strict=True):
            flat, last = wide(gradient), memory.get("direction")
            last = torch.zeros_like(flat) if last is None else wide(last)
            rows.append(torch.stack([flat.abs().max(), torch.dot(flat, last), torch.dot(flat, flat), torch.dot(last, last)]))
    numbers = read(rows)
    left = iter([Sums(*row[1:]) for row in numbers])
    return [row[0] for row in numbers], [[next(left) for _ in group.parameters] for group in groups]
