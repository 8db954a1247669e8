"""From the estimator's settings to a descent, in units of the data times a power of two."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from surefoot.nmf.descent import Descent, Penalties
from surefoot.nmf.pilot import Limit, Noise, Pilot
from surefoot.nmf.start import random_start, svd_start
from surefoot.sklearn.matrices import given
from surefoot.timed import Constant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.nmf.rows import Rows
    from surefoot.policy import Policy
    from surefoot.sklearn.estimator import StochasticNMF

_EXACT_SAFETY, _STOCHASTIC_SAFETY = 0.95, 0.5


def generator(model: StochasticNMF) -> np.random.Generator:
    """Where all chance comes from."""
    return np.random.default_rng(check_random_state(model.random_state).randint(2**31 - 1))


def policy(model: StochasticNMF, default: Policy[Any] | None) -> Policy[Any] | None:
    """The schedule as a policy; None for cycles of steps."""
    if model.schedule is None:
        return default
    if isinstance(model.schedule, (Real, float)):
        return Constant(float(model.schedule))
    return model.schedule


def penalties(model: StochasticNMF, columns: int, codes_shift: int, parts_shift: int) -> Penalties:
    """The penalties for codes and parts that are larger by these powers of two, and a matrix larger by both."""
    alpha_parts = model.alpha_W if model.alpha_H == "same" else float(model.alpha_H)
    both, rest = codes_shift + parts_shift, 1.0 - model.l1_ratio
    return Penalties(
        float(np.ldexp(columns * model.alpha_W * model.l1_ratio, both + parts_shift)),
        float(np.ldexp(columns * model.alpha_W * rest, 2 * parts_shift)),
        float(np.ldexp(alpha_parts * model.l1_ratio, both + codes_shift)),
        float(np.ldexp(alpha_parts * rest, 2 * codes_shift)),
    )


def start(
    model: StochasticNMF, rows: Rows, shift: int, random: np.random.Generator, *, codes: Any = None, parts: Any = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Codes and parts to start from, with those that were handed over, if any.

    Raises:
        ValueError: The kind of start does not go with the matrix, or with what was handed over.
    """
    m, n = rows.matrix.shape
    if model.init == "custom":
        rank, dtype = _rank(model, parts), rows.matrix.dtype
        return given("W", codes, (m, rank), shift, dtype), given("H", parts, (rank, n), shift, dtype)
    if codes is not None or parts is not None:
        raise ValueError(f"W and H are factors to start from, for init='custom' only, got init={model.init!r}")
    rank = n if model.n_components == "auto" else int(model.n_components)
    if model.init == "nndsvda" and rank > min(m, n):
        raise ValueError(
            f"init='nndsvda' needs n_components to be at most the smaller side of the matrix, {min(m, n)}, got {rank} "
            "(init='random' does not)"
        )
    is_random = model.init == "random" or rank > min(m, n)
    return (random_start if is_random else svd_start)(rows, rank, random)


def stream_start(
    model: StochasticNMF, rows: Rows, shift: int, random: np.random.Generator, parts: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same for the first batch of a stream, whose codes are solved anyway; parts there are already are kept."""
    if model.init == "custom" or hasattr(model, "components_"):
        parts = given("H", parts, (_rank(model, parts), rows.matrix.shape[1]), shift, rows.matrix.dtype)
        return np.zeros((rows.matrix.shape[0], len(parts)), parts.dtype), parts
    return start(model, rows, shift, random, parts=parts)


def descent(
    model: StochasticNMF,
    factors: tuple[NDArray[Any], NDArray[Any]],
    shift: int,
    random: np.random.Generator,
    schedule: Policy[Any] | None,
    *,
    is_stream: bool = False,
) -> Descent:
    """A descent from these factors, with all that the settings say about its rates."""
    is_exact, is_noisy = model.gradient == "exact" and not is_stream, model.gradient == "noisy"
    safety = model.safety or (_EXACT_SAFETY if is_exact else _STOCHASTIC_SAFETY)
    codes, parts = factors
    return Descent(
        codes,
        parts,
        Pilot(schedule, unit=float(np.ldexp(1.0, shift))),
        Limit(safety, is_capped=is_noisy),
        Limit(safety, is_capped=not is_exact, remembers=is_stream or model.gradient == "minibatch"),
        penalties(model, parts.shape[1], shift // 2, shift // 2),
        Noise(model.noise_std, random) if is_noisy else None,
        Noise(model.noise_std, random) if is_noisy else None,
    )


def _rank(model: StochasticNMF, parts: Any) -> int:
    """The rank, which the parts may have to tell."""
    if model.n_components != "auto":
        return int(model.n_components)
    return len(parts) if np.ndim(parts) else 1
