"""Fetches the data of the tasks, once, into the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surefoot import checks, data, ratings
from surefoot.contest.packages import PACKAGES
from surefoot.contest.sources import missing
from surefoot.data import DataMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_OTHERS: dict[str, Callable[[], object]] = {
    "dataset-fashion-mnist": data.fashion_mnist,
    "r-cran-dslabs": ratings.movielens,
}
NAMES = (*PACKAGES, *_OTHERS)
"""The Debian packages whose data `fetch` knows."""


def fetch(names: Iterable[str] | None = None, on_progress: Callable[[str], None] | None = None) -> list[str]:
    """Download the data that are not on this machine, check them, and keep them in `surefoot.data.cache_folder()`.

    Nothing is installed, and no rights are needed. What is there already is left alone.

    Args:
        names: Some of `NAMES`; all if None.
        on_progress: Called with a sentence as each of them is done.

    Returns:
        One sentence for each that could not be had; an empty list if all is there.

    Raises:
        ValueError: A name is not known.
    """
    chosen = NAMES if names is None else tuple(names)
    for name in chosen:
        checks.one_of("names", name, NAMES)
    failures = []
    for name in chosen:
        try:
            sentence = f"{name}: {_fetch_one(name)}"
        except (DataMissing, OSError) as error:  # A full disk stops one of them, not the others.
            sentence = f"{name}: {error}"
            failures.append(sentence)
        if on_progress is not None:
            on_progress(sentence)
    return failures


def _fetch_one(name: str) -> str:
    if missing(name) is None:
        return "there already"
    if name in PACKAGES:
        PACKAGES[name].fetch()
    else:
        _OTHERS[name]()
    return "fetched"
