"""Nonnegative matrix factorisation by stochastic projected gradient, and the learning rates at which it is stable."""

from surefoot.nmf.problem import Factorisation, Factors

__all__ = ["Factorisation", "Factors"]
