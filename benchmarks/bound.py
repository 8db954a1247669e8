"""By how much the stability bound makes a gradient step of a factorisation dearer.

    pip install 'surefoot[torch,data]'
    python benchmarks/bound.py

One sweep is a projected gradient step of W and one of H on a 5,000 x 2,000 matrix in float32, at rank 20, on one thread. It
needs both Gram matrices anyway. Sweeps at a constant rate and sweeps that bound both rates take turns, in an order that changes
from turn to turn, and what is printed is the median of their differences, as a share of the median sweep at a constant rate.
Exits with 1 if the cheapest certified bound, "collatz" with one sweep, adds 1% or more with NumPy. What the tighter ones cost,
and all of them with PyTorch on a CPU and on a small matrix, is printed beside it.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from surefoot.nmf import block_edge

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET, TURNS, WARM = 0.01, 200, 5
LARGE, SMALL = (5000, 2000, 20), (1797, 64, 16)
BOUNDS = {
    "collatz, 1 sweep": partial(block_edge, method="collatz", sweeps=1),
    "collatz, 3 sweeps": partial(block_edge, method="collatz"),
    "eigen": block_edge,
}


def made(rows: int, columns: int, rank: int, kind: str) -> list[Any]:
    """A matrix and factors, of NumPy or PyTorch, in float32."""
    random = np.random.default_rng(0)
    codes, parts = random.gamma(0.5, size=(rows, rank)), random.gamma(0.5, size=(rank, columns))
    arrays = (codes @ parts, random.random((rows, rank)), random.random((rank, columns)))
    return [torch.asarray(array, dtype=torch.float32) if kind == "torch" else array.astype(np.float32) for array in arrays]


def sweep(matrix: Any, codes: Any, parts: Any, bound: Callable[[Any], Any]) -> tuple[Any, Any]:
    """New factors after a step of each."""
    gram = parts @ parts.T
    codes = (codes - 0.95 * bound(gram) * (codes @ gram - matrix @ parts.T)).clip(0.0)
    gram = codes.T @ codes
    return codes, (parts - 0.95 * bound(gram) * (gram @ parts - codes.T @ matrix)).clip(0.0)


def measured(shape: tuple[int, int, int], kind: str) -> tuple[float, dict[str, float]]:
    """The median seconds of a sweep at a constant rate, and the median seconds that each bound adds."""
    matrix, codes, parts = made(*shape, kind)
    constant = 0.0 * parts[0, 0] + 1e-9
    contenders = [("constant", lambda _: constant), *BOUNDS.items()]
    taken: dict[str, list[float]] = {name: [] for name, _ in contenders}
    for turn in range(TURNS + WARM):
        for place in range(len(contenders)):
            name, bound = contenders[(place + turn) % len(contenders)]
            begin = time.thread_time()
            sweep(matrix, codes, parts, bound)
            taken[name].append(time.thread_time() - begin)
    without = taken.pop("constant")[WARM:]
    added = {name: median(a - b for a, b in zip(times[WARM:], without, strict=True)) for name, times in taken.items()}
    return median(without), added


def main() -> int:
    """Print the table; 1 if the cheapest certified bound misses the target on the large matrix."""
    torch.set_num_threads(1)
    missed = False
    print(f"numpy {np.__version__}, torch {torch.__version__}; {TURNS} turns, CPU time of one thread")
    print("\n| matrix, rank | arrays | bound | sweep, ms | added, us | added |\n|---|---|---|---|---|---|")
    with threadpool_limits(1):
        for shape in (LARGE, SMALL):
            for kind in ("numpy", "torch"):
                whole, added = measured(shape, kind)
                for name, more in added.items():
                    label = f"{shape[0]:,} x {shape[1]:,}, {shape[2]}"
                    print(f"| {label} | {kind} | {name} | {1e3 * whole:.2f} | {1e6 * more:.0f} | {more / whole:.2%} |")
                    missed |= (shape, kind, name) == (LARGE, "numpy", "collatz, 1 sweep") and more >= TARGET * whole
    verdict = "missed" if missed else "met"
    print(f"\nTarget for collatz with one sweep and NumPy on the large matrix: below {TARGET:.0%}: {verdict}.")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
