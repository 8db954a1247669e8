"""R's data frames as examples with a class to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.data import Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.r_objects import RObject

_MISSING = -(2**31)
_MOST_LEVELS = 60


def examples(
    frame: RObject, label: str, *, bins: int | None = None, without: tuple[str, ...] = ()
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Features, classes from 0, and which features are numbers, for `split`.

    A column of categories becomes one column a category, 1 where it applies; one of more than 60 categories, and one of text,
    is left out. A missing category is 0 in all of them, a missing number is NaN. Rows without a class are left out.

    Args:
        frame: A data frame.
        label: The column to be told.
        bins: For a column of numbers: into how many equally full classes it is cut.
        without: Columns to leave out, such as those that give the answer away.
    """
    columns = frame.named()
    classes = _classes(columns.pop(label), bins)
    parts, numeric = [], []
    for name, column in columns.items():
        if name in without or not isinstance(column.value, np.ndarray):
            continue
        if "levels" not in column.attributes:
            values = column.value.astype(np.float64)
            is_there = np.isfinite(values) & (column.value != _MISSING)  # R's NA is a NaN that NumPy stumbles over.
            parts.append(np.where(is_there, values, np.nan)[:, None])
        elif len(column.attributes["levels"].value) <= _MOST_LEVELS:
            parts.append(column.value[:, None] == np.arange(len(column.attributes["levels"].value)) + 1)
        else:
            continue
        numeric += ["levels" not in column.attributes] * parts[-1].shape[1]
    there = classes >= 0
    return np.hstack(parts).astype(np.float64)[there], classes[there], np.array(numeric)


def split(x: NDArray[Any], y: NDArray[Any], numeric: NDArray[np.bool_], held_out: int) -> Split:
    """Shuffle by a fixed seed, hold out the first rows, and standardise numbers by the others' mean and deviation.

    A missing number becomes 0, the mean.

    Args:
        x: Features, as `examples` returns them.
        y: Classes.
        numeric: Which features are numbers.
        held_out: Rows to hold out, 1 or more and fewer than there are.
    """
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    train = x[held_out:]
    mean, deviation = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    shift, size = np.where(numeric, mean, 0.0), np.where(numeric & (deviation > 0.0), deviation, 1.0)
    even = np.nan_to_num((x - shift) / size).astype(np.float32)
    return Split(even[held_out:], y[held_out:], even[:held_out], y[:held_out])


def _classes(column: RObject, bins: int | None) -> NDArray[np.int64]:
    """From 0, and -1 where missing."""
    if bins is None:
        codes: NDArray[np.int64] = column.value.astype(np.int64)
        is_missing = codes == _MISSING
        first = 1 if "levels" in column.attributes else 0
        _, classes = np.unique(codes - first, return_inverse=True)
        lowest = int(is_missing.any())
        return np.where(is_missing, -1, classes - lowest)
    values = column.value.astype(np.float64)
    edges = np.quantile(values, np.arange(1, bins) / bins)
    cut: NDArray[np.int64] = np.searchsorted(edges, values, side="right").astype(np.int64)
    return cut
