"""What R serialises can be read without R."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.r_objects import from_bytes, from_lazy_data, from_saved, names_of_lazy_data

HEADER = b"X\n" + struct.pack(">iii", 3, 0x40101, 0x30500) + struct.pack(">i", 5) + b"UTF-8"
OLD_HEADER = b"X\n" + struct.pack(">iii", 2, 0x30101, 0x20300)
END = struct.pack(">i", 254)
NAMES = struct.pack(">i", 1 << 10 | 2) + struct.pack(">i", 1)

WHOLE = st.lists(st.integers(-(2**31), 2**31 - 1))
REAL = st.lists(st.floats(allow_nan=False))
TEXT = st.lists(st.none() | st.text())


def text(value):
    encoded = b"" if value is None else value.encode()
    return struct.pack(">ii", 9, -1 if value is None else len(encoded)) + encoded


def vector(kind, values, *, attributes=b""):
    """Numbers (13 and 14) are written one after another; elements of text (16) and of lists (19) are objects themselves."""
    body = struct.pack(f">{len(values)}{'i' if kind == 13 else 'd'}", *values) if kind < 16 else b"".join(values)
    return struct.pack(">ii", kind | bool(attributes) << 9, len(values)) + body + attributes


def named(elements):
    """A list with names: the attribute is a chain of one link, whose tag is the symbol "names"."""
    attributes = NAMES + text("names") + vector(16, [text(name) for name in elements]) + END
    return vector(19, list(elements.values()), attributes=attributes)


@given(WHOLE, REAL, TEXT)
def test_a_table_comes_back_as_it_was_written(whole, real, words):
    columns = {"n": vector(13, whole), "x": vector(14, real), "word": vector(16, [text(word) for word in words])}
    read = from_bytes(HEADER + named(columns)).named()
    assert read["n"].value.tolist() == whole
    assert read["x"].value.tolist() == real
    assert read["word"].value == words


def test_a_name_may_stand_twice_and_is_then_referred_to():
    second = struct.pack(">i", 1 << 10 | 2) + struct.pack(">i", 1 << 8 | 255) + vector(16, [text("b")]) + END
    read = from_bytes(HEADER + vector(19, [named({"a": vector(13, [1])}), vector(19, [vector(13, [2])], attributes=second)]))
    assert [list(element.named()) for element in read.value] == [["a"], ["b"]]


def test_both_versions_of_the_format_are_read():
    assert from_bytes(OLD_HEADER + vector(13, [7])) == from_bytes(HEADER + vector(13, [7])) == (np.array([7]), {})


@given(WHOLE, TEXT, st.data())
def test_an_object_cut_short_is_refused(whole, words, data):
    whole_object = HEADER + named({"n": vector(13, whole), "word": vector(16, [text(word) for word in words])})
    cut = data.draw(st.integers(0, len(whole_object) - 1))
    with pytest.raises(ValueError, match="a serialised R object must"):
        from_bytes(whole_object[:cut])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RDX3\n", "must begin with b'X\\\\n', got b'RD'"),
        (b"X\n" + struct.pack(">iii", 4, 0, 0), "must be of version 2 or 3, got 4"),
        (HEADER + struct.pack(">i", 3), "must be made of numbers, text and lists here, got kind 3"),
        (HEADER + END, "must be a vector or a list here, got None"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(content, message):
    with pytest.raises(ValueError, match=message):
        from_bytes(content)


def test_one_table_of_a_package_is_found_by_its_name():
    tables = {name: zlib.compress(HEADER + vector(13, [number])) for name, number in (("first", 1), ("second", 2))}
    content, places = b"", {}
    for name, table in tables.items():
        places[name] = vector(13, [len(content), 4 + len(table)])
        content += struct.pack(">i", 0) + table
    index = gzip.compress(HEADER + named({"variables": named(places)}))
    assert from_lazy_data(index, content, "second").value.tolist() == [2]
    with pytest.raises(KeyError, match="third"):
        from_lazy_data(index, content, "third")
    with pytest.raises(ValueError, match="must be compressed by zlib"):
        from_lazy_data(index, b"\0" * len(content), "second")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_saved_file_is_read_however_it_is_packed(pack):
    chain = struct.pack(">i", 1 << 10 | 2) + struct.pack(">i", 1) + text("table") + vector(13, [4, 2]) + END
    if pack is bytes:
        with pytest.raises(ValueError, match="must be compressed by"):
            from_saved(b"RDX3\n" + HEADER + chain, "table")
    else:
        assert from_saved(pack(b"RDX3\n" + HEADER + chain), "table").value.tolist() == [4, 2]


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="must begin with b'RDX2'"):
        from_saved(gzip.compress(b"RDA1\n"), "table")


def test_the_objects_of_lazy_data_are_listed():
    index = named({"variables": named({"a": vector(13, [0, 1]), "b": vector(13, [1, 1])})})
    assert names_of_lazy_data(zlib.compress(HEADER + index)) == ["a", "b"]
