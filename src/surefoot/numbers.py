"""Arithmetic in which plain floats and NumPy's float64 agree to the last bit, powers and logarithms included."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from surefoot.arithmetic import Floats, arithmetic, meet, widen

S = TypeVar("S")


class _Numbers(Floats):
    """Plain numbers with NumPy's logarithm, whose last bit may differ from that of the standard library."""

    log2 = staticmethod(lambda x: float(np.log2(x)))
    exp2 = staticmethod(lambda x: float(np.exp2(x)))


def numbers(*values: Any) -> Any:
    """`surefoot.arithmetic.arithmetic`, where plain floats and NumPy's float64 agree to the last bit, `exp2` included."""
    xp = arithmetic(*values)
    return _Numbers if xp is Floats else xp


def together(state: S, loss: Any) -> tuple[S, Any]:
    """`surefoot.arithmetic.meet`, which has to walk through the whole state, only where the two differ in their arithmetic."""
    if arithmetic(state.scale) is arithmetic(loss):  # type: ignore[attr-defined]
        return state, widen(loss)
    return meet(state, loss)[1:]
