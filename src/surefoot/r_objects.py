"""Tables out of R packages, without R: enough of R's format for data frames of numbers and text.

Reference: R Internals, section 1.8, "Serialization Formats" (the binary one, versions 2 and 3).
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

# Codes of the kinds of objects, by their names in R's sources.
_SYMBOL, _PAIRS, _CHARACTERS = 1, 2, 9
_LOGICAL, _INTEGER, _REAL, _STRING, _VECTOR = 10, 13, 14, 16, 19
_NULL, _REFERENCE = 254, 255


class RObject(NamedTuple):
    """An object of R's and what is attached to it.

    Attributes:
        value: An array of numbers, a list of text (None where missing) or a list of `RObject`.
        attributes: By name; a data frame has "names", a factor has "levels".
    """

    value: Any
    attributes: dict[str, RObject]

    def named(self) -> dict[str, RObject]:
        """The elements of a named list, such as the columns of a data frame."""
        return dict(zip(self.attributes["names"].value, self.value, strict=True))


def from_lazy_data(index: bytes, content: bytes, name: str) -> RObject:
    """One object of the two files, `Rdata.rdx` and `Rdata.rdb`, in which an installed R package keeps its data.

    Raises:
        ValueError: The files are of another format, or damaged.
        KeyError: They hold no object of that name.
    """
    offset, length = from_bytes(_inflated(index)).named()["variables"].named()[name].value
    return from_bytes(_inflated(content[offset + 4 : offset + length]))  # The first four bytes hold the length.


def names_of_lazy_data(index: bytes) -> list[str]:
    """The names of the objects that `from_lazy_data` can return, given the file `Rdata.rdx`."""
    return list(from_bytes(_inflated(index)).named()["variables"].named())


def from_saved(content: bytes, name: str) -> RObject:
    """One object of a file as R's `save` writes it, `.rda` or `.RData`.

    Raises:
        ValueError: The file is of another format, or damaged.
        KeyError: It holds no object of that name.
    """
    plain = _inflated(content)
    if plain[:5] not in (b"RDX2\n", b"RDX3\n"):
        raise ValueError(f"a file of R's must begin with b'RDX2' or b'RDX3', got {plain[:5]!r}")
    found = _whole(plain[5:])
    if not isinstance(found, dict):
        raise ValueError(f"a file of R's must hold named objects, got {found!r}")  # noqa: TRY004 - bad data
    kept: RObject = found[name]
    return kept


def from_bytes(serialised: bytes) -> RObject:
    """An object as R's `serialize` writes it.

    Raises:
        ValueError: It is no such object, cut short, or holds what no table needs, such as a function.
    """
    found = _whole(serialised)
    if not isinstance(found, RObject):
        raise ValueError(f"a serialised R object must be a vector or a list here, got {found!r}")  # noqa: TRY004 - bad data
    return found


def _whole(serialised: bytes) -> Any:
    reader = _Reader(serialised)
    try:
        reader.header()
        return reader.item()
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a serialised R object must be whole, got {error}") from error


def _inflated(content: bytes) -> bytes:
    """Content without its compression, told by how it begins; R marks two kinds by a letter of its own."""
    try:
        if content.startswith(b"\xfd7zXZ"):
            return lzma.decompress(content)
        if content.startswith(b"BZh"):
            return bz2.decompress(content)
        if content.startswith(b"Z"):
            return lzma.decompress(content[1:], lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}])
        if content.startswith(b"2"):
            return bz2.decompress(content[1:])
        return zlib.decompress(content, wbits=47)  # 32 + 15: with gzip's header, as the index has it, or zlib's.
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise ValueError(f"an R package's data must be compressed by zlib, bzip2 or xz here, got {error}") from error


class _Reader:
    """Walks through the bytes, big end first."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0
        self.symbols: list[str] = []

    def header(self) -> None:
        if self.content[:2] != b"X\n":
            raise ValueError(f"a serialised R object must begin with b'X\\n', got {self.content[:2]!r}")
        self.at = 2
        version, _writer, _oldest = self.numbers(">i4", 3)
        if version not in (2, 3):
            raise ValueError(f"a serialised R object must be of version 2 or 3, got {version}")
        if version == 3:  # noqa: PLR2004 - it also names the encoding of text without a mark, which we take for UTF-8
            self.raw(self.length())

    def raw(self, size: int) -> bytes:
        piece = self.content[self.at : self.at + size]
        if len(piece) != size:
            raise ValueError(f"a serialised R object must be whole, got its end {size - len(piece)} bytes too early")
        self.at += size
        return piece

    def length(self) -> int:
        (number,) = struct.unpack_from(">i", self.content, self.at)
        self.at += 4
        return int(number)

    def numbers(self, kind: str, count: int) -> Any:
        kept = np.dtype(kind)
        return np.frombuffer(self.raw(kept.itemsize * count), kept).astype(kept.newbyteorder("="))

    def item(self) -> Any:
        """The next object: text for a symbol or a string's element, a dictionary for named pairs, else an `RObject`."""
        flags = self.length()
        kind = flags & 255
        if kind == _NULL:
            return None
        if kind == _REFERENCE:
            return self.symbols[(flags >> 8) - 1]
        if kind == _SYMBOL:
            self.symbols.append(self.item())
            return self.symbols[-1]
        if kind == _CHARACTERS:
            size = self.length()
            return None if size < 0 else self.raw(size).decode()
        if kind == _PAIRS:
            return self.pairs(flags)
        value = self.vector(kind)
        return RObject(value, self.item() if flags & 512 else {})

    def pairs(self, flags: int) -> dict[str, Any]:
        """A chain of tag and value; each link says whether attributes (bit 9) and a tag (bit 10) precede its value."""
        found: dict[Any, Any] = {}
        while flags & 255 == _PAIRS:
            if flags & 512:
                self.item()
            tag = self.item() if flags & 1024 else None
            found[tag] = self.item()
            flags = self.length()
        return found

    def vector(self, kind: int) -> Any:
        if kind not in (_LOGICAL, _INTEGER, _REAL, _STRING, _VECTOR):
            raise ValueError(f"a serialised R object must be made of numbers, text and lists here, got kind {kind}")
        count = self.length()
        if kind in (_STRING, _VECTOR):
            return [self.item() for _ in range(count)]
        return self.numbers(">f8" if kind == _REAL else ">i4", count)
