"""Books as examples: the characters before one, and the character to be told."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.data import Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

LETTERS = 28
"""Codes of `codes`: blank, the 26 letters, and one for all else."""


def codes(text: bytes) -> NDArray[np.uint8]:
    """Small letters as 1 to 26, blanks and line ends as 0, all else as 27.

    >>> codes(b"A cat!").tolist()
    [1, 0, 3, 1, 20, 27]
    """
    table = np.full(256, LETTERS - 1, np.uint8)
    table[[ord(" "), ord("\n"), ord("\r"), ord("\t")]] = 0
    for first in b"aA":
        table[first : first + 26] = np.arange(1, 27)
    return table[np.frombuffer(text, np.uint8)]


def next_letters(text: bytes, held_out: int, *, context: int = 8, rows: int = 30_000) -> Split:
    """Places of a text, drawn by a fixed seed: the `context` codes before each as 0 and 1 in 28 columns each, and its own code.

    The last fifth of the text is held out from, the rest trained on.

    Args:
        text: At least some thousand characters.
        held_out: Places to hold out.
        context: Characters before a place.
        rows: Places to train on.
    """
    read, random = codes(text), np.random.default_rng(0)
    border = len(read) * 4 // 5
    train = random.integers(context, border, rows)
    other = random.integers(border + context, len(read), held_out)
    return Split(*_places(read, train, context), *_places(read, other, context))


def excerpts(texts: list[bytes], held_out: int, *, length: int = 300) -> Split:
    """Excerpts of texts as counts of pairs of letters; which text one is from is to be told.

    Args:
        texts: Two or more.
        held_out: Excerpts to hold out.
        length: Of an excerpt, in characters.
    """
    counts, labels = [], []
    for place, text in enumerate(texts):
        read = codes(text).astype(np.int64)
        pairs = read[:-1] * LETTERS + read[1:]
        for row in pairs[: len(pairs) // length * length].reshape(-1, length):
            counts.append(np.bincount(row, minlength=LETTERS**2))
            labels.append(place)
    x, y = np.sqrt(np.array(counts, np.float32)), np.array(labels)
    often = x.mean(axis=0) > 0.05  # noqa: PLR2004 - a pair that most excerpts lack tells little and costs as much
    x = x[:, often]
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    mean = x[held_out:].mean(axis=0)
    return Split(x[held_out:] - mean, y[held_out:], x[:held_out] - mean, y[:held_out])


def bible(content: bytes) -> bytes:
    """The text out of `bible.data`: windows of 64 KiB, each packed as Unix's `compress` does.

    Raises:
        ValueError: The file is of another format.
    """
    if content[:4] != b"EC02":
        raise ValueError(f"bible.data must begin with b'EC02', got {content[:4]!r}")
    (count,) = struct.unpack_from(">i", content, 0x58)
    starts = struct.unpack_from(f">{count + 1}i", content, 0x5C)
    return b"".join(_uncompressed(content[a:b]) for a, b in pairwise(starts))


def _uncompressed(packed: bytes) -> bytes:
    """Lempel, Ziv and Welch's codes of 9 to 16 bits, low bits first, in groups of eight."""
    clear, most = 256, 16
    packed = packed.removeprefix(b"\x1f\x9d\x90")
    table: list[bytes] = [bytes([i]) for i in range(256)] + [b""]
    out: list[bytes] = []
    width, at, group, before = 9, 0, 0, b""
    while at + width <= len(packed) * 8:
        word = int.from_bytes(packed[at >> 3 : (at >> 3) + 4], "little") >> (at & 7) & ((1 << width) - 1)
        at += width
        if word == clear:
            at = group + -(-(at - group) // (8 * width)) * 8 * width
            del table[257:]
            width, group, before = 9, at, b""
            continue
        if word > len(table) or (word == len(table) and not before):
            raise ValueError(f"a packed window must hold codes up to {len(table)}, got {word}")
        entry = table[word] if word < len(table) else before + before[:1]
        out.append(entry)
        if before and len(table) < 1 << most:
            table.append(before + entry[:1])
            # The writer is one entry ahead: it widens its codes once its own table is full.
            if len(table) == 1 << width and width < most:
                at = group + -(-(at - group) // (8 * width)) * 8 * width
                width, group = width + 1, at
        before = entry
    return b"".join(out)


def _places(read: NDArray[np.uint8], places: NDArray[np.int64], context: int) -> tuple[NDArray[Any], NDArray[Any]]:
    window = read[places[:, None] + np.arange(-context, 0)]
    return (window[..., None] == np.arange(LETTERS)).reshape(len(places), -1).astype(np.float32), read[places].astype(np.int64)
