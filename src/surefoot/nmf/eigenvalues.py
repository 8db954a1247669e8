"""The largest eigenvalue of a Gram matrix, never below the true one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from array_api_compat import device

from surefoot import checks
from surefoot.nmf.arrays import bare, namespace, narrow, sound, where_sound, wide
from surefoot.nmf.single import returned, single

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS = ("eigen", "collatz")


def largest_eigenvalue(gram: Any, *, method: str = "eigen", sweeps: int = 3) -> Any:
    r"""The largest eigenvalue $\lambda$ of each symmetric matrix, rounded up: what bounds the curvature of a block.

    *Proved* (`docs/nmf/bounds.md`, "Cheap and certified"): for every symmetric $K$ and every positive vector $x$,

    $$\lambda(K) \le \max_i (|K|x)_i / x_i,$$

    the theorem of Collatz and Wielandt. `method="collatz"` takes the last of
    `sweeps` such vectors, each the product of $|K|$ with the one before, beginning with ones, and adds a margin for its own
    rounding, $(r+8)$ units in the last place. All of it is sums and products: on a GPU nothing waits for it.

    `method="eigen"` calls `eigvalsh` in float64, and adds $4r$ units in the last place of float64. That margin only
    *held in numbers*: routines of that kind are known to err by a modest multiple of one unit, but nobody proves which.
    On a GPU it waits for the device.

    Rounding of the Gram itself is not covered. Where all entries of the factor are nonnegative, a Gram summed over $n$ terms
    in a precision $u$ has a largest eigenvalue of at least $1 - nu$ times the true one, in the worst case: a scale of at most
    0.999 is safe in float32 up to $n = 16{,}000$.

    >>> import numpy as np
    >>> gram = np.asarray([[2.0, 1.0], [1.0, 2.0]])
    >>> round(float(largest_eigenvalue(gram)), 6), round(float(largest_eigenvalue(gram, method="collatz")), 6)
    (3.0, 3.0)

    Args:
        gram: Shape (..., r, r), symmetric: $HH^\top$ or $W^\top W$.
        method: "eigen" or "collatz".
        sweeps: Products with the matrix that "collatz" makes, 1 or more; one gives the largest row sum.

    Returns:
        Shape (...), in the precision of the Gram. NaN for a matrix with an entry that is not finite; its neighbours are not
        affected.

    Raises:
        ValueError: If the matrices are not square, or the method is not known.

    Reference: Collatz, 1942, Math. Z. 48; Wielandt, 1950, Math. Z. 52.
    """
    check(gram, method, sweeps)
    if (bound := single(gram, method, sweeps)) is not None:
        return returned(gram, bound, up=True)
    return narrow(namespace(gram), bounded(gram, method, sweeps), gram, up=True)


def check(gram: Any, method: str, sweeps: int) -> None:
    """Raise unless these are square matrices, and a way to bound their eigenvalues."""
    checks.one_of("method", method, METHODS)
    checks.whole("sweeps", sweeps, low=1)
    if tuple(gram.shape[-2:]) != (*gram.shape[-1:], *gram.shape[-1:]):
        raise ValueError(f"gram must end in two equal dimensions, r x r, got the shape {tuple(gram.shape)}")


def bounded(gram: Any, method: str, sweeps: int) -> Any:
    """The bound before it is rounded to the Gram's precision."""
    return _eigen(gram) if method == "eigen" else _collatz(gram, sweeps)


def collatz_wielandt(xp: Any, product: Callable[[Any], Any], vector: Any, sweeps: int, axis: int = -1) -> Any:
    r"""The bound of the last of the vectors $x, Kx, K^2x, ...$, for `product` the map $x -> Kx$ on this axis.

    But for rounding none before it gives less: $Kx \le cx$ and $K \ge 0$ make $KKx \le cKx$.
    """
    floor = float(xp.finfo(vector.dtype).eps)
    for _ in range(sweeps - 1):
        image = product(vector)
        peak = xp.max(image, axis=axis, keepdims=True)
        vector = image / xp.where(peak > 0.0, peak, 1.0) + floor  # Positive, always: that is all the theorem asks for.
    return xp.max(product(vector) / vector, axis=axis)


def _eigen(gram: Any) -> Any:
    xp, matrix = wide(gram)
    finite, matrix = sound(xp, matrix)
    margin = 1.0 + 4 * matrix.shape[-1] * float(xp.finfo(xp.float64).eps)
    largest = xp.linalg.eigvalsh(matrix)[..., -1] * margin
    return where_sound(xp, finite, xp.where(largest > 0.0, largest, 0.0))


def _collatz(gram: Any, sweeps: int) -> Any:
    xp, matrix = namespace(gram), bare(gram)
    if matrix.dtype not in (xp.float32, xp.float64):
        matrix = xp.astype(matrix, xp.float64)
    # The fleet last: the sums are over short axes, and go over all runs at once if those are the neighbours in memory.
    last = xp.empty((*matrix.shape[-2:], *matrix.shape[:-2]), dtype=matrix.dtype, device=device(matrix))
    last[...] = xp.abs(xp.permute_dims(matrix, (matrix.ndim - 2, matrix.ndim - 1, *range(matrix.ndim - 2))))
    peak = xp.max(last, axis=(0, 1))
    finite = xp.isfinite(peak)
    unit = xp.where(finite & (peak > 0.0), peak, 1.0)
    last = xp.where(finite, last, 0.0) / unit  # No unit of V under- or overflows.
    # Not a matmul: on some GPUs that is allowed to round float32 to ten bits.
    bound = collatz_wielandt(xp, lambda x: xp.sum(last * x, axis=1), xp.ones_like(last[0]), sweeps, axis=0)
    margin = 1.0 + (matrix.shape[-1] + 8) * float(xp.finfo(matrix.dtype).eps)
    return where_sound(xp, finite, bound * unit * margin)
