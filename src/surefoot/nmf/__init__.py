"""Nonnegative matrix factorisation by stochastic projected gradient, and the learning rates at which it is stable."""

from surefoot.nmf.factors import Factors, Streams
from surefoot.nmf.matrices import Matrices
from surefoot.nmf.problem import Factorisation, FactorisationFleet

__all__ = ["Factorisation", "FactorisationFleet", "Factors", "Matrices", "Streams"]
