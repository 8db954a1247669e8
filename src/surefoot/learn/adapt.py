"""A policy that was learned elsewhere, adapted to one problem by a few runs of it, and only if that can be shown to help."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from math import exp, isfinite, nan, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from surefoot import __version__, checks, policy_file
from surefoot.learn.explored import Explored
from surefoot.learn.fitting import adapted
from surefoot.learn.logs import WORST, replays
from surefoot.learned import Learned
from surefoot.loop import drive
from surefoot.measured import Measured, measuring, on_host
from surefoot.runs import Run, Store, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surefoot.perceptron import Perceptron
    from surefoot.policy_file import Card
    from surefoot.problems import Problem

_FRESH = 1_000_000
"""Seeds from here on are kept for judging."""


@dataclass(frozen=True)
class Adaptation:
    """How a policy is adapted.

    Attributes:
        runs: Runs that explore, an even number, 4 or more: two for each seed, with opposite shifts.
        fresh: Seeds that old and new policy are compared on, each by one run of both, 3 or more: as many to decide whether the
            new one is taken, and as many others to say what it gained.
        opening: How far the first decision is shifted: the standard deviation, in units of an action.
        drift: The same of all others.
        temperature: How much more the better run of a pair counts: see `surefoot.learn.awr.Regression`.
        anchor: How much doing what the policy did counts against doing what the better runs did, above 0.
        seed: What the shifts are drawn from, and the first of the seeds.
    """

    runs: int = 20
    fresh: int = 8
    opening: float = 0.5
    drift: float = 0.12
    temperature: float = 0.5
    anchor: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        checks.whole("runs", self.runs, low=4)
        if self.runs % 2:
            raise ValueError(f"runs must be an even number, since they come in pairs, got {self.runs}")
        checks.whole("fresh", self.fresh, low=3)
        checks.whole("seed", self.seed, low=0)
        for name in ("opening", "drift", "temperature", "anchor"):
            checks.number(name, getattr(self, name), low=0.0)
        if not (self.temperature > 0.0 and self.anchor > 0.0):
            raise ValueError(f"temperature and anchor must be above 0, got {self.temperature} and {self.anchor}")


class Gain(NamedTuple):
    """Old and new policy on the same seeds.

    Attributes:
        before, after: Final held-out loss of every seed, NaN where the run diverged.
        ratio: Geometric mean of after over before; a diverged run counts as e times the other.
        low, high: Its 95% interval, from Student's distribution of the logarithms.
    """

    before: list[float]
    after: list[float]
    ratio: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether the new policy is better, beyond what chance explains."""
        return self.high < 1.0


class Adapted(NamedTuple):
    """What came of it.

    Attributes:
        network: The policy to use from now on: the new one, or the old one where nothing was gained.
        card: Its card, without a checksum.
        check: Old and new on the seeds by which it was decided whether the new one is worth a closer look.
        gain: The same on others, which no decision has seen; None if it was not.
        is_new: Whether the new one was taken: it was shown to be better on the first seeds, and was better on the others, too.
        runs: Runs that it took, in all.
    """

    network: Perceptron
    card: Card
    check: Gain
    gain: Gain | None
    is_new: bool
    runs: int


def adapt(
    name: str,
    problem: Problem[Any],
    store: Store,
    settings: Adaptation | None = None,
    *,
    base: float | None = None,
    steps: int | None = None,
    work: Path | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Adapted:
    """Let a policy explore around what it does on one problem, learn from that, and keep what is shown to be better.

    Every run is kept in the store as soon as its fleet is through: called again with the same arguments, it goes on from there.

    Args:
        name: Of a policy that comes with surefoot, or the path of a policy's file.
        problem: What to adapt to.
        store: Where the runs are kept.
        settings: How; None for the usual.
        base: The base rate; the problem's own if None.
        steps: The budget; the problem's own if None.
        work: Where the new policy is written to be tried, a path without an ending; beside the store if None.
        told: Called with a sentence before each part.

    Raises:
        ValueError: The problem does not measure what the policy sees.
    """
    settings = settings or Adaptation()
    network, card = policy_file.read(name)
    bench = _Bench(problem, store, problem.base if base is None else base, steps or problem.steps, card)
    told(f"{settings.runs} runs that try something else")
    explored = [
        (Explored(name, bench.steps, settings.seed + pair, sign, settings.opening, settings.drift), settings.seed + pair)
        for pair in range(settings.runs // 2)
        for sign in (1.0, -1.0)
    ]
    made = bench.trained(explored)
    new = adapted(network, replays(made, card.control, is_own_base=True), settings)
    # Policies are read once in a process, by name: another network must have another.
    path = f"{work or Path(store.path).with_suffix('')}-{_digest(new)}"
    about = replace(card, name=f"{card.name}-on-{problem.name}", judged=(), surefoot=__version__)
    policy_file.write(path, new, about)
    told(f"{2 * settings.fresh} runs to see whether that is better")
    first = _FRESH + settings.seed
    check = bench.compared(name, path, range(first, first + settings.fresh))
    gain = None
    if check.is_shown:
        told(f"{2 * settings.fresh} runs to see what it gained")
        gain = bench.compared(name, path, range(first + settings.fresh, first + 2 * settings.fresh))
    is_kept = gain is not None and gain.ratio < 1.0
    runs = settings.runs + 2 * settings.fresh * (1 if gain is None else 2)
    about = replace(about, training=_training(bench, settings, check, gain))
    return Adapted(new if is_kept else network, about if is_kept else card, check, gain, is_kept, runs)


@dataclass(frozen=True)
class _Bench:
    """Where runs of one problem are made, and kept."""

    problem: Problem[Any]
    store: Store
    base: float
    steps: int
    card: Card

    def trained(self, crew: Sequence[tuple[Any, int]]) -> list[Run]:
        """The runs of these policies from these seeds, those that are not in the store trained together as one fleet."""
        trials = [self._trial(policy, seed) for policy, seed in crew]
        missing = [place for place, trial in enumerate(trials) if trial not in self.store]
        if missing:
            for run in self._train([crew[place][0] for place in missing], [trials[place] for place in missing]):
                self.store.add(run)
        kept = [self.store.get(trial) for trial in trials]
        return [run for run in kept if run is not None]

    def compared(self, before: str, after: str, seeds: Sequence[int]) -> Gain:
        """Two policies on the same seeds."""
        old, new = Learned(before, self.steps), Learned(after, self.steps)
        runs = self.trained([(policy, seed) for seed in seeds for policy in (old, new)])
        final = [float(run.held_out[-1]) if run.status == "finished" else nan for run in runs]
        return gain_of(final[::2], final[1::2])

    def _trial(self, policy: Any, seed: int) -> Trial:
        about = {**asdict(policy), "is": type(policy).__name__}
        made_with = f"surefoot {__version__}, {_checksum(policy.name)[:12]}"
        problem = self.problem.name, self.problem.revision, self.problem.optimizer
        return Trial(*problem, about, self.base, self.steps, 1, seed, made_with)

    def _train(self, policies: Sequence[Any], trials: Sequence[Trial]) -> list[Run]:
        measured = Measured(measuring(self.problem, self.card.tier), self.card.features.signals)
        held_out: list[Any] = []
        crews = [(policy, 1) for policy in policies]
        bases, seeds = np.full(len(trials), self.base), [trial.seed for trial in trials]
        rows = list(
            drive(
                measured,
                crews,
                bases,
                seeds,
                self.steps,
                evaluate=lambda _, losses: held_out.append(on_host(losses)),
                evaluate_at=frozenset([self.steps]),
            )
        )
        table = {name: np.stack([on_host(getattr(row, name)) for row in rows]) for name in ("loss", "rate")}
        table |= {name: np.stack(values) for name, values in measured.kept.items()}
        return [self._run(trial, place, table, held_out) for place, trial in enumerate(trials)]

    def _run(self, trial: Trial, place: int, table: dict[str, Any], held_out: Any) -> Run:
        """The run at a place of a fleet, up to its end."""
        own = table["loss"][:, place]
        is_bad = ~np.isfinite(own) | (own > WORST * own[0])
        end = int(is_bad.argmax()) + 1 if is_bad.any() else len(own)
        final = np.array([held_out[0][place]] if held_out and not is_bad.any() else [], np.float32)
        is_whole = end == trial.steps and not is_bad.any() and np.isfinite(final).all()
        step = np.full(len(final), trial.steps, np.float32)
        with np.errstate(over="ignore"):  # What is beyond float32 has diverged.
            kept = {name: values[:end, place].astype(np.float32) for name, values in table.items()}
        status: Literal["finished", "diverged"] = "finished" if is_whole else "diverged"
        return Run(trial, kept.pop("loss"), kept.pop("rate"), step, final, status, 0.0, kept)


def gain_of(before: Sequence[float], after: Sequence[float]) -> Gain:
    """What became of losses, pair by pair.

    >>> found = gain_of([1.0, 1.0, 1.0, 1.0], [0.5, 0.6, 0.5, 0.6])
    >>> round(found.ratio, 3), found.is_shown
    (0.548, True)

    Args:
        before: Losses above 0, NaN for a run that diverged, two or more.
        after: As many.
    """
    pairs = [_behind(old, new) for old, new in zip(before, after, strict=True)]
    mean, count = float(np.mean(pairs)), len(pairs)
    half = _student(count - 1) * float(np.std(pairs, ddof=1)) / sqrt(count)
    return Gain(list(before), list(after), exp(mean), exp(mean - half), exp(mean + half))


def _behind(before: float, after: float) -> float:
    if isfinite(before) and isfinite(after):
        return float(np.log(after / before))
    return 0.0 if isfinite(before) == isfinite(after) else (1.0 if isfinite(before) else -1.0)


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's distribution, to 1% from three degrees of freedom on.

    >>> round(_student(9), 2), round(_student(19), 2)
    (2.26, 2.09)

    Reference: Abramowitz and Stegun, 1964, 26.7.5.
    """
    z = 1.959964
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
    )
    return z + sum(term / float(freedom) ** (place + 1) for place, term in enumerate(terms))


def _training(bench: _Bench, settings: Adaptation, check: Gain, gain: Gain | None) -> dict[str, Any]:
    """What the new card says of where the policy is from."""
    card, problem = bench.card, bench.problem
    about = {"adapted": card.name, "sha256": card.sha256, "on": problem.name, "optimizer": problem.optimizer}
    shown = {"check": json.loads(json.dumps(check._asdict())), "gain": gain and json.loads(json.dumps(gain._asdict()))}
    return {**about, "base": bench.base, "steps": bench.steps, "settings": asdict(settings), **shown, "before": card.training}


def _digest(network: Perceptron) -> str:
    return sha256(b"".join(part.tobytes() for layer in network.layers for part in layer)).hexdigest()[:12]


def _checksum(name: str) -> str:
    return policy_file.read(name)[1].sha256
