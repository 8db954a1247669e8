"""How fast factorisations get close to the best one, beside the peers: CPU seconds to 1.05, 1.01 and 1.003 of the best error.

    pip install 'surefoot[sklearn,peers]'
    python benchmarks/nmf.py                                   # all data, five seeds
    python benchmarks/nmf.py --data digits --data synthetic --seeds 2

Every method starts from the same random factors, runs on one thread for as many CPU seconds as the data set grants, and is
looked at after every pass (multiplicative updates after ten) with the clock stopped. An error is the relative one, |V - WH| /
|V|; the best is the lowest that any method reached from that start. The peers are called at the level of their kernels,
without the checks of input that a call of `fit` makes. The figure of a method is its median over the seeds: "never" if it
missed from half of the starts. Exits with 1 if a target of the project is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from dataclasses import dataclass, field
from math import inf, isfinite, sqrt
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from sklearn.decomposition import MiniBatchNMF
from sklearn.decomposition._nmf import _fit_multiplicative_update, _update_coordinate_descent
from sklearn.utils import gen_batches
from threadpoolctl import threadpool_limits

from surefoot import Constant
from surefoot.nmf import Incremental
from surefoot.nmf.descent import Descent
from surefoot.nmf.pilot import Limit, Pilot
from surefoot.nmf.rows import Rows
from surefoot.nmf.synthetic import known_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEVELS = (1.05, 1.01, 1.003)
BATCH_TARGET = 10.0  # How many times faster batches shall be than MiniBatchNMF's.


@dataclass(frozen=True)
class Data:
    """A matrix to factorise: how it is made, its rank, and the CPU seconds that each method gets.

    Attributes:
        targets: How many times faster than an opponent the default shall be to 1.01 of the best error.
    """

    make: Callable[[], Any]
    rank: int
    seconds: float
    targets: dict[str, float] = field(default_factory=dict)


def digits() -> Any:
    """1,797 handwritten digits of 64 pixels."""
    from sklearn.datasets import load_digits

    return load_digits().data


def fashion() -> Any:
    """The first 10,000 pictures of Fashion-MNIST, of 784 pixels from 0 to 1."""
    from surefoot.data import fashion_mnist

    return np.ascontiguousarray(fashion_mnist().train_x[:10_000].reshape(10_000, -1), dtype=np.float32)


def text() -> Any:
    """The docstrings that are installed, weighed by TF-IDF: sparse."""
    from surefoot.texts import LIBRARIES, docstrings

    return docstrings(LIBRARIES).matrix


TARGETS = {"scikit-learn cd": 3.0, "HALS, 3 inner sweeps": 1.5}
DATA = {
    "digits": Data(digits, 16, 1.0, {"scikit-learn cd": 1.0}),
    "synthetic": Data(lambda: known_rank(seed=0), 20, 2.5, TARGETS),
    "fashion": Data(fashion, 32, 4.0, TARGETS),
    "text": Data(text, 20, 6.0),
}


def ours(matrix: Any, codes: Any, parts: Any) -> Iterator[tuple[Any, Any]]:
    """What `StochasticNMF()` does by default: exact incremental gradients, safeguarded Chebyshev cycles."""
    factors = Incremental(matrix, codes, parts)
    while True:
        factors.sweep()
        yield factors.codes, factors.parts


def ours_in_batches(matrix: Any, codes: Any, parts: Any, batch: int = 256) -> Iterator[tuple[Any, Any]]:
    """What `StochasticNMF(gradient="minibatch", schedule=1)` does."""
    limits = (Limit(0.5, remembers=True, is_capped=True) for _ in range(2))
    descent, rows, random = Descent(codes, parts, Pilot(Constant()), *limits), Rows(matrix), np.random.default_rng(0)
    while True:
        descent.epoch(rows, batch, random)
        yield descent.codes, descent.parts


def coordinate_descent(matrix: Any, codes: Any, parts: Any) -> Iterator[tuple[Any, Any]]:
    """The kernel of `NMF(solver="cd")`."""
    columns = np.ascontiguousarray(parts.T)
    flipped = matrix.T.tocsr() if issparse(matrix) else matrix.T
    while True:
        _update_coordinate_descent(matrix, codes, columns, 0.0, 0.0, shuffle=False, random_state=None)
        _update_coordinate_descent(flipped, columns, codes, 0.0, 0.0, shuffle=False, random_state=None)
        yield codes, columns.T


def multiplicative(matrix: Any, codes: Any, parts: Any) -> Iterator[tuple[Any, Any]]:
    """The kernel of `NMF(solver="mu")`, ten updates at a time."""
    while True:
        codes, parts, _ = _fit_multiplicative_update(matrix, codes, parts, max_iter=10, tol=0.0)
        yield codes, parts


def mini_batch(matrix: Any, codes: Any, parts: Any, batch: int = 1024) -> Iterator[tuple[Any, Any]]:
    """The steps of `MiniBatchNMF`, without its test for convergence."""
    model = MiniBatchNMF(codes.shape[1], batch_size=batch, init="custom")
    model._check_params(matrix)
    model._components_numerator, model._components_denominator = parts.copy(), np.ones_like(parts)
    while True:
        for some in gen_batches(len(codes), batch):
            model._minibatch_step(matrix[some], codes[some], parts, update_H=True)
        yield codes, parts


def hals(matrix: Any, codes: Any, parts: Any, inner: int = 3) -> Iterator[tuple[Any, Any]]:
    """Hierarchical alternating least squares: part by part, `inner` times for each product with the matrix (Gillis, 2012)."""
    rows, parts = np.ascontiguousarray(codes.T), parts.copy()
    while True:
        _part_by_part(rows, parts @ parts.T, np.ascontiguousarray((matrix @ parts.T).T), inner)
        codes = np.ascontiguousarray(rows.T)
        _part_by_part(parts, codes.T @ codes, np.ascontiguousarray((matrix.T @ codes).T), inner)
        yield codes, parts


def _part_by_part(factor: Any, gram: Any, products: Any, inner: int) -> None:
    for _ in range(inner):
        for part in np.flatnonzero(np.diag(gram) > 1e-12):  # noqa: PLR2004
            change = products[part] - gram[part] @ factor
            change /= gram[part, part]
            change += factor[part]
            np.maximum(change, 0.0, out=factor[part])


def torchnmf(matrix: Any, codes: Any, parts: Any) -> Iterator[tuple[Any, Any]]:
    """`torchnmf.nmf.NMF`, beta 2, ten updates at a time. Its W is H transposed, and its H is W."""
    import torch
    from torchnmf.nmf import NMF

    torch.set_num_threads(1)
    if issparse(matrix):
        there = matrix.tocoo()
        target = torch.sparse_coo_tensor(np.stack([there.row, there.col]), there.data, matrix.shape)
    else:
        target = torch.from_numpy(matrix)
    model = NMF(W=torch.from_numpy(np.ascontiguousarray(parts.T)), H=torch.from_numpy(codes))
    while True:
        model.fit(target, beta=2, tol=0.0, max_iter=10)
        yield model.H.detach().numpy(), model.W.detach().numpy().T


METHODS: dict[str, Callable[..., Iterator[tuple[Any, Any]]]] = {
    "surefoot": ours,
    "surefoot, batches of 256": ours_in_batches,
    "surefoot, batches of 1024": lambda *start: ours_in_batches(*start, batch=1024),
    "scikit-learn cd": coordinate_descent,
    "scikit-learn mu": multiplicative,
    "MiniBatchNMF, batches of 256": lambda *start: mini_batch(*start, batch=256),
    "MiniBatchNMF, batches of 1024": mini_batch,
    "HALS, 1 inner sweep": lambda *start: hals(*start, inner=1),
    "HALS, 3 inner sweeps": hals,
    "torchnmf": torchnmf,
}


class Error:
    """The relative error of factors, by Gram matrices in float64; good to 1e-4 even for a matrix in float32."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        entries = matrix.data if issparse(matrix) else matrix
        self.square = float(np.sum(np.square(entries, dtype=np.float64)))

    def __call__(self, codes: Any, parts: Any) -> float:
        """From 0 on; infinite if it is no number."""
        fit = np.sum(np.asarray(self.matrix @ parts.T) * codes, dtype=np.float64)
        curved = np.sum((codes.T @ codes).astype(np.float64) * (parts @ parts.T))
        left = self.square - 2.0 * fit + curved
        return sqrt(max(left, 0.0) / self.square) if isfinite(left) else inf


def start(matrix: Any, rank: int, seed: int) -> tuple[Any, Any]:
    """Random factors of the matrix's mean, both equally large."""
    random = np.random.default_rng(seed)
    shapes = (matrix.shape[0], rank), (rank, matrix.shape[1])
    codes, parts = (np.abs(random.standard_normal(shape)).astype(matrix.dtype) for shape in shapes)
    codes *= matrix.mean() / (codes.mean(axis=0) @ parts.mean(axis=1))
    ratio = np.sqrt(np.linalg.norm(parts) / np.linalg.norm(codes)).astype(matrix.dtype)
    return codes * ratio, parts / ratio


def course(method: Any, matrix: Any, begin: tuple[Any, Any], seconds: float, error: Error) -> list[tuple[float, int, float]]:
    """(CPU seconds, calls, error) after every call, until the seconds are spent."""
    spent, found = 0.0, []
    began = time.process_time()
    running = method(matrix, *(factor.copy() for factor in begin))
    while spent < seconds:
        factors = next(running)
        spent += time.process_time() - began
        found.append((spent, len(found) + 1, error(*factors)))
        began = time.process_time()
    return found


def limit(matrix: Any, rank: int) -> float:
    """Seconds that the two products of a pass take by themselves, with nothing done to their results."""
    codes, parts = start(matrix, rank, 0)
    columns, times = np.ascontiguousarray(parts.T), []
    for _ in range(9):
        began = time.process_time()
        matrix @ columns
        matrix.T @ codes
        times.append(time.process_time() - began)
    return median(times)


def reached(found: list[tuple[float, int, float]], error: float) -> tuple[float, int]:
    """When, and at which call, an error was reached."""
    return next(((spent, calls) for spent, calls, at in found if at <= error), (inf, 0))


@dataclass(frozen=True)
class Race:
    """What came of one data set.

    Attributes:
        times: By method and level, when and at which call each seed got there.
        ends: By method, each seed's lowest error, over the best of all methods.
    """

    times: dict[str, list[list[tuple[float, int]]]]
    ends: dict[str, list[float]]

    def seconds(self, method: str, level: int = 1) -> float:
        """The median over the seeds."""
        return median(spent for spent, _ in self.times[method][level])

    def cell(self, method: str, level: int) -> str:
        """The median; how many seeds got there, unless all did."""
        column = self.times[method][level]
        there = sum(spent < inf for spent, _ in column)
        text = f"{median(spent for spent, _ in column):.3f}".replace("inf", "never")
        return text if there == len(column) else f"{text} ({there} of {len(column)})"


def race(name: str, matrix: Any, seeds: int) -> Race:
    """Let all methods run from every seed."""
    data, error = DATA[name], Error(matrix)
    found = Race({method: [[] for _ in LEVELS] for method in METHODS}, {method: [] for method in METHODS})
    for seed in range(seeds):
        begin, courses = start(matrix, data.rank, seed), {}
        for label, method in METHODS.items():
            print(f"\r{name}, seed {seed}: {label}".ljust(79), end="", file=sys.stderr, flush=True)
            courses[label] = course(method, matrix, begin, data.seconds, error)
        best = min(at for each in courses.values() for _, _, at in each)
        for label, each in courses.items():
            found.ends[label].append(min(at for _, _, at in each) / best)
            for level, column in zip(LEVELS, found.times[label], strict=True):
                column.append(reached(each, level * best))
    print("\r".ljust(80), end="\r", file=sys.stderr)
    return found


def measure(name: str, seeds: int) -> bool:
    """Run all methods on one data set, print the table, and say whether the targets were met."""
    data, matrix = DATA[name], DATA[name].make()
    floor, found = limit(matrix, data.rank), race(name, matrix, seeds)
    kind = f"sparse, {matrix.nnz / np.prod(matrix.shape):.2%} filled" if issparse(matrix) else "dense"
    size = f"{matrix.shape[0]:,} x {matrix.shape[1]:,}"
    print(f"\n### {name}: {size}, {kind}, {matrix.dtype}, rank {data.rank}, {seeds} seeds\n")
    print("| method | s to 1.05 | s to 1.01 | s to 1.003 | to 1.01, over surefoot's | lowest error, over the best |")
    print("|---|---|---|---|---|---|")
    for label in METHODS:
        ratio = f"{found.seconds(label) / found.seconds('surefoot'):.2f}".replace("inf", "never")
        cells = " | ".join(found.cell(label, level) for level in range(len(LEVELS)))
        print(f"| {label} | {cells} | {ratio} | {median(found.ends[label]):.4f} |")
    each = median(spent / calls for spent, calls in found.times["surefoot"][1] if calls) / floor
    print(
        f"\nA pass of surefoot takes {each:.2f} times as long as its two products with the matrix alone ({1e3 * floor:.1f} ms)."
    )
    met = [found.seconds(label) >= target * found.seconds("surefoot") for label, target in data.targets.items()]
    batches = [
        [min(found.seconds(label, level) for label in METHODS if label.startswith(name)) for level in range(2)]
        for name in ("MiniBatchNMF", "surefoot, batches")
    ]
    for level, theirs, own in zip(LEVELS, *batches, strict=False):
        ratio = "never gets" if theirs == inf else f"takes {theirs / own:.1f} times as long"
        print(f"In batches, to {level}: " + (f"the better MiniBatchNMF {ratio}." if own < inf else "surefoot never gets."))
    enough = batches[1][1] < inf and batches[0][1] >= BATCH_TARGET * batches[1][1]
    return all(met) and enough


def main() -> int:
    """Measure, and say by the exit code whether every target was met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", action="append", choices=list(DATA), help="one of the data sets; all of them by default")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    threadpool_limits(1)
    met = [measure(name, arguments.seeds) for name in arguments.data or DATA]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
