"""Where the examples of the zoo come from: bundled data, endless made-up data, and text that is installed anyway."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot import data
from surefoot.data import Split

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CONTEXT = 16
"""Characters in a window of `descriptions`."""

_HELD_OUT = 1000
_EXCERPT = 512


@cache
def noisy(load: Callable[[], Split], share: float) -> Split:
    """The same examples, a share of those to train on with a label drawn at random; those held out keep theirs.

    Args:
        load: What returns them.
        share: Between 0 and 1.
    """
    split, random = load(), np.random.default_rng(1)
    is_wrong = random.random(len(split.train_y)) < share
    labels = random.integers(0, split.train_y.max() + 1, len(split.train_y))
    return split._replace(train_y=np.where(is_wrong, labels, split.train_y))


def few(load: Callable[[], Split], rows: int) -> Split:
    """The same examples to train on, and of those held out only some, evenly spread, so that an evaluation stays cheap.

    Args:
        load: What returns them.
        rows: How many at most, 1 or more.
    """
    split = load()
    some = slice(None, None, -(-len(split.held_out_x) // rows))
    return split._replace(held_out_x=split.held_out_x[some], held_out_y=split.held_out_y[some])


@cache
def teacher(number: int, inputs: int, classes: int, rows: int = 4000) -> Split:
    """Points of a normal distribution, labelled by a network with random weights.

    The network has one or two hidden layers of 8 to 32 units. A label is drawn from the probabilities that its scores stand
    for, so that the best held-out loss is above 0. 1,000 rows are held out.

    Args:
        number: Which of endlessly many, 0 or more.
        inputs: Features, 1 or more.
        classes: 2 or more.
        rows: Of those to train on, 1 or more.
    """
    random = np.random.default_rng((number, 11))
    widths = [inputs, *random.integers(8, 33, int(random.integers(1, 3))).tolist(), classes]
    x = random.standard_normal((rows + _HELD_OUT, inputs))
    scores = x
    for before, after in pairwise(widths):
        scores = np.maximum(scores @ random.standard_normal((before, after)) * np.sqrt(2.0 / before), 0.0)
    scores = float(random.uniform(2.0, 6.0)) * (scores - scores.mean(0)) / scores.std()
    # The largest of scores with Gumbel noise is a draw from their softmax.
    return _split(x, (scores + random.gumbel(size=scores.shape)).argmax(1))


@cache
def mixture(number: int, features: int, classes: int, rows: int = 4000) -> Split:
    """Points about random centres, one to four for each class.

    Features have scales of their own, up to three times another's. 1,000 rows are held out.

    Args:
        number: Which of endlessly many, 0 or more.
        features: 1 or more.
        classes: 2 or more.
        rows: Of those to train on, 1 or more.
    """
    random = np.random.default_rng((number, 12))
    each = int(random.integers(1, 5))
    # Classes overlap by about as much whatever the number of features is.
    spread = float(random.uniform(2.0, 4.0)) / features**0.5
    centres = spread * random.standard_normal((classes * each, features))
    which = random.integers(0, classes * each, rows + _HELD_OUT)
    x = centres[which] + random.standard_normal((len(which), features))
    return _split(x * random.uniform(0.5, 1.5, features), which % classes)


@cache
def descriptions() -> Split:
    """What scikit-learn says of its data sets, in English, as windows of `CONTEXT` characters; the next ones are to be guessed.

    The codes are those of `surefoot.data.stdlib_characters`. The last of every five excerpts of 512 characters is held out.
    """
    folder = files("sklearn.datasets.descr")
    pages = sorted((page for page in folder.iterdir() if page.name.endswith(".rst")), key=lambda page: page.name)
    text = b"".join(page.read_bytes() for page in pages)
    excerpts = [text[start : start + _EXCERPT] for start in range(0, len(text), _EXCERPT)]
    train = b"".join(excerpt for place, excerpt in enumerate(excerpts) if place % 5 < 4)  # noqa: PLR2004
    return Split(*data.windows(train, CONTEXT), *data.windows(b"".join(excerpts[4::5]), CONTEXT))


@cache
def coarse_fashion() -> Split:
    """Fashion-MNIST of 14 x 14 pixels, each the mean of four; 6,000 pictures to train on and 1,000 held out.

    Raises:
        DataMissing: It is not on this machine and could not be fetched.
    """
    split = data.fashion_mnist()
    return Split(_pooled(split.train_x[:6000]), split.train_y[:6000], _pooled(split.held_out_x[:1000]), split.held_out_y[:1000])


@cache
def modules() -> Split:
    """Excerpts of Python's standard library of 256 characters, as counts of characters; the module is to be told.

    Of the twelve longest modules that `surefoot.data.stdlib_characters` trains on. Every fourth excerpt is held out.

    Raises:
        DataMissing: This Python has no sources.
    """
    longest = sorted(data.stdlib_modules().items(), key=lambda item: -len(item[1]))[:12]
    excerpts = [(codes, place) for place, (_, text) in enumerate(longest) for codes in data.windows(text, 256)[0]]
    counts = np.array([np.bincount(codes, minlength=data.VOCABULARY) for codes, _ in excerpts])
    labels, is_held_out = np.array([place for _, place in excerpts]), np.arange(len(excerpts)) % 4 == 3  # noqa: PLR2004
    x = np.sqrt(counts).astype(np.float32)  # So that rare and frequent characters vary by about as much.
    return Split(x[~is_held_out], labels[~is_held_out], x[is_held_out], labels[is_held_out])


def _split(x: NDArray[Any], y: NDArray[Any]) -> Split:
    x = x.astype(np.float32)
    return Split(x[:-_HELD_OUT], y[:-_HELD_OUT], x[-_HELD_OUT:], y[-_HELD_OUT:])


def _pooled(rows: NDArray[Any]) -> NDArray[Any]:
    pooled: NDArray[Any] = rows.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)
    return pooled
