"""The data that problems are made of: small, public, and split the same way every time."""

from __future__ import annotations

import gzip
import hashlib
import os
import sysconfig
import tempfile
import warnings
import zlib
from contextlib import suppress
from functools import cache
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOCABULARY = 97
"""Codes of `stdlib_characters`: newline, the 95 printable characters of ASCII, and one for all else."""

_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
_PACKAGED = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_SHA256 = "2cbc59191665e1ba3f2494648f17edac5974f748ab89fb2ae05597d658161f54"
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error)

# Files that are one module each in every Python from 3.11 on. Whole files are held out: a model that has seen the first half
# of a file knows the names in the second.
_READ = (
    "argparse ast bdb calendar codecs configparser contextlib dataclasses difflib dis doctest enum ftplib functools gettext "
    "heapq imaplib inspect ipaddress mailbox optparse os pickle platform plistlib pprint random shutil smtplib socket "
    "subprocess tarfile threading tokenize typing uuid"
)
_HELD_OUT = "csv fractions pdb selectors statistics tempfile traceback weakref"


class DataMissing(RuntimeError):  # noqa: N818 - it names what is wrong, as the house's errors do
    """Data are not on this machine and could not be fetched."""


class Split(NamedTuple):
    """Examples to train on and examples held out, one a row.

    Attributes:
        train_x, held_out_x: Inputs: float32 features, or uint8 codes of characters.
        train_y, held_out_y: What to predict: whole numbers from 0.
    """

    train_x: NDArray[Any]
    train_y: NDArray[Any]
    held_out_x: NDArray[Any]
    held_out_y: NDArray[Any]


@cache
def digits() -> Split:
    """1,797 handwritten digits of 8 x 8 pixels from 0 to 1, as rows of 64; a quarter is held out."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return _held_out_quarter(pixels / 16.0, labels)


@cache
def breast_cancer() -> Split:
    """569 tumours with 30 standardised measurements, malignant (0) or benign (1); a quarter is held out."""
    from sklearn.datasets import load_breast_cancer

    return _standardised(_held_out_quarter(*load_breast_cancer(return_X_y=True)))


@cache
def wine() -> Split:
    """178 wines with 13 standardised measurements, from three growers; a quarter is held out."""
    from sklearn.datasets import load_wine

    return _standardised(_held_out_quarter(*load_wine(return_X_y=True)))


@cache
def fashion_mnist() -> Split:
    """70,000 pictures of clothes of 28 x 28 pixels from 0 to 1, as rows of 784; the official 10,000 are held out.

    Raises:
        DataMissing: Neither the Debian package, nor an earlier download, nor a network is there.

    Reference: Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747.
    """
    pixels, labels = _fashion_mnist()
    images = np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)
    return Split(images[:60_000], labels[:60_000], images[60_000:], labels[60_000:])


def fashion_mnist_available() -> bool:
    """Whether `fashion_mnist` would do without a network; only looks whether files are there."""
    return all(map(Path.exists, _package_files())) or _cache_file().exists()


@cache
def stdlib_characters(context: int = 64) -> Split:
    """Python's own standard library as windows of `context` characters; the next characters are to be predicted.

    Codes below `VOCABULARY`, one a byte; 36 modules (2.0 MB) to train on, 8 others (0.3 MB) held out. The text is that of the
    running Python: losses can be compared within one version of it.

    Raises:
        DataMissing: This Python has no sources.
    """
    return Split(*windows(_source(_READ), context), *windows(_source(_HELD_OUT), context))


def stdlib_modules() -> dict[str, bytes]:
    """The modules that `stdlib_characters` trains on, by name.

    Raises:
        DataMissing: This Python has no sources.
    """
    return {module: _source(module) for module in _READ.split()}


def windows(text: bytes, context: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Windows of `context` codes side by side, one a row, and the same moved on by one character.

    >>> now, following = windows(b"abcdefg", 3)
    >>> (following[:, :-1] == now[:, 1:]).all(), now.shape
    (np.True_, (2, 3))
    """
    code = np.full(256, VOCABULARY - 1, np.uint8)
    code[[ord("\n"), *range(32, 127)]] = np.arange(VOCABULARY - 1)
    codes = code[np.frombuffer(text, np.uint8)]
    end = (len(codes) - 1) // context * context
    return codes[:end].reshape(-1, context), codes[1 : end + 1].reshape(-1, context)


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/surefoot`, or `~/.cache/surefoot`."""
    # An environment variable, below the command line: the one that says where a user's caches go.
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "surefoot"


def keep(file: Path, content: bytes) -> None:
    """Write a file of the cache in one move, so that no other process reads half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        (Path(folder) / file.name).write_bytes(content)
        (Path(folder) / file.name).replace(file)


def _held_out_quarter(x: NDArray[Any], y: NDArray[Any]) -> Split:
    order, quarter = np.random.default_rng(0).permutation(len(x)), len(x) // 4
    train, held_out, features = order[quarter:], order[:quarter], x.astype(np.float32)
    return Split(features[train], y[train], features[held_out], y[held_out])


def _standardised(split: Split) -> Split:
    """Mean 0 and standard deviation 1 in the training rows, and the held-out rows on the same scale."""
    mean, deviation = split.train_x.mean(axis=0), split.train_x.std(axis=0)
    return split._replace(train_x=(split.train_x - mean) / deviation, held_out_x=(split.held_out_x - mean) / deviation)


def _source(modules: str) -> bytes:
    folder = Path(sysconfig.get_path("stdlib"))
    try:
        return b"".join((folder / f"{module}.py").read_bytes() for module in modules.split())
    except OSError as error:
        raise DataMissing(f"this Python must have the sources of its standard library, got {error}") from error


def _fashion_mnist() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first sound copy: the Debian package's, ours, or OpenML's, in order of cost."""
    for read in (_packaged, _cached):
        with suppress(*_UNREADABLE):
            pixels, labels = read()
            if _sound(pixels, labels):
                return pixels, labels
    pixels, labels = _fetched()
    # A full or read-only disk costs a download next time, not this run.
    with suppress(OSError):
        _keep(pixels, labels)
    return pixels, labels


def _sound(pixels: NDArray[Any], labels: NDArray[Any]) -> bool:
    return hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest() == _SHA256


def _package_files() -> list[Path]:
    return [_PACKAGE / f"{name}-ubyte.gz" for name in _PACKAGED]


def _packaged() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The Debian package's: idx files, whose headers take 16 bytes for images and 8 for labels."""
    raw = [gzip.decompress(path.read_bytes()) for path in _package_files()]
    images, labels = raw[0][16:] + raw[2][16:], raw[1][8:] + raw[3][8:]
    return np.frombuffer(images, np.uint8).reshape(-1, 784), np.frombuffer(labels, np.uint8).copy()


def _cache_file() -> Path:
    return cache_folder() / "fashion-mnist.npz"


def _cached() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    # NumPy would leave a damaged file open.
    with _cache_file().open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return arrays["pixels"], arrays["labels"]


def _keep(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    content = BytesIO()
    np.savez_compressed(content, pixels=pixels, labels=labels)
    keep(_cache_file(), content.getvalue())


def _fetched() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """OpenML's, whose rows are the official training images and then the official test images."""
    from sklearn.datasets import fetch_openml

    advice = "install the Debian package dataset-fashion-mnist, or connect to the internet once"
    settings = {"as_frame": False, "return_X_y": True, "parser": "liac-arff"}  # The parser that needs no pandas.
    try:
        # scikit-learn warns before it tries again, and would keep a second, larger copy.
        with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory() as folder:
            pixels, labels = fetch_openml("Fashion-MNIST", version=1, data_home=folder, n_retries=1, **settings)
        pixels, labels = pixels.astype(np.uint8), labels.astype(np.uint8)
    except (*_UNREADABLE, HTTPException) as error:
        raise DataMissing(f"Fashion-MNIST is not on this machine and could not be fetched, got {error!r} ({advice})") from error
    if not _sound(pixels, labels):
        raise DataMissing(f"Fashion-MNIST must have the SHA-256 {_SHA256}, got other data from OpenML ({advice})")
    return pixels, labels
