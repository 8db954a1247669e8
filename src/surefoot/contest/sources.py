"""The data of the tasks by name: real, public, and split the same way every time."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot import data, ratings
from surefoot.contest import frames, letters
from surefoot.contest.packages import PACKAGES
from surefoot.data import Split
from surefoot.r_objects import from_lazy_data, from_saved

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from surefoot.r_objects import RObject

_NOVELS = ("emma", "mansfieldpark", "northangerabbey", "persuasion", "prideprejudice", "sensesensibility")
_FEWER = 12_000
"""Pictures to train on: more would cost memory, and a short run sees no more."""


class Frame(NamedTuple):
    """A data frame of an R package, and what is to be told.

    Attributes:
        package: The Debian package.
        name: Of the data frame.
        label: The column to be told.
        bins: Into how many equally full classes that column is cut, if it holds numbers.
        without: Columns that are left out.
    """

    package: str
    name: str
    label: str
    bins: int | None = None
    without: tuple[str, ...] = ()


FRAMES = {
    "letter": Frame("r-cran-mlbench", "LetterRecognition", "lettr"),
    "satellite": Frame("r-cran-mlbench", "Satellite", "classes"),
    "shuttle": Frame("r-cran-mlbench", "Shuttle", "Class"),
    "dna": Frame("r-cran-mlbench", "DNA", "Class"),
    "spam": Frame("r-cran-kernlab", "spam", "type"),
    "ticdata": Frame("r-cran-kernlab", "ticdata", "CARAVAN"),
    "income": Frame("r-cran-kernlab", "income", "INCOME"),
    "ames": Frame("r-cran-modeldata", "ames", "Sale_Price", bins=4),
    "attrition": Frame("r-cran-modeldata", "attrition", "Attrition"),
    "cells": Frame("r-cran-modeldata", "cells", "class", without=("case",)),
    "credit": Frame("r-cran-modeldata", "credit_data", "Status"),
    "churn": Frame("r-cran-modeldata", "mlc_churn", "churn"),
    "telco": Frame("r-cran-modeldata", "wa_churn", "churn"),
    "lending-club": Frame("r-cran-modeldata", "lending_club", "Class"),
    "hpc": Frame("r-cran-modeldata", "hpc_data", "class"),
    "chicago": Frame("r-cran-modeldata", "Chicago", "ridership", bins=4),
    "stackoverflow": Frame("r-cran-modeldata", "stackoverflow", "Remote"),
    "check-times": Frame("r-cran-modeldata", "check_times", "check_time", bins=4),
}
"""Tables by name."""


@cache
def load(name: str, held_out: int) -> Split:
    """The data of that name, `held_out` rows of them held out; the same object at every call.

    Args:
        name: One of `NAMES`.
        held_out: Rows, 1 or more.

    Raises:
        DataMissing: They are not on this machine.
        ValueError: There are too few rows to hold out so many.
    """
    split = _table(FRAMES[name], held_out) if name in FRAMES else _OTHERS[name](held_out)
    if len(split.held_out_x) != held_out:
        raise ValueError(f"held_out must be at most {len(split.held_out_x)} rows for {name}, got {held_out}")
    return split


@cache
def matrix(name: str, held_out: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rows of `load`, every column moved up so that it begins at 0, to train on and held out.

    Held-out entries below all of those that are trained on are 0, too.
    """
    split = load(name, held_out)
    lowest = split.train_x.min(axis=0)
    return split.train_x - lowest, np.maximum(split.held_out_x - lowest, np.float32(0.0))


def missing(need: str) -> str | None:
    """A sentence that says how to get something that is not on this machine; None if it is.

    Args:
        need: A Debian package or a Python package that a task names.
    """
    if need in PACKAGES:
        return None if PACKAGES[need].available else PACKAGES[need].advice
    there = {"dataset-fashion-mnist": data.fashion_mnist_available, "r-cran-dslabs": ratings.movielens_available}
    if need in there:
        return None if there[need]() else f"the data of {need} must be on this machine, got none (run `surefoot contest fetch`)"
    module = {"scikit-learn": "sklearn"}.get(need, need)
    found = find_spec(module) is not None
    return None if found else f"the Python package {need} must be installed, got none (run `pip install {need}`)"


def _table(frame: Frame, held_out: int) -> Split:
    return frames.split(*frames.examples(_frame(frame), frame.label, bins=frame.bins, without=frame.without), held_out)


def _frame(frame: Frame) -> RObject:
    package = PACKAGES[frame.package]
    if len(package.files) == 2 and package.files[0].endswith("rdx"):  # noqa: PLR2004 - an index and its content
        index, content = map(package.read, package.files)
        return from_lazy_data(index, content, frame.name)
    file = next(file for file in package.files if file.endswith(f"/{frame.name}.rda"))
    return from_saved(package.read(file), frame.name)


def _novels() -> list[bytes]:
    package = PACKAGES["r-cran-janeaustenr"]
    index, content = (package.read(file) for file in package.files)
    return ["\n".join(filter(None, from_lazy_data(index, content, name).value)).encode() for name in _NOVELS]


def _books() -> dict[str, list[bytes]]:
    """The verses of each book of the Bible, without the names and numbers that stand before them."""
    text = letters.bible(PACKAGES["bible-kjv-text"].read("usr/lib/bible.data"))
    books: dict[str, list[bytes]] = {}
    for line in text.splitlines()[1:]:
        place, _, verse = line.partition(b" ")
        books.setdefault(place.partition(b":")[0].decode().rstrip("0123456789"), []).append(verse)
    return books


def _bible(held_out: int) -> Split:
    return letters.next_letters(b"\n".join(verse for verses in _books().values() for verse in verses), held_out)


def _bible_books(held_out: int) -> Split:
    """Of the twelve longest books."""
    texts = sorted((b"\n".join(verses) for verses in _books().values()), key=len, reverse=True)
    return letters.excerpts(texts[:12], held_out)


def _digits(held_out: int) -> Split:
    return _first(data.digits(), held_out)


def _fashion(held_out: int) -> Split:
    split = _first(data.fashion_mnist(), held_out)
    return split._replace(train_x=split.train_x[:_FEWER], train_y=split.train_y[:_FEWER])


def _coarse_fashion(held_out: int) -> Split:
    split = _fashion(held_out)
    return split._replace(train_x=_pooled(split.train_x), held_out_x=_pooled(split.held_out_x))


def _mnist1d(held_out: int) -> Split:
    from mnist1d.data import get_dataset_args, make_dataset

    state = np.random.get_state()  # noqa: NPY002 - the package seeds what the whole process shares
    made = make_dataset(get_dataset_args())
    np.random.set_state(state)  # noqa: NPY002
    kinds = ("x", "y", "x_test", "y_test")
    x, y, x_test, y_test = (np.asarray(made[kind]) for kind in kinds)
    return _first(Split(x.astype(np.float32), y, x_test.astype(np.float32), y_test), held_out)


def _ratings(held_out: int) -> Split:
    """Users by the movies that 50 or more of them have rated, 0 where a user has not; nothing is to be told."""
    table = np.nan_to_num(ratings.movielens().often_rated(50).table)
    table = table[np.random.default_rng(0).permutation(len(table))]
    nothing = np.zeros(len(table), np.int64)
    return Split(table[held_out:], nothing[held_out:], table[:held_out], nothing[:held_out])


def _first(split: Split, held_out: int) -> Split:
    return split._replace(held_out_x=split.held_out_x[:held_out], held_out_y=split.held_out_y[:held_out])


def _pooled(rows: NDArray[Any]) -> NDArray[Any]:
    """28 x 28 pixels to 14 x 14, each the mean of four."""
    pooled: NDArray[Any] = rows.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)
    return pooled


_OTHERS: dict[str, Callable[[int], Split]] = {
    "digits": _digits,
    "fashion": _fashion,
    "fashion-14": _coarse_fashion,
    "mnist1d": _mnist1d,
    "ratings": _ratings,
    "novels": lambda held_out: letters.excerpts(_novels(), held_out),
    "novels-letters": lambda held_out: letters.next_letters(b"\n".join(_novels()), held_out),
    "bible-books": _bible_books,
    "bible-letters": _bible,
    "modules": lambda held_out: letters.excerpts(_longest_modules(), held_out),
    "modules-letters": lambda held_out: letters.next_letters(b"\n".join(data.stdlib_modules().values()), held_out),
}
NAMES = (*FRAMES, *_OTHERS)
"""The data that a task can name."""


def _longest_modules() -> list[bytes]:
    return sorted(data.stdlib_modules().values(), key=len, reverse=True)[:12]
