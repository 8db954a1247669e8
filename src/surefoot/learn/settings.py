"""How a policy is learned: all the numbers, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from surefoot import checks


@dataclass(frozen=True)
class Settings:
    """How a policy is learned, whatever on.

    Attributes:
        rounds: How many rounds; in each, every slot begins afresh and goes through the longest episode. 1 or more.
        together: How many of the tasks take part in a round, by turns, and share all the slots: fewer trainings of more runs
            each cost less. 1 or more; all of them if None.
        rollout: Decisions from one update of the policy to the next, 1 or more; a whole round if None.
        rate: The learning rate of policy and value in the first round and in the last, falling evenly in between.
        epochs: How often an update goes through what was collected, 1 or more.
        minibatches: Into how many parts it is cut for that, 1 or more.
        discount: What a reward one decision later is worth, from 0 to 1.
        trace: Lambda of generalised advantage estimation, from 0 to 1.
        clip: How far an update may move the probability of an action, as a fraction of it, above 0.
        entropy: Weight of the entropy in the loss, 0 or more.
        hidden: Units of the hidden layers, of the policy and of the value alike.
        deviation: Logarithm of the standard deviation of the actions at the start.
        checks: How often the policy is measured on validation seeds, evenly over the rounds, the last one included; 1 or more.
        validation: Runs of each task that it is measured on, 1 or more.
        moved: Share of each task's slots that go where the policy is behind, from 0 to 1: see `surefoot.learn.selection`.

    Reference: for the method, Schulman et al., 2017, arXiv:1707.06347; for the advantage, 2015, arXiv:1506.02438.
    """

    rounds: int = 40
    together: int | None = None
    rollout: int | None = None
    rate: tuple[float, float] = (3e-3, 1e-4)
    epochs: int = 8
    minibatches: int = 4
    discount: float = 0.998
    trace: float = 0.98
    clip: float = 0.2
    entropy: float = 0.0
    hidden: tuple[int, ...] = (32, 32)
    deviation: float = -1.3
    checks: int = 4
    validation: int = 8
    moved: float = 0.5

    def __post_init__(self) -> None:
        optional = [name for name in ("together", "rollout") if getattr(self, name) is not None]
        for name in ("rounds", "epochs", "minibatches", "checks", "validation", *optional):
            checks.whole(name, getattr(self, name), low=1)
        for rate in self.rate:
            checks.number("rate", rate, low=0.0)
        for name in ("discount", "trace", "moved"):
            checks.number(name, getattr(self, name), low=0.0, high=1.0)
        for name in ("clip", "entropy"):
            checks.number(name, getattr(self, name), low=0.0)
        for units in self.hidden:
            checks.whole("hidden", units, low=1)

    def rate_of(self, number: int) -> float:
        """The learning rate of a round, counted from 0."""
        first, last = self.rate
        return first + (last - first) * number / max(self.rounds - 1, 1)

    def is_check(self, done: int) -> bool:
        """Whether the policy is measured once so many rounds are done.

        >>> [done for done in range(11) if Settings(rounds=10, checks=3).is_check(done)]
        [4, 7, 10]
        """
        return done > 0 and done * self.checks // self.rounds > (done - 1) * self.checks // self.rounds
