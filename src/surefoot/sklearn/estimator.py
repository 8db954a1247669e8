"""The estimator: settings, and the glue between scikit-learn and the descent."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from surefoot import checks
from surefoot.nmf.quadratic import solve
from surefoot.nmf.rows import Rows
from surefoot.nmf.stream import Stream
from surefoot.nmf.watch import Watch
from surefoot.sklearn import settings
from surefoot.sklearn.matrices import largest, shift_to_one, shifted
from surefoot.timed import Constant, Linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.nmf.descent import Descent
    from surefoot.policy import Policy

_BATCH = 1024
_TOLERANCE = {"float32": 1e-6, "float64": 1e-9}
"""How well the codes of given parts are solved, as a fraction of a row's largest code."""


class StochasticNMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc] # It ships no types.
    r"""Find nonnegative codes $W$ and parts $H$ with $X \approx WH$, by projected gradient steps under their stability bound.

    Minimises
    $$\tfrac12\|X - WH\|_F^2 + n\alpha_W\left(\rho\|W\|_1 + \tfrac{1-\rho}{2}\|W\|_F^2\right)
    + m\alpha_H\left(\rho\|H\|_1 + \tfrac{1-\rho}{2}\|H\|_F^2\right)$$
    over $W, H \ge 0$ for a matrix of $m$ rows and $n$ columns, with $\rho$ the `l1_ratio`, as scikit-learn's `NMF` does. What
    is found is a stationary point, which need not be the best one.

    A rate is a policy's scale times the bound, `safety` $\times\ 2/L$, where $L$ is the largest curvature of the factor that is
    moved. Scales above 1 are clipped. Where the gradient is noisy, no rate is ever larger than what was safe at first, and with
    batches $L$ is the largest of late.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> X = random.random((30, 2)) @ random.random((2, 8))
    >>> model = StochasticNMF(n_components=2, tol=0, random_state=0)
    >>> codes = model.fit_transform(X)
    >>> bool(model.reconstruction_err_ < 1e-3 * np.linalg.norm(X))
    True
    >>> model.inverse_transform(codes).shape
    (30, 8)

    Attributes:
        components_: The parts $H$, (rank, columns).
        n_components_: The rank.
        n_features_in_: Columns of the matrix.
        reconstruction_err_: $\|X - WH\|_F$ over the known entries; after `partial_fit`, that of the last batch before its step.
        n_iter_: Passes over the matrix in `fit`, batches in `partial_fit`.
        loss_history_: The objective as a fraction of $\tfrac12\|X\|_F^2$: after every pass, or with batches, that of the batch
            before the parts moved.
        rate_history_: The rate of every step of the parts, in the units of the data; without a schedule, the mean
            rate of a cycle of steps for the longest part. Where entries are missing, the smallest of all columns.
        bound_history_: The largest rate that was allowed there.
        clipped_fraction_: The fraction of the steps at which the schedule asked for more.

    Args:
        n_components: The rank, 1 or more; `"auto"` for as many as there are columns, or as custom factors have.
        init: Where to start: `"random"`, `"nndsvda"` (from singular vectors), `"custom"` (with `W` and `H` handed to `fit`), or
            None for `"nndsvda"` if the rank is no larger than either side of the matrix, and `"random"` otherwise.
        gradient: `"exact"`; `"minibatch"`, from `batch_size` rows at a time; or `"noisy"`, from an oracle that adds noise.
        batch_size: Rows in a batch, 1 or more.
        noise_std: Standard deviation of the oracle's noise, as a multiple of the root mean square of the first gradient's
            entries; 0 or more.
        schedule: Any policy, whose scale is a multiple of the bound; a number for a constant scale, 0 or more; None for the
            default: cycles of Chebyshev steps with a safeguard for exact gradients, a straight line to zero for others, and
            the bound itself in `partial_fit`.
        safety: What scale 1 means, as a fraction of the stability edge $2/L$, above 0 and below 2; from 1 on nothing is
            guaranteed. None for 0.95 where gradients are exact and 0.5 where they are not.
        missing: `"mask"` to leave out entries that are NaN; None if NaN is an error.
        alpha_W: The weight of the penalty on the codes, 0 or more.
        alpha_H: The weight of that on the parts, 0 or more, or `"same"`.
        l1_ratio: How much of the penalties is linear and makes factors sparse, from 0 to 1.
        max_iter: The most passes over the matrix, 1 or more; stochastic gradients make all of them.
        tol: Stop when a pass lowers the loss by less than this fraction of it, in the mean of five passes, or when the relative
            error is below this; 0 for never. Exact gradients only.
        random_state: Seed of the start, of the order of batches and of the noise.

    Reference: for the penalties, Pedregosa et al., 2011, JMLR 12, `sklearn.decomposition.NMF`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "init": [StrOptions({"random", "nndsvda", "custom"}), None],
        "gradient": [StrOptions({"exact", "minibatch", "noisy"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "noise_std": [Interval(Real, 0, None, closed="left")],
        "schedule": [HasMethods(["init", "update"]), Interval(Real, 0, None, closed="left"), None],
        "safety": [Interval(Real, 0, 2, closed="neither"), None],
        "missing": [StrOptions({"mask"}), None],
        "alpha_W": [Interval(Real, 0, None, closed="left")],
        "alpha_H": [Interval(Real, 0, None, closed="left"), StrOptions({"same"})],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        init: str | None = None,
        gradient: str = "exact",
        batch_size: int = _BATCH,
        noise_std: float = 0.0,
        schedule: Policy[Any] | float | None = None,
        safety: float | None = None,
        missing: str | None = None,
        alpha_W: float = 0.0,  # noqa: N803 - scikit-learn's name
        alpha_H: float | str = "same",  # noqa: N803 - scikit-learn's name
        l1_ratio: float = 0.0,
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.gradient = gradient
        self.batch_size = batch_size
        self.noise_std = noise_std
        self.schedule = schedule
        self.safety = safety
        self.missing = missing
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self.missing == "mask"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None, W: Any = None, H: Any = None) -> Self:  # noqa: N803 - scikit-learn's names
        """Find the parts of a matrix; see `fit_transform`."""
        self.fit_transform(X, y, W=W, H=H)
        return self

    def fit_transform(self, X: Any, y: Any = None, W: Any = None, H: Any = None) -> NDArray[Any]:  # noqa: ARG002, N803
        """Find the parts of a matrix, and return its codes, the same that `transform` returns.

        Args:
            X: The matrix, (rows, columns), nonnegative: an array, a memory map, or a sparse matrix.
            y: Ignored.
            W: Codes to start from, (rows, rank), nonnegative; with `init="custom"` only.
            H: Parts to start from, (rank, columns), nonnegative; with `init="custom"` only.

        Raises:
            ValueError: The matrix, the factors to start from, a setting or the schedule's scale are not as they must be.
        """
        self._check_settings()
        matrix, high = self._checked(X, reset=True)
        shift, random = shift_to_one(high), settings.generator(self)
        rows = Rows(shifted(matrix, shift), self.missing == "mask")
        batch = min(self.batch_size if self.gradient == "minibatch" else matrix.shape[0], matrix.shape[0])
        line = Linear(self.max_iter * -(-matrix.shape[0] // batch))
        policy = settings.policy(self, None if self.gradient == "exact" else line)
        factors = settings.start(self, rows, shift, random, codes=W, parts=H)
        descent = settings.descent(self, factors, shift, random, policy)
        passes = self._descend(descent, rows, batch, random)
        self._stream: Stream | None = None
        self._show(descent, passes, shift)
        codes = self._codes(matrix, high)
        left = rows.left(np.ldexp(codes, shift // 2), descent.parts)
        self.reconstruction_err_ = float(np.ldexp(np.sqrt(2.0 * left), -shift))
        return codes

    def partial_fit(self, X: Any, y: Any = None, H: Any = None) -> Self:  # noqa: ARG002, N803
        """Move the parts a little along the gradients of a batch, whose codes are solved first.

        The first call starts, every other goes on where the last one, or `fit`, ended. A pickle in between changes nothing.

        Args:
            X: Some rows, (rows, columns), nonnegative.
            y: Ignored.
            H: Parts to start from, (rank, columns), nonnegative; at the first call with `init="custom"` only.

        Raises:
            ValueError: As `fit_transform` does.
        """
        is_first = not hasattr(self, "components_")
        self._check_settings()
        matrix, high = self._checked(X, reset=is_first)
        stream = getattr(self, "_stream", None) or self._opened(matrix, high, H if is_first else self.components_)
        self._stream, descent, shift = stream, stream.descent, stream.shift
        matrix = shifted(matrix, shift).astype(descent.parts.dtype, copy=False)
        batch = Rows(matrix, self.missing == "mask")
        before = stream.take(batch.block(0, matrix.shape[0]))
        _tell(stream.trouble)
        self._show(descent, len(descent.pilot.losses), shift)
        self.reconstruction_err_ = float(np.ldexp(np.sqrt(2.0 * batch.left(descent.codes, before)), -shift))
        return self

    def transform(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The codes of some rows, (rows, rank): the best ones for the parts as they are, whatever rows stand beside them.

        Args:
            X: The rows, (rows, columns), nonnegative.

        Raises:
            ValueError: The rows are not as they must be.
        """
        check_is_fitted(self)
        return self._codes(*self._checked(X, reset=False))

    def inverse_transform(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The rows that codes stand for, (rows, columns).

        Args:
            X: Codes, (rows, rank), dense or sparse.

        Raises:
            ValueError: There are more or fewer codes in a row than parts.
        """
        check_is_fitted(self)
        codes = check_array(X, accept_sparse=("csr", "csc"), dtype=[np.float64, np.float32])
        if codes.shape[1] != self.n_components_:
            raise ValueError(f"X must have one column for each of the {self.n_components_} parts, got {codes.shape[1]}")
        return np.asarray(codes @ self.components_)

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components_)

    def _check_settings(self) -> None:
        self._validate_params()
        if self.noise_std and self.gradient != "noisy":
            raise ValueError(
                f"noise_std is for gradient='noisy', got noise_std={self.noise_std} and gradient={self.gradient!r}"
            )
        if isinstance(self.schedule, type):
            checks.policy("schedule", self.schedule)

    def _checked(self, X: Any, *, reset: bool) -> tuple[Any, float]:  # noqa: N803
        """The matrix in a form that can be used, and its largest entry."""
        kinds = [np.float64, np.float32]
        matrix = validate_data(self, X, reset=reset, accept_sparse="csr", dtype=kinds, ensure_all_finite=False)
        high = largest(matrix, may_miss=self.missing == "mask")
        return matrix if hasattr(matrix, "toarray") else np.asarray(matrix), high

    def _descend(self, descent: Descent, rows: Rows, batch: int, random: np.random.Generator) -> int:
        """Pass over the matrix until it is enough; return how often, and warn of what went wrong."""
        watch = Watch(self.tol if self.gradient == "exact" else 0.0, keeps=not descent.is_monotone)
        if watch.keeps:
            watch.begin(descent, descent.loss(rows))
        passes, is_over = 0, False
        while passes < self.max_iter and not is_over:
            loss = descent.epoch(rows, batch, random) if self.gradient == "minibatch" else descent.sweep(rows)
            passes, is_over = passes + 1, watch.is_over(descent, loss)
        _tell(watch.trouble)
        if watch.tolerance and not is_over:
            _tell(f"the loss was still falling after max_iter={self.max_iter} passes (raise max_iter, or tol={self.tol:g})")
        return passes

    def _opened(self, X: Any, high: float, parts: Any) -> Stream:  # noqa: N803
        """What `partial_fit` goes on with from call to call."""
        shift, random = shift_to_one(high), settings.generator(self)
        rows = Rows(shifted(X, shift), self.missing == "mask")
        factors, policy = settings.stream_start(self, rows, shift, random, parts), settings.policy(self, Constant())
        return Stream(settings.descent(self, factors, shift, random, policy, is_stream=True), shift)

    def _codes(self, X: Any, high: float) -> NDArray[Any]:  # noqa: N803
        """The best codes for the parts as they are."""
        shift, parts_shift = shift_to_one(high), shift_to_one(float(self.components_.max(initial=0.0)), usual=0)
        rows = Rows(shifted(X, shift), self.missing == "mask")
        parts = np.ldexp(self.components_, parts_shift).astype(X.dtype, copy=False)
        penalties = settings.penalties(self, X.shape[1], shift - parts_shift, parts_shift)
        codes = np.empty((X.shape[0], len(parts)), X.dtype)
        for where, block in rows.blocks(len(parts)):
            problem = block.for_codes(parts).penalised(penalties.codes_l1, penalties.codes_l2)
            solved = solve(problem, tolerance=_TOLERANCE[X.dtype.name])
            codes[where] = np.ldexp(solved, parts_shift - shift)
        return codes

    def _show(self, descent: Descent, passes: int, shift: int) -> None:
        """Set what the world sees, in the units of the data."""
        pilot = descent.pilot
        self.components_ = np.ldexp(descent.parts, -(shift // 2))
        self.n_components_ = len(descent.parts)
        self.n_iter_ = passes
        self.loss_history_, self.rate_history_, self.bound_history_ = pilot.losses, pilot.rates, pilot.bounds
        self.clipped_fraction_ = pilot.clipped / max(len(pilot.losses), 1)


def _tell(sentence: str) -> None:
    if sentence:
        warnings.warn(sentence, ConvergenceWarning, stacklevel=4)
