"""Who takes part: the policies that are judged, and their rivals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot import Hypergradient, Learned, lineup, spec
from surefoot.policy_file import PolicyFileError

if TYPE_CHECKING:
    from surefoot.policy import Policy

SCHEDULES = ("constant", "linear", "cosine", "cosine-warmup", "step", "exponential", "inverse-time", "wsd")
"""Schedules of time, by their names in `surefoot.lineup`."""

CLOSED = ("greedy", "hypergradient")
"""Rules that look at what they do."""


class Contestant(NamedTuple):
    """A policy under a kind of limits on its steps.

    Attributes:
        entry: What `policy` understands.
        limits: What the rates count, `"plain"` everywhere but for factorisations: see `surefoot.nmf.Factorisation.rates`.
    """

    entry: str
    limits: str = "plain"

    @property
    def name(self) -> str:
        """For tables."""
        return self.entry if self.limits == "plain" else f"{self.entry}, {self.limits}"


class Candidate(NamedTuple):
    """A policy that is judged.

    Attributes:
        label: What its runs are kept under: of a learned one, its name and the beginning of its file's checksum.
        entry: What `policy` understands.
        training: What its card says of how it was learned; empty if it was not.
    """

    label: str
    entry: str
    training: dict[str, Any]


def policy(entry: str, steps: int) -> Policy[Any]:
    """The policy that an entry stands for, with a budget of so many steps.

    >>> policy("wsd", steps=100).steps, policy('{"is": "Greedy", "patience": 5}', steps=100).patience
    (100, 5)

    Args:
        entry: A name of `surefoot.lineup`, perhaps with settings in brackets; `hypergradient`; a policy as JSON, as
            `surefoot.spec.to_dict` writes it; or the name or the file of a learned policy.
        steps: The budget in optimizer steps.

    Raises:
        ValueError: It stands for none.
    """
    if entry.partition("(")[0] in lineup.LINEUP:
        return lineup.enter(entry, steps)
    if entry == "hypergradient":
        return Hypergradient()
    if entry.startswith("{"):
        try:
            made: Policy[Any] = spec.from_dict(json.loads(entry))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{entry!r} is no policy: {error}") from error
        return made
    try:
        return Learned(entry, steps)
    except PolicyFileError as error:
        known = f"name one of {', '.join(lineup.LINEUP)}, hypergradient, or a learned one"
        raise ValueError(f"{entry!r} is no policy: {error}; {known}") from error


def candidate(entry: str) -> Candidate:
    """Who is judged under this entry.

    Raises:
        ValueError: There is no such policy.
    """
    made: Any = policy(entry, 100)
    if not isinstance(made, Learned):
        return Candidate(entry, entry, {})
    card = made.card
    training: dict[str, Any] = {name: card.training[name] for name in ("transitions", "seconds") if name in card.training}
    return Candidate(f"{card.name}@{card.sha256[:8]}", entry, training | {"window": card.window})


def is_blind(entry: str, steps: int) -> bool:
    """Whether it looks at losses at most, so that gradients need not be measured."""
    made: Any = policy(entry, steps)
    return not (isinstance(made, Hypergradient) or (isinstance(made, Learned) and made.card.features.signals))
