"""The policies that can be named on the command line, each in the form that a comparison uses."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from surefoot import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Greedy,
    InverseTime,
    Learned,
    Linear,
    OneCycle,
    Plateau,
    Polynomial,
    Step,
    Warmup,
    WarmupStableDecay,
)
from surefoot.policy_file import shipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.policy import Policy

LINEUP: dict[str, Callable[[int], Any]] = {
    "greedy": lambda _: Greedy(),
    "constant": lambda _: Constant(),
    "linear": lambda steps: Linear(steps=steps),
    "cosine": lambda steps: Cosine(steps=steps),
    "cosine-warmup": lambda steps: Warmup(Cosine(steps=max(1, steps - _part(steps, 0.05))), steps=_part(steps, 0.05)),
    "step": lambda steps: Step(milestones=tuple(sorted({_part(steps, 0.5), _part(steps, 0.75)}))),
    "exponential": lambda steps: Exponential(factor=0.01 ** (1.0 / steps)),
    "inverse-time": lambda steps: InverseTime(steps=_part(steps, 0.1)),
    "polynomial": lambda steps: Polynomial(steps=steps, power=2.0),
    "cosine-restarts": lambda steps: CosineRestarts(steps=_part(steps, 1.0 / 3.0)),
    "one-cycle": lambda steps: OneCycle(steps=steps),
    "wsd": lambda steps: WarmupStableDecay(steps=steps),
    "plateau": lambda _: Plateau(),
    **{f"learned-{name}": partial(Learned, name) for name in shipped()},
}
"""What makes the policy for a budget, by name; learned policies from files are entered as `learned(name="mine.json")`."""


def describe(name: str, steps: int = 1000) -> str:
    """The first line of what the policy says of itself, without the formula; of a learned one, what its card says."""
    made = LINEUP[name](steps)
    if isinstance(made, Learned):
        return made.card.description
    line = (type(made).__doc__ or "").splitlines()[0]
    return line.partition(":")[0].rstrip(".")


def enter(entry: str, steps: int) -> Policy[Any]:
    """The policy that an entry of the command line asks for.

    >>> enter("greedy(patience=5, window=20)", steps=100).patience
    5

    Args:
        entry: A name, or a name and settings that differ: `cosine(end=0.1)`.
        steps: The budget, in optimizer steps, that schedules of time are made for.

    Raises:
        ValueError: The name is not known, or the settings are not those of the policy; the message lists what is allowed.
    """
    name, bracket, settings = entry.partition("(")
    if name == "learned":
        learned = _settings(entry, Learned)
        if "name" not in learned:
            raise ValueError(f'{entry!r} names no file; write learned(name="mine.json")')
        return Learned(**{"steps": steps} | learned)
    if name not in LINEUP:
        raise ValueError(f"no policy is called {name!r}; choose from {', '.join(LINEUP)}, learned(name=...)")
    policy = LINEUP[name](steps)
    return replace(policy, **_settings(entry, type(policy))) if bracket or settings else policy  # type: ignore[no-any-return]


def label(policy: Any, steps: int) -> str:
    """The shortest entry that asks for this policy, or else what it says of itself.

    >>> label(Greedy(patience=5), steps=100)
    'greedy(patience=5)'
    """
    for name, make in LINEUP.items():
        usual: Any = make(steps)
        if type(usual) is type(policy) and getattr(usual, "name", None) == getattr(policy, "name", None):
            settings = _differing(policy, usual)
            return f"{name}({settings})" if settings else name
    if isinstance(policy, Learned):
        settings = _differing(policy, replace(policy, steps=None if policy.timed else steps))
        return f"learned(name={policy.name!r}{', ' if settings else ''}{settings})"
    return repr(policy)


def split(entries: str) -> list[str]:
    """The entries of a list with commas, some of which may stand in brackets.

    >>> split("greedy(patience=5, window=20),cosine")
    ['greedy(patience=5, window=20)', 'cosine']
    """
    parts, depth = [""], 0
    for character in entries:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _part(steps: int, fraction: float) -> int:
    return max(1, round(steps * fraction))


def _differing(policy: Any, usual: Any) -> str:
    pairs = ((field.name, getattr(policy, field.name)) for field in fields(policy))
    return ", ".join(f"{key}={value!r}" for key, value in pairs if value != getattr(usual, key))


def _settings(entry: str, policy: type[Any]) -> dict[str, Any]:
    allowed = [field.name for field in fields(policy)]
    advice = f"write settings as name=value, with names from {', '.join(allowed)}"
    try:
        call = ast.parse("f" + entry[entry.index("(") :], mode="eval").body
        keywords = call.keywords if isinstance(call, ast.Call) and not call.args else [ast.keyword(None, call)]
        settings = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{entry!r} cannot be read; {advice}") from error
    if unknown := set(settings) - set(allowed):
        raise ValueError(f"{entry!r} sets {', '.join(sorted(unknown))}; {advice}")
    return settings
