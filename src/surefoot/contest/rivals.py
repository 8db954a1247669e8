"""Who takes part: rules, schedules and optimizers that set their own rates, each in one frozen configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surefoot import Constant, Every, Learned, Linear, Plateau, Then, Warmup, checks, lineup
from surefoot.contest.peers import TransformersGreedy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surefoot.policy import Policy

KINDS = ("candidate", "schedule", "rule", "optimizer")
"""What is to be shown to be as good; schedules of time; rules that look at the loss; optimizers that set their own rates."""

FOUND = 0.0
"""The rate under which a rival is entered that finds its rate by itself."""


@dataclass(frozen=True)
class Rival:
    """A policy on an optimizer, the same for every task.

    Attributes:
        name: For tables, lower-case words with hyphens.
        kind: One of `KINDS`.
        says: What it is, in a few words.
        entry: The policy: one of `OTHERS`, or what `surefoot.lineup.enter` reads.
        decay: Over which last part of the budget the rate goes along a line to 0, from wherever the policy left it.
        method: What takes the steps: `"plain"` for the cell's own optimizer, or another method of
            `surefoot.contest.optimizers`, in the form that it has for the cell.
        finds: Whether its rate comes out of a range test of `surefoot.contest.range_test`, so that nothing is tuned.
    """

    name: str
    kind: str
    says: str
    entry: str
    decay: float = 0.0
    method: str = "plain"
    finds: bool = False

    def __post_init__(self) -> None:
        checks.one_of("kind", self.kind, KINDS)

    def policy(self, steps: int, rate: float) -> Policy[Any]:
        """Its policy for a budget of so many steps, from this base rate."""
        made = OTHERS.get(self.entry)
        policy = lineup.enter(self.entry, steps) if made is None else made(steps, rate)
        if not self.decay:
            return policy
        held = max(1, round((1.0 - self.decay) * steps))
        return Then(policy, Linear(steps=max(1, steps - held)), after=held, carry=True)

    @property
    def is_general(self) -> bool:
        """Whether one policy serves all base rates."""
        return not self.entry.startswith("transformers")

    @property
    def is_blind(self) -> bool:
        """Whether it looks at losses at most, so that gradients need not be measured."""
        made: Any = self.policy(100, 1.0)
        return not (isinstance(made, Learned) and made.card.features.signals)


OTHERS: dict[str, Callable[[int, float], Policy[Any]]] = {
    "plateau-smoothed": lambda steps, _: Every(Plateau(patience=2), max(1, steps // 20)),
    "warmup": lambda steps, _: Warmup(Constant(), steps=max(1, round(0.05 * steps))),
    "transformers-greedy": lambda _, rate: TransformersGreedy(rate),
    "transformers-greedy-bounded": lambda _, rate: TransformersGreedy(rate, bounded=True),
}
"""Policies that the command line has no name for, given a budget in steps and a base rate."""

RIVALS = (
    Rival("greedy", "candidate", "GreedyLR as it comes", "greedy"),
    Rival("greedy-decay", "candidate", "GreedyLR, and over the last three fifths a line to 0", "greedy", decay=0.6),
    Rival("networks-loss", "candidate", "the learned policy that looks at losses", "learned-networks-loss"),
    Rival("networks-gradient", "candidate", "the learned policy that looks at gradients, too", "learned-networks-gradient"),
    Rival("constant", "schedule", "the base rate throughout", "constant"),
    Rival("linear", "schedule", "a straight line to 0", "linear"),
    Rival("cosine", "schedule", "half a wave of the cosine to 0", "cosine"),
    Rival("cosine-warmup", "schedule", "cosine after a warmup of 5%", "cosine-warmup"),
    Rival("step", "schedule", "a tenth at half of the budget, and again at three quarters", "step"),
    Rival("wsd", "schedule", "warmup, constant, and a decay over the last fifth", "wsd"),
    Rival("exponential", "schedule", "geometric, to a hundredth", "exponential"),
    Rival("inverse-time", "schedule", "one over 1 + t, in tenths of the budget", "inverse-time"),
    Rival("polynomial", "schedule", "a parabola to 0", "polynomial"),
    Rival("cosine-restarts", "schedule", "cosine, three times", "cosine-restarts"),
    Rival("one-cycle", "schedule", "up, and down again", "one-cycle"),
    Rival("range-test", "rule", "a range test, and cosine from the rate that it finds", "cosine", finds=True),
    Rival("plateau", "rule", "ReduceLROnPlateau as it comes, on every training loss", "plateau"),
    Rival(
        "plateau-smoothed",
        "rule",
        "ReduceLROnPlateau on means of a twentieth of the budget, with patience for 2",
        "plateau-smoothed",
    ),
    Rival("transformers-greedy", "rule", "transformers' GreedyLR as it comes", "transformers-greedy"),
    Rival(
        "transformers-greedy-bounded",
        "rule",
        "transformers' GreedyLR smoothed over 50 losses, between a tenth of its base rate and ten times that",
        "transformers-greedy-bounded",
    ),
    Rival("schedule-free", "optimizer", "Schedule-Free, judged at its average", "constant", method="schedule-free"),
    Rival("schedule-free-warmup", "optimizer", "Schedule-Free after a warmup of 5%", "warmup", method="schedule-free"),
    Rival("prodigy", "optimizer", "Prodigy, under AdamW's tasks alone", "constant", method="prodigy"),
    Rival("prodigy-cosine", "optimizer", "Prodigy under half a wave of the cosine", "cosine", method="prodigy"),
    Rival("momo", "optimizer", "MoMo", "constant", method="momo"),
    Rival(
        "line-search", "optimizer", "stochastic Armijo line search, under SGD's tasks alone", "constant", method="backtracking"
    ),
    *(
        Rival(
            f"hypergradient-{shared}-{rule}",
            "optimizer",
            f"hypergradient descent, {rule}, {said}",
            "constant",
            method=f"hypergradient-{shared}-{rule}",
        )
        for shared, said in (("global", "one rate"), ("group", "a rate per tensor"), ("parameter", "a rate per parameter"))
        for rule in ("additive", "multiplicative")
    ),
)
"""Everybody. Candidates and their settings were chosen on the tasks for development."""


def pick(names: Sequence[str], rivals: Sequence[Rival] = RIVALS) -> tuple[Rival, ...]:
    """The rivals of these names, in the order of the list; all if none are named.

    >>> [rival.name for rival in pick(["wsd", "greedy"])]
    ['greedy', 'wsd']

    Raises:
        ValueError: There is none of a name; the message lists those there are.
    """
    known = [rival.name for rival in rivals]
    for name in names:
        checks.one_of("rival", name, tuple(known))
    return tuple(rival for rival in rivals if not names or rival.name in names)
