"""How much of a gradient is signal, and what edge that leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from surefoot import checks
from surefoot.nmf.arrays import inner, narrow, over, wide


def snr_edge(largest: Any, signal: Any, noise: Any) -> Any:
    r"""The edge $\frac{2}{L} \cdot \frac{\mathrm{SNR}}{1 + \mathrm{SNR}}$ of a noisy step, with SNR = signal / noise.

    *Proved without projection* (`docs/nmf/bounds.md`, "Noise"): with `signal` $\|G\|^2$ and `noise` $\sigma^2 = E\|\xi\|^2$, a
    step below it lowers the expected objective; it is never above `noisy_edge`, and needs no curvature of the noise. *Invalid
    under projection*: there the noise costs at first order, and at an SNR below 1 no rate at all need lower the expected
    objective. With the gradient mapping's $\|d\|^2$ for the signal no increase was seen *in numbers* at an SNR of 1 and above.
    It looks one step ahead, and is a poor schedule: use it as a ceiling.

    >>> float(snr_edge(largest=2.0, signal=3.0, noise=1.0))
    0.75

    Args:
        largest: $L$, such as `largest_eigenvalue` of the Gram, a number or of shape (...).
        signal: The squared norm of the gradient or of the gradient mapping, 0 or more.
        noise: The variance of the noise, summed over all entries, in the same units, 0 or more.

    Returns:
        Shape (...). Without noise $2/L$, without signal 0.
    """
    xp, curvature, power, variance = wide(largest, signal, noise)
    edge = over(xp, 2.0, curvature) * _share(xp, power, variance)
    return narrow(xp, edge, largest, signal, noise)


def _share(xp: Any, signal: Any, noise: Any) -> Any:
    """The quotient signal / (signal + noise), between 0 and 1; 1 where there is no noise."""
    total = signal + noise
    return xp.where(noise == 0.0, 1.0, xp.clip(signal / xp.where(total > 0.0, total, 1.0), 0.0, 1.0))


class TwoHalvesState(NamedTuple):
    """Moving averages of how far the two halves agree, and of the squared norm of their mean; plain numbers or shape (...).

    Both are in units of the gradient squared and begin at 0, so that only their ratio means something early on.
    """

    agreement: Any
    power: Any

    @property
    def fraction(self) -> Any:
        """The share of the gradient's squared norm that is signal, SNR / (1 + SNR); 1 before anything was seen."""
        xp, agreement, power = wide(self.agreement, self.power)
        share = xp.clip(agreement / xp.where(power > 0.0, power, 1.0), 0.0, 1.0)
        return narrow(xp, xp.where(power > 0.0, share, 1.0), self.agreement, self.power)


@dataclass(frozen=True)
class TwoHalves:
    r"""Estimate the share of signal in a noisy gradient from two independent halves, such as those of a batch.

    *Proved* (`docs/nmf/bounds.md`, "Two halves"): for independent $g_1, g_2$ of mean G and $\hat g = \frac12(g_1 + g_2)$ of
    variance $\sigma^2$, $E\langle g_1, g_2\rangle = \|G\|^2$ and $E\|\hat g\|^2 = \|G\|^2 + \sigma^2$. Both are averaged by
    themselves, since the ratio of two averages errs less than the average of a ratio; it is not unbiased itself. Halves drawn
    without replacement from one batch agree less than independent ones, which errs to the side of too much noise. For
    projected steps hand over the halves' gradient *mappings*, for which the same only *held in numbers*.

    >>> import numpy as np
    >>> halves = TwoHalves()
    >>> state = halves.update(halves.init(), np.asarray([[3.0, 0.0]]), np.asarray([[1.0, 0.0]]))
    >>> float(state.fraction)
    0.75

    Attributes:
        decay: How much of the averages survives a step, from 0 to less than 1.
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        checks.number("decay", self.decay, low=0.0, high=1.0)
        if self.decay == 1.0:
            raise ValueError("decay must be below 1, got 1.0: averages would never learn anything (0.999 has a long memory)")

    def init(self) -> TwoHalvesState:
        """Nothing seen yet."""
        return TwoHalvesState(0.0, 0.0)

    def update(self, state: TwoHalvesState, first: Any, second: Any, whole: Any = None) -> TwoHalvesState:
        """The state after one pair of gradients.

        Args:
            state: What `init` or the last `update` returned.
            first: One half's gradient, or its mapping, shape (..., m, r).
            second: The other half's.
            whole: The mapping of their mean; for gradients it is their mean itself, and need not be given.

        Returns:
            A state of numbers of shape (...) in float64. A run whose gradients are not finite keeps the state it had.
        """
        xp, one, other = wide(first, second)
        mean = 0.5 * (one + other) if whole is None else wide(whole)[1]
        agreement, power = inner(xp, one, other), inner(xp, mean, mean)
        usable = xp.isfinite(agreement) & xp.isfinite(power)
        return TwoHalvesState(
            *(
                xp.where(usable, self.decay * old + (1.0 - self.decay) * new, old)
                for old, new in ((state.agreement, agreement), (state.power, power))
            )
        )
