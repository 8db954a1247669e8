"""A large factorisation on a GPU, beside torchnmf: seconds to 1.05, 1.01 and 1.003 of the best error that either reached.

    pip install 'surefoot[torch,peers]'
    python benchmarks/nmf_device.py                                            # 100,000 x 10,000, rank 50, on "cuda"
    python benchmarks/nmf_device.py --device cpu --rows 2000 --columns 500 --seconds 5

Both start from the same random factors. The clock is read after the device has finished, and stands still while errors are
taken, after every pass of surefoot and every ten updates of torchnmf. The matrix is of the given rank, with 10% noise.
"""

from __future__ import annotations

import argparse
import time
from math import inf
from typing import TYPE_CHECKING, Any

import torch

from surefoot.nmf import Incremental

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = (1.05, 1.01, 1.003)


def made(rows: int, columns: int, rank: int, device: str) -> tuple[Any, Any, Any]:
    """A matrix, float32, and random codes and parts to start from, of the matrix's mean."""
    random = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, generator=random, device=device)

    # Squares of normal numbers: the gamma distribution of shape 1/2.
    matrix = normal(rows, rank).square() @ normal(rank, columns).square()
    deviation = float(matrix.std())
    for some in matrix.split(4096):
        some.add_(0.1 * deviation * normal(*some.shape))
    matrix.clamp_(min=0.0)
    size = float(matrix.mean() / rank) ** 0.5
    return matrix, size * normal(rows, rank).abs(), size * normal(rank, columns).abs()


def surefoot(matrix: Any, codes: Any, parts: Any) -> Iterator[tuple[Any, Any]]:
    """One pass at a time."""
    factors = Incremental(matrix, codes, parts)
    while True:
        factors.sweep()
        yield factors.codes, factors.parts


def torchnmf(matrix: Any, codes: Any, parts: Any) -> Iterator[tuple[Any, Any]]:
    """Ten multiplicative updates at a time; its W is H transposed, and its H is W."""
    from torchnmf.nmf import NMF

    model = NMF(W=parts.T.contiguous(), H=codes).to(matrix.device)
    while True:
        model.fit(matrix, beta=2, tol=0.0, max_iter=10)
        yield model.H.detach(), model.W.detach().T


def relative(matrix: Any, codes: Any, parts: Any) -> float:
    """|V - WH| / |V|, a few rows at a time."""
    left = sum(
        float((some - few @ parts).square().sum(dtype=torch.float64))
        for some, few in zip(matrix.split(4096), codes.split(4096), strict=True)
    )
    return (left / sum(float(some.square().sum(dtype=torch.float64)) for some in matrix.split(4096))) ** 0.5


def wait(device: str) -> None:
    """Until the device has done all it was asked for."""
    if device != "cpu":
        torch.cuda.synchronize()


def main() -> None:
    """Run both, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    for name, default in (("rows", 100_000), ("columns", 10_000), ("rank", 50), ("seconds", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    told = parser.parse_args()
    matrix, codes, parts = made(told.rows, told.columns, told.rank, told.device)
    found: dict[str, list[tuple[float, float]]] = {}
    for method in (surefoot, torchnmf):
        running, spent, course = method(matrix, codes.clone(), parts.clone()), 0.0, []
        next(running)  # Libraries set themselves up in the first call.
        running = method(matrix, codes.clone(), parts.clone())
        while spent < told.seconds:
            wait(told.device)
            began = time.perf_counter()
            factors = next(running)
            wait(told.device)
            spent += time.perf_counter() - began
            course.append((spent, relative(matrix, *factors)))
        found[method.__name__] = course
    best = min(error for course in found.values() for _, error in course)
    place = torch.cuda.get_device_name() if told.device != "cpu" else "a CPU"
    print(f"{told.rows:,} x {told.columns:,}, rank {told.rank}, float32, on {place}; torch {torch.__version__}\n")
    print("| method | s to 1.05 | s to 1.01 | s to 1.003 | s a call | lowest error, over the best |\n|---|---|---|---|---|---|")
    for name, course in found.items():
        times = [next((spent for spent, error in course if error <= level * best), inf) for level in LEVELS]
        cells = " | ".join(f"{seconds:.3f}".replace("inf", "never") for seconds in times)
        lowest = min(error for _, error in course) / best
        print(f"| {name} | {cells} | {course[-1][0] / len(course):.4f} | {lowest:.4f} |")


if __name__ == "__main__":
    main()
