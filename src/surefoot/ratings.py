"""Ratings of movies: a table most of whose entries are missing."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
from contextlib import suppress
from functools import cache
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.request import urlopen

import numpy as np

from surefoot import checks
from surefoot.data import DataMissing, cache_folder, keep
from surefoot.r_objects import from_lazy_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROOT = Path("/")
_FILES = ("usr/lib/R/site-library/dslabs/data/Rdata.rdx", "usr/lib/R/site-library/dslabs/data/Rdata.rdb")
_PACKAGE = "r-cran-dslabs"
_ADDRESS = f"https://deb.debian.org/debian/pool/main/r/{_PACKAGE}/{_PACKAGE}_0.7.4-1_all.deb"
_SHA256 = "847e1e085919c993d36e8ab00ac875962ee108612f643095bcddf774636624ce"
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, lzma.LZMAError, tarfile.TarError)


class Ratings(NamedTuple):
    """Who gave which movie how many stars.

    Attributes:
        table: Users by movies, float32: from 0.5 to 5 stars, in halves, and NaN where a user did not rate a movie.
        titles: The movies' titles with their years, one a column.
    """

    table: NDArray[np.float32]
    titles: tuple[str, ...]

    def often_rated(self, times: int) -> Ratings:
        """The movies that were rated `times` times or more, and all users.

        >>> table = np.array([[3.5, 4.0], [np.nan, 0.5]], np.float32)
        >>> Ratings(table, ("Alien (1979)", "Big (1988)")).often_rated(2).titles
        ('Big (1988)',)
        """
        often = np.isfinite(self.table).sum(axis=0) >= times
        return Ratings(self.table[:, often], tuple(title for title, kept in zip(self.titles, often, strict=True) if kept))

    def split(self, seed: int, *, share: float = 0.1) -> tuple[Ratings, Ratings]:
        """All ratings but a random share of them, and that share, as two tables of the same shape.

        Args:
            seed: Of NumPy's `default_rng`; which ratings are held out.
            share: Of the ratings, to hold out; strictly between 0 and 1.

        >>> table = np.array([[3.5, 4.0], [np.nan, 0.5]], np.float32)
        >>> train, held_out = Ratings(table, ("Alien (1979)", "Big (1988)")).split(seed=0, share=0.4)
        >>> int(np.isfinite(train.table).sum()), int(np.isfinite(held_out.table).sum())
        (2, 1)
        """
        checks.fraction("share", share)
        there = np.flatnonzero(np.isfinite(self.table))
        chosen = np.random.default_rng(seed).permutation(there)[: round(share * len(there))]
        held_out = np.zeros(self.table.shape, np.bool_)
        held_out.flat[chosen] = True
        nothing = np.float32(np.nan)
        return (
            self._replace(table=np.where(held_out, nothing, self.table)),
            self._replace(table=np.where(held_out, self.table, nothing)),
        )


@cache
def movielens() -> Ratings:
    """MovieLens, the small set of October 2016: 100,004 ratings of 9,066 movies by 671 users.

    They come with the R package dslabs, which is read without R. GroupLens asks for the citation below, and for permission
    before any commercial use: https://files.grouplens.org/datasets/movielens/ml-latest-small-README.html.

    Raises:
        DataMissing: Neither the Debian package, nor an earlier download, nor a network is there.

    Reference: Harper and Konstan, 2015, The MovieLens datasets: history and context, ACM TiiS 5(4), 19.
    """
    with suppress(*_UNREADABLE):
        return _installed()
    for file in _downloads():
        with suppress(*_UNREADABLE):
            return _unpacked(file.read_bytes())
    return _fetched()


def movielens_available() -> bool:
    """Whether `movielens` would do without a network; only looks whether files are there."""
    return all(path.exists() for path in _installed_files()) or bool(_downloads())


def _installed() -> Ratings:
    return _sound(*(path.read_bytes() for path in _installed_files()))


def _installed_files() -> list[Path]:
    return [_ROOT / name for name in _FILES]


def _downloads() -> list[Path]:
    """Packages in the cache: ours, or what `apt-get download` puts there."""
    return sorted(cache_folder().glob(f"{_PACKAGE}_*.deb"))


def _fetched() -> Ratings:
    """The Debian package's, from Debian's own mirrors."""
    advice = (
        f"connect to the internet once, install the Debian package {_PACKAGE}, or run `apt-get download {_PACKAGE}` "
        f"in the folder {cache_folder()}"
    )
    try:
        with urlopen(_ADDRESS, timeout=30) as answer:
            package = answer.read()
        ratings = _unpacked(package)
    except (*_UNREADABLE, HTTPException) as error:
        raise DataMissing(f"MovieLens is not on this machine and could not be fetched, got {error!r} ({advice})") from error
    # A full or read-only disk costs a download next time, not this run.
    with suppress(OSError):
        keep(cache_folder() / Path(_ADDRESS).name, package)
    return ratings


def _unpacked(package: bytes) -> Ratings:
    """Ratings out of a Debian package: an archive of ar's, with an archive of tar's in it."""
    with tarfile.open(fileobj=BytesIO(member(package, b"data.tar"))) as archive:
        files = [archive.extractfile(f"./{name}") for name in _FILES]
        return _sound(*(file.read() for file in files if file))


def member(archive: bytes, name: bytes) -> bytes:
    """The first file of an ar archive whose name begins so; each has 60 bytes before it, and the size in ten of them."""
    at = 8
    while header := archive[at : at + 60]:
        size = int(header[48:58])
        if header.startswith(name):
            return archive[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise KeyError(f"a Debian package must hold {name.decode()}, got one without")


def _sound(index: bytes, content: bytes) -> Ratings:
    """The ratings, if they are the ones that everybody else has.

    Raises:
        ValueError: They are others.
    """
    columns = from_lazy_data(index, content, "movielens").named()
    users, movies, stars, years = (columns[name].value for name in ("userId", "movieId", "rating", "year"))
    titles = columns["title"].value
    numbers = b"".join(column.astype(column.dtype.newbyteorder("<")).tobytes() for column in (users, movies, stars, years))
    digest = hashlib.sha256(numbers + repr(titles).encode()).hexdigest()
    if digest != _SHA256:
        raise ValueError(f"MovieLens must have the SHA-256 {_SHA256}, got {digest}")
    _, row = np.unique(users, return_inverse=True)
    _, first, column = np.unique(movies, return_index=True, return_inverse=True)
    table = np.full((row.max() + 1, len(first)), np.nan, np.float32)
    table[row, column] = stars
    return Ratings(table, tuple(f"{titles[i]} ({years[i]})" if titles[i] else f"movie {movies[i]}" for i in first))
