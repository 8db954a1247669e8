"""Nonnegative matrix factorisation as a scikit-learn estimator, at rates that cannot diverge.

Needs scikit-learn 1.6 or newer: `pip install "surefoot[sklearn]"`.
"""

from surefoot.sklearn.estimator import StochasticNMF

__all__ = ["StochasticNMF"]
