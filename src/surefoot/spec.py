"""Policies as plain data, for stores, configuration files and checkpoints of programs."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import surefoot

if TYPE_CHECKING:
    from surefoot.policy import Policy


def to_dict(policy: Policy[Any]) -> dict[str, Any]:
    """The policy's class and settings, ready for JSON.

    >>> from surefoot import Cosine, Warmup
    >>> to_dict(Warmup(Cosine(steps=90), steps=10))
    {'policy': {'steps': 90, 'end': 0.0, 'is': 'Cosine'}, 'steps': 10, 'start': 0.01, 'is': 'Warmup'}

    Raises:
        TypeError: It is not a dataclass, so its settings are not known.
    """
    if not is_dataclass(policy) or isinstance(policy, type):
        raise TypeError(f"only a policy that is a dataclass can be written as data, got {policy!r}")
    return {field.name: _plain(getattr(policy, field.name)) for field in fields(policy)} | {"is": type(policy).__name__}


def from_dict(data: dict[str, Any], *, known: tuple[type, ...] = ()) -> Any:
    """The policy that `to_dict` wrote.

    Only surefoot's own policies and the `known` classes are made, so that data from anyone can be read.

    >>> from_dict({"is": "Cosine", "steps": 90})
    Cosine(steps=90, end=0.0)

    Args:
        data: What `to_dict` returned, perhaps after a journey through JSON.
        known: Further policy classes that may be made.

    Raises:
        ValueError: The class is not known.
        TypeError: A setting is not one of the class.
    """
    if not isinstance(data, dict) or "is" not in data:
        raise ValueError(f'a policy is written as {{"is": "Cosine", "steps": 1000}}, got {data!r}')
    classes = {kind.__name__: kind for kind in (*_own(), *known)}
    kind = classes.get(data["is"])
    if kind is None:
        raise ValueError(f"no policy is called {data['is']!r}; known are {', '.join(sorted(classes))}")
    settings = {name: _rich(value, known) for name, value in data.items() if name != "is"}
    return kind(**settings)


def _own() -> list[type]:
    public = (getattr(surefoot, name) for name in surefoot.__all__)
    return [value for value in public if isinstance(value, type) and is_dataclass(value) and hasattr(value, "update")]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)  # type: ignore[arg-type]
    return list(value) if isinstance(value, tuple) else value


def _rich(value: Any, known: tuple[type, ...]) -> Any:
    if isinstance(value, dict):
        return from_dict(value, known=known)
    return tuple(value) if isinstance(value, list) else value
