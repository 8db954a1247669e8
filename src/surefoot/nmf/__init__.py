"""Nonnegative matrix factorisation by stochastic projected gradient, and the learning rates at which it is stable.

For factors W (`codes`, m x r) and H (`parts`, r x n) of a matrix V the objective is half the squared Frobenius norm of WH - V.
A *stability edge* is a rate with the promise that any step strictly below it is safe; 1/L is half an edge. All functions take
NumPy arrays or PyTorch tensors with any leading dimensions, a fleet of runs, and return one number per run. A run with NaN or
infinity in it leaves its neighbours alone.

What is proved, what only held in numbers and what is invalid under projection stands with each function, and the proofs in
`docs/nmf/bounds.md`. The article that asked for such a bound, Subramanian and Ganapathiraman, "Efficient learning rate
schedules for stochastic non-negative matrix factorization via reinforcement learning" (Tiny Papers at ICLR 2023), is public as
an abstract only, and its formula is not known to us. **The family of bounds here is this project's own.**
"""

from surefoot.nmf.balance import a_priori_edge, balance
from surefoot.nmf.cycle import chebyshev, descend
from surefoot.nmf.edges import block_edge, cauchy_edge, feasible_direction, feasible_edge, noisy_edge
from surefoot.nmf.eigenvalues import largest_eigenvalue
from surefoot.nmf.exact import Incremental, Pass
from surefoot.nmf.factors import Factors, Streams
from surefoot.nmf.joint import Quartic, quartic, segment_edge
from surefoot.nmf.masks import masked_edge, row_edges
from surefoot.nmf.matrices import Matrices
from surefoot.nmf.noise import TwoHalves, TwoHalvesState, snr_edge
from surefoot.nmf.problem import Factorisation, FactorisationFleet
from surefoot.nmf.sampling import RunningMaximum, RunningMaximumState, expected_smoothness, limited

__all__ = [
    "Factorisation",
    "FactorisationFleet",
    "Factors",
    "Incremental",
    "Matrices",
    "Pass",
    "Quartic",
    "RunningMaximum",
    "RunningMaximumState",
    "Streams",
    "TwoHalves",
    "TwoHalvesState",
    "a_priori_edge",
    "balance",
    "block_edge",
    "cauchy_edge",
    "chebyshev",
    "descend",
    "expected_smoothness",
    "feasible_direction",
    "feasible_edge",
    "largest_eigenvalue",
    "limited",
    "masked_edge",
    "noisy_edge",
    "quartic",
    "row_edges",
    "segment_edge",
    "snr_edge",
]
