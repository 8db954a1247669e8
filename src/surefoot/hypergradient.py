"""Descend along the gradient with respect to the rate itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from surefoot import checks
from surefoot.arithmetic import meet


class HypergradientState(NamedTuple):
    """What `Hypergradient` remembers: the scale to use next."""

    scale: Any = 1.0


@dataclass(frozen=True)
class Hypergradient:
    r"""Raise the rate while successive steps point the same way, lower it when they turn back.

    The derivative of the loss with respect to the rate of the step before is $-\langle g_t, d_{t-1}\rangle$, with the gradient
    $g_t$ and the last step's direction $d_{t-1}$, which is $-g_{t-1}$ in gradient descent. The policy is told its sign and
    relative size, the cosine $a_t$ between $-g_t$ and $d_{t-1}$, by the signal `alignment`, and takes a step of its own:

    $$s_{t+1} = s_t\,(1 + \beta\,a_t) \quad\text{or}\quad s_{t+1} = s_t + \beta\,a_t.$$

    Without the signal it cannot work, and says so. An alignment that is not finite is forgotten.

    >>> policy = Hypergradient(step=0.5)
    >>> state = policy.update(policy.init(), 3.0, alignment=1.0)
    >>> state.scale, policy.update(state, 2.0, alignment=-0.5).scale
    (1.5, 1.125)

    Attributes:
        step: The change of the scale at an alignment of 1, strictly between 0 and 1: as a fraction of it, or, in the additive
            rule, as a multiple of the base rate.
        rule: `"multiplicative"` or `"additive"`.
        min_scale, max_scale: Limits of the scale, as multiples of the base rate, with 1 between them; `min_scale` is above 0.

    Raises:
        TypeError: A setting is not a number where one is needed.
        ValueError: A setting is outside its range.

    Reference: Baydin et al., 2018, arXiv:1703.04782. Two things differ. Its additive rule takes the inner product as it is, so
    that its step has the unit of a rate over a squared gradient; here both take the cosine, which has none. And it moves the
    rate before the step whose gradient it has just seen, while a policy moves it after.
    """

    step: float = 0.02
    rule: Literal["multiplicative", "additive"] = "multiplicative"
    min_scale: float = 0.01
    max_scale: float = 10.0

    def __post_init__(self) -> None:
        checks.fraction("step", self.step, advice="at 1 a single step back would stop the run")
        checks.one_of("rule", self.rule, ("multiplicative", "additive"))
        checks.limits(self.min_scale, self.max_scale)
        if self.min_scale == 0.0:
            raise ValueError("min_scale must be above 0: a scale of 0 could never be raised again")

    def init(self) -> HypergradientState:
        """The state before any step: the base rate."""
        return HypergradientState()

    def update(self, state: HypergradientState, loss: Any, *, alignment: Any = None, **_signals: Any) -> HypergradientState:  # noqa: ARG002 - the loss is not looked at
        """The state after a step at `state.scale` that met a gradient of this alignment with the step before.

        Raises:
            ValueError: There is no alignment.
        """
        if alignment is None:
            raise ValueError(
                "Hypergradient must be told the signal `alignment`, the cosine between the downhill direction and the last "
                "step's, got none (hand it to update, or choose a problem that measures it, such as a factorisation)"
            )
        xp, state, alignment = meet(state, alignment)
        change = self.step * xp.where(xp.isfinite(alignment), alignment, 0.0)
        scale = state.scale * (1.0 + change) if self.rule == "multiplicative" else state.scale + change
        scale = xp.where(scale > self.min_scale, scale, self.min_scale)
        return HypergradientState(xp.where(scale < self.max_scale, scale, self.max_scale))
