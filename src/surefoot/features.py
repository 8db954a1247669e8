"""What a policy sees: a short view of the losses so far that depends on no unit."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from surefoot import checks
from surefoot.numbers import numbers, together

TIERS = ("loss", "gradient")
"""What a view is made of, losses alone or two numbers of every gradient as well."""

_WIDE = (-4.0, 4.0)
_ALWAYS = {
    "progress": (-1.0, 1.0),
    "limited": (0.0, 1.0),
    "level": _WIDE,
    "jump": _WIDE,
    "short": _WIDE,
    "long": _WIDE,
    "trend": _WIDE,
    "noise": _WIDE,
    "scale": _WIDE,
    "change": _WIDE,
    "quiet": (-1.0, 4.0),
}
_OF_GRADIENTS = {"alignment": (-2.0, 2.0), "reach": _WIDE}
_OF_BOUND = {"bound": _WIDE}

_FURTHEST = 2.0**40
_NOTICEABLE = 0.0144  # log2(1.01)
_USUAL_REACH = 7.0  # A step of 1/128 of the parameters' norm.


class FeatureState(NamedTuple):
    """What is remembered of the losses; logarithms are to the base 2, and of losses as multiples of the first.

    Counts are floats, so that all of it has one type: among vectors, that of the losses.

    Attributes:
        scale: The scale when it last changed by 1% or more.
        step: Steps made.
        quiet: Steps since then.
        usual: Mean logarithm of the scale over the middle horizon.
        progress: The fraction of the budget that is used up; -1 if there is none.
        first: The first loss that was finite and above 0; 0 before it.
        count: Losses taken in.
        last, fast, middle, slow: Logarithm of the last loss, and its means over the three horizons.
        variance: Its variance about the fast mean.
        alignment: Mean of that signal over the fast horizon.
        reach: Mean logarithm of the relative step over the fast horizon, plus 7.
        bound: Logarithm of the rate over the stability bound.
    """

    scale: Any = 1.0
    step: Any = 0.0
    quiet: Any = 0.0
    usual: Any = 0.0
    progress: Any = -1.0
    first: Any = 0.0
    count: Any = 0.0
    last: Any = 0.0
    fast: Any = 0.0
    middle: Any = 0.0
    slow: Any = 0.0
    variance: Any = 0.0
    alignment: Any = 0.0
    reach: Any = 0.0
    bound: Any = 0.0


@dataclass(frozen=True)
class Features:
    r"""A fold from losses to a short vector without units, the same in training and in deployment.

    Losses count as multiples of the first one and by their logarithm $y$ to the base 2, so that every entry is a number of
    doublings or a fraction. A mean over a horizon of $h$ steps is $\bar y \leftarrow \bar y + (y - \bar y)/\min(n, h)$ after
    $n$ losses: the plain mean at first, exponential smoothing later. There are three, over one, three and nine windows.

    | entry | what it is | bounds |
    |---|---|---|
    | `progress` | -1 at the start of the budget, 1 at its end; 0 if there is none | -1 to 1 |
    | `limited` | 1 if there is a budget, 0 if not | 0 to 1 |
    | `level` | fast mean of $y$, over 4 | -4 to 4 |
    | `jump` | last $y$ minus the fast mean, times 2 | -4 to 4 |
    | `short` | fast minus middle mean of $y$, times 2 | -4 to 4 |
    | `long` | middle minus slow mean of $y$, times 2 | -4 to 4 |
    | `trend` | fast minus slow mean over the standard error that noise alone would give it, over 4 | -4 to 4 |
    | `noise` | logarithm of the deviation of $y$, plus 4, over 2 | -4 to 4 |
    | `scale` | logarithm of the scale, over 4 | -4 to 4 |
    | `change` | logarithm of the scale minus its mean over the middle horizon | -4 to 4 |
    | `quiet` | logarithm of 1 + windows since the scale last changed by 1% or more, minus 1 | -1 to 4 |
    | `alignment` | fast mean of the cosine between downhill and the last move, times 2 (tier "gradient") | -2 to 2 |
    | `reach` | fast mean of the logarithm of the relative step, plus 7, over 4 (tier "gradient") | -4 to 4 |
    | `bound` | logarithm of the rate over the stability bound, over 4 (with `bound`) | -4 to 4 |

    A loss that is not finite is forgotten; so is one of 0 or less, as long as none above 0 was seen. Losses further than
    $2^{40}$ from the first count as that far.

    >>> features = Features(window=5)
    >>> state = features.init()
    >>> for loss in [8.0, 4.0, 2.0, 1.0, 0.5]:
    ...     state = features.update(state, loss)
    >>> dict(zip(features.names, features.view(state)))["level"]  # The mean of 0, -1, -2, -3 and -4, over 4.
    -0.5

    Attributes:
        window: Steps in a window, which is the shortest horizon, 1 or more; about as many as from one decision to the next.
        tier: One of `TIERS`.
        bound: Whether the rate over the problem's stability bound is in view.
    """

    window: int = 10
    tier: str = "loss"
    bound: bool = False

    def __post_init__(self) -> None:
        checks.whole("window", self.window, low=1)
        checks.one_of("tier", self.tier, TIERS)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the entries, in their order."""
        return tuple(self._entries())

    @property
    def signals(self) -> tuple[str, ...]:
        """What has to be measured of a step beside its loss."""
        return ("alignment", "relative_step") * (self.tier == "gradient") + ("bound",) * self.bound

    @property
    def low(self) -> tuple[float, ...]:
        """The smallest value of each entry."""
        return tuple(low for low, _ in self._entries().values())

    @property
    def high(self) -> tuple[float, ...]:
        """The largest value of each entry."""
        return tuple(high for _, high in self._entries().values())

    def init(self, progress: float = -1.0) -> FeatureState:
        """Nothing seen yet.

        Args:
            progress: The fraction of the budget that is used up, 0 at the start; -1 if there is none.
        """
        return FeatureState(progress=progress)

    def update(
        self,
        state: FeatureState,
        loss: Any,
        *,
        scale: Any = 1.0,
        progress: Any = -1.0,
        alignment: Any = inf,
        relative_step: Any = inf,
        bound: Any = inf,
        **_signals: Any,
    ) -> FeatureState:
        """The state after one more step.

        Args:
            state: What `init` or the last `update` returned.
            loss: The step's loss.
            scale: The scale it was made at.
            progress: The fraction of the budget that is used up by now, between 0 and 1; -1 if there is none.
            alignment: Cosine of the angle between the step's downhill direction and the last move, between -1 and 1.
            relative_step: The norm of the step over the norm of the parameters, 0 or more.
            bound: The rate over the stability bound, 1 at the bound. Of all three, values that are not finite are forgotten.
            **_signals: Others are not looked at.
        """
        state, loss = together(state, loss)
        state = self._time(state, scale, progress)
        state = self._loss(state, loss)
        if self.tier == "gradient":
            state = self._gradient(state, alignment, relative_step)
        return self._bound(state, bound) if self.bound else state

    def view(self, state: FeatureState) -> Any:
        """The vector of the entries `names`, stacked along a new first axis; a tuple for plain numbers."""
        xp, window = numbers(state.fast), self.window
        budget = state.progress >= 0.0
        error = xp.sqrt(state.variance * _variance_of_difference(window, 9 * window) + 1e-24)
        entries = {
            "progress": xp.where(budget, 2.0 * state.progress - 1.0, 0.0 * state.fast),
            "limited": xp.where(budget, 1.0 + 0.0 * state.fast, 0.0),
            "level": state.fast / 4.0,
            "jump": 2.0 * (state.last - state.fast),
            "short": 2.0 * (state.fast - state.middle),
            "long": 2.0 * (state.middle - state.slow),
            "trend": (state.fast - state.slow) / error / 4.0,
            "noise": (_logarithm(xp, state.variance) / 2.0 + 4.0) / 2.0,
            "scale": _logarithm(xp, state.scale) / 4.0,
            "change": _logarithm(xp, state.scale) - state.usual,
            "quiet": xp.log2(1.0 + state.quiet / window) - 1.0,
            "alignment": 2.0 * state.alignment,
            "reach": state.reach / 4.0,
            "bound": state.bound / 4.0,
        }
        return xp.stack(tuple(_within(xp, entries[name], low, high) for name, (low, high) in self._entries().items()))

    def _entries(self) -> dict[str, tuple[float, float]]:
        """Name and bounds of every entry."""
        return _ALWAYS | (_OF_GRADIENTS if self.tier == "gradient" else {}) | (_OF_BOUND if self.bound else {})

    def _time(self, state: FeatureState, scale: Any, progress: Any) -> FeatureState:
        """Take in what passes whatever the loss: time, and the scale."""
        xp = numbers(state.fast)
        scale = 0.0 * state.scale + scale
        step, now = state.step + 1.0, _logarithm(xp, scale)
        has_changed = (abs(now - _logarithm(xp, state.scale)) > _NOTICEABLE) | (state.step == 0.0)
        return state._replace(
            scale=xp.where(has_changed, scale, state.scale),
            step=step,
            quiet=xp.where(has_changed, 0.0 * step, state.quiet + 1.0),
            usual=_mean(xp, state.usual, now, step, 3 * self.window),
            progress=0.0 * state.progress + progress,
        )

    def _loss(self, state: FeatureState, loss: Any) -> FeatureState:
        """Take in the loss, if there is something to be learned from it."""
        xp = numbers(loss)
        is_known = (abs(loss) < inf) & ((loss > 0.0) | (state.first > 0.0))
        first = xp.where(state.first > 0.0, state.first, xp.where(is_known, loss, 0.0 * state.first))
        unit = xp.where(first > 0.0, first, 1.0)
        # A quotient that overflows would be as good, but NumPy warns of it; with a unit of 1 or more none does.
        highest = _FURTHEST * xp.where(unit < 1.0, unit, 1.0)
        loss = xp.where(is_known, loss, unit)
        loss = xp.where(loss > 0.0, loss, 0.0 * unit)  # As good as any below.
        loss = xp.where((loss > highest) & (unit < 1.0), highest, loss)
        y, count = _logarithm(xp, loss / unit), state.count + 1.0
        away = y - state.fast
        weight = 1.0 / xp.where(count < self.window, count, self.window)
        seen = state._replace(
            first=first,
            count=count,
            last=y,
            fast=_mean(xp, state.fast, y, count, self.window),
            middle=_mean(xp, state.middle, y, count, 3 * self.window),
            slow=_mean(xp, state.slow, y, count, 9 * self.window),
            variance=(1.0 - weight) * (state.variance + weight * away * away),
        )
        return FeatureState(*(_pick(xp, is_known, new, old) for new, old in zip(seen, state, strict=True)))

    def _gradient(self, state: FeatureState, alignment: Any, relative_step: Any) -> FeatureState:
        """Take in the gradient's two numbers, each where it is known."""
        xp = numbers(state.fast)
        alignment, is_known = _known(xp, alignment, state.fast)
        alignment = xp.where(is_known, _mean(xp, state.alignment, alignment, state.step, self.window), state.alignment)
        relative_step, is_known = _known(xp, relative_step, state.fast)
        reach = _logarithm(xp, relative_step) + _USUAL_REACH
        reach = xp.where(is_known, _mean(xp, state.reach, reach, state.step, self.window), state.reach)
        return state._replace(alignment=alignment, reach=reach)

    @staticmethod
    def _bound(state: FeatureState, bound: Any) -> FeatureState:
        """Take in the distance from the stability bound, where it is known."""
        xp = numbers(state.fast)
        bound, is_known = _known(xp, bound, state.fast)
        return state._replace(bound=xp.where(is_known, _logarithm(xp, bound), state.bound))


def _known(xp: Any, signal: Any, like: Any) -> tuple[Any, Any]:
    """A signal in the shape of the losses, 1 where it is not finite, and where it is."""
    signal = 0.0 * like + signal
    is_known = abs(signal) < inf
    return xp.where(is_known, signal, 1.0), is_known


def _pick(xp: Any, condition: Any, new: Any, old: Any) -> Any:
    return old if new is old else xp.where(condition, new, old)


def _logarithm(xp: Any, ratio: Any) -> Any:
    """To the base 2, and no further than 40 from 0."""
    return xp.log2(_within(xp, ratio, 1.0 / _FURTHEST, _FURTHEST))


def _within(xp: Any, value: Any, low: float, high: float) -> Any:
    value = xp.where(value > low, value, low)
    return xp.where(value < high, value, high)


def _mean(xp: Any, old: Any, new: Any, count: Any, horizon: int) -> Any:
    """The mean with one more value, the `count`-th; exponential once there are more than `horizon`."""
    return old + (new - old) / xp.where(count < horizon, count, horizon)


def _variance_of_difference(short: int, long: int) -> float:
    """The variance of the difference between the means over two horizons, for white noise of variance 1."""
    a, b = 1.0 / short, 1.0 / long
    return a / (2.0 - a) + b / (2.0 - b) - 2.0 * a * b / (a + b - a * b)
