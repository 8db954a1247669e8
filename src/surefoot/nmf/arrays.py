"""NumPy and PyTorch alike: the arrays' namespace, double precision, and rounding to the safe side.

The factors stay in the precision they came in. What the bounds are made of, a few r x r matrices and a few sums, is taken to
float64, where it costs next to nothing, and the result goes back to the precision of the input, edges rounded down.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device


def namespace(*values: Any) -> Any:
    """The namespace of those values that are arrays; NumPy's if all are plain numbers."""
    arrays = [value for value in values if not isinstance(value, (int, float))]
    return array_namespace(*arrays or [np.empty(0)])


def bare(value: Any) -> Any:
    """The same numbers outside any autograd graph: a bound is a constant to the step it limits."""
    return value.detach() if hasattr(value, "detach") else value


def wide(*values: Any) -> tuple[Any, ...]:
    """The namespace, and the values as float64 arrays, plain numbers on the device of the first array."""
    xp = namespace(*values)
    place = next((device(value) for value in values if not isinstance(value, (int, float))), None)
    return xp, *(
        xp.asarray(value, dtype=xp.float64, device=place)
        if isinstance(value, (int, float))
        else xp.astype(bare(value), xp.float64, copy=False)
        for value in values
    )


def narrow(xp: Any, value: Any, *inputs: Any, up: bool = False) -> Any:
    """A float64 result in the precision of the inputs, which is float32 at least, rounded down, or up."""
    if not _is_single(xp, *inputs):
        return value
    limits = xp.finfo(xp.float32)
    value = value * (1.0 + float(limits.eps) if up else 1.0 - float(limits.eps))
    most = float(limits.max)
    value = xp.where((value > most) & xp.isfinite(value), inf if up else most, value)
    return xp.astype(value, xp.float32)


def alike(*values: Any) -> tuple[Any, ...]:
    """The namespace, and the values as arrays of one precision, that of those which are arrays."""
    xp, *arrays = wide(*values)
    if not _is_single(xp, *values):
        return xp, *arrays
    most = float(xp.finfo(xp.float32).max)
    return xp, *(xp.astype(xp.where(xp.isfinite(array), xp.clip(array, -most, most), array), xp.float32) for array in arrays)


def _is_single(xp: Any, *values: Any) -> bool:
    """Whether some of the values are arrays, and those are float32 or less."""
    dtypes = [value.dtype for value in values if not isinstance(value, (int, float))]
    return bool(dtypes) and all(xp.isdtype(dtype, "real floating") and dtype != xp.float64 for dtype in dtypes)


def inner(xp: Any, first: Any, second: Any) -> Any:
    """The inner product of two matrices, for every run of the fleet."""
    return xp.sum(first * second, axis=(-2, -1))


def gram_of(xp: Any, codes: Any) -> Any:
    """W^T W."""
    return xp.matmul(xp.matrix_transpose(codes), codes)


def sound(xp: Any, *matrices: Any) -> tuple[Any, ...]:
    """Which runs have only finite entries, and the matrices with those of all other runs set to zero.

    Whatever is then computed for the whole fleet, even by a routine that refuses NaN, leaves the neighbours alone.
    """
    finite = xp.isfinite(xp.max(xp.abs(matrices[0]), axis=(-2, -1)))  # Both maxima let NaN through.
    for matrix in matrices[1:]:
        finite = finite & xp.isfinite(xp.max(xp.abs(matrix), axis=(-2, -1)))
    return finite, *(xp.where(finite[..., None, None], matrix, 0.0) for matrix in matrices)


def where_sound(xp: Any, finite: Any, result: Any) -> Any:
    """The result, and NaN for the runs that have none."""
    return xp.where(finite, result, nan)


def over(xp: Any, above: Any, below: Any) -> Any:
    """`above / below` for a curvature `below`: infinite where that is zero or less, NaN where either is."""
    least = float(xp.finfo(below.dtype).smallest_normal)
    # A curvature too small for a normal number is taken for the smallest: the edge must not be rounded up to infinity.
    edge = above / xp.where(below > least, below, least)
    edge = xp.where(below > 0.0, edge, inf)
    return xp.where(xp.isnan(below) | xp.isnan(above + below), nan, edge)
