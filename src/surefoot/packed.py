"""Plain data and arrays as the bytes of a safetensors file, with a checksum: nothing in it is ever executed."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FORMAT = "1"
"""Goes up when what is in the bytes changes."""


class PackedError(ValueError):
    """Bytes are not what `pack` made: damaged, cut off, or another version's."""


def pack(held: Any) -> bytes:
    """Numbers, words, None, lists, tuples, dicts and arrays, in one another at will, as bytes.

    Named tuples become tuples, arrays and tensors of any framework arrays of NumPy, to the last bit and in the order that they
    have in memory: some sums depend on it.

    >>> unpack(pack({"step": 3, "random": (2**100, None), "weights": np.float32([0.5, 1.0])}))
    {'step': 3, 'random': (1267650600228229401496703205376, None), 'weights': array([0.5, 1. ], dtype=float32)}

    Raises:
        TypeError: Something else is in it, or numbers that NumPy has not.
    """
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    told = json.dumps(_told(held, arrays), separators=(",", ":"))
    return save(arrays, {"format": FORMAT, "held": told, "sha256": _checksum(told, arrays)})


def unpack(packed: bytes) -> Any:
    """What `pack` was given; arrays are copies, which may be written to.

    Raises:
        PackedError: The bytes are not whole, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(packed)
        about = json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])["__metadata__"]
        if about["format"] != FORMAT:
            raise PackedError(f"this version reads format {FORMAT}, got {about['format']}")
        if about["sha256"] != _checksum(about["held"], arrays):
            raise PackedError("the checksum does not match")
        return _held(json.loads(about["held"]), arrays)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise PackedError(f"this is nothing that was packed here: {error}") from error


def _told(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """A value as JSON, its arrays put aside under numbers. What JSON has not is an object with one name, that of its kind."""
    if isinstance(value, np.generic):  # Before floats, as some are both.
        return {"number": _put(np.asarray(value), arrays)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {"dict": [[_told(name, arrays), _told(inner, arrays)] for name, inner in value.items()]}
    if isinstance(value, (list, tuple)):
        inners = [_told(inner, arrays) for inner in value]
        return inners if isinstance(value, list) else {"tuple": inners}
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"only plain data and arrays can be packed, got {type(value).__name__}")
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    return {"array": _put(array.transpose(axes), arrays), "axes": axes}


def _put(array: NDArray[Any], arrays: dict[str, NDArray[Any]]) -> str:
    name = str(len(arrays))
    # Not ascontiguousarray, which makes one number a vector of it.
    arrays[name] = array.copy("C")
    return name


def _held(told: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The value that `_told` told of."""
    if isinstance(told, list):
        return [_held(inner, arrays) for inner in told]
    if not isinstance(told, dict):
        return told
    if "dict" in told:
        return {_held(name, arrays): _held(inner, arrays) for name, inner in told["dict"]}
    if "tuple" in told:
        return tuple(_held(inner, arrays) for inner in told["tuple"])
    if "number" in told:
        return arrays[told["number"]][()]
    # A copy of its own, because a checkpoint's bytes lie anywhere, and may not be written to.
    return arrays[told["array"]].copy().transpose(np.argsort(told["axes"]))


def _checksum(told: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    total = sha256(told.encode())
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        total.update(arrays[name].tobytes())
    return total.hexdigest()
