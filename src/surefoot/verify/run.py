"""Random problems x rules: what is left to check, the checks in processes, and what was found."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot import checks
from surefoot.appended import JournalError
from surefoot.engine import perform
from surefoot.nmf.verification.fleets import Problems, draw, split
from surefoot.nmf.verification.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from surefoot.engine import Engine, Event, Limits
    from surefoot.nmf.verification.rule import Rule
    from surefoot.verify.journal import Journal, Line

TOGETHER = 6
"""Rules that a worker checks on a fleet before it reports."""
_DIGITS = 3
_KEYS = ("rule", "version", "with", "seeds")


class Piece(NamedTuple):
    """What a worker is given.

    Attributes:
        rules: Names of rules.
        seeds: Problems of one fleet that all of them are checked on.
    """

    rules: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """What a rule's checks came to.

    Attributes:
        rule: The rule.
        problems: How many problems it was checked on.
        steps: How many steps, or runs, were checked.
        failures: In how many of them it failed.
        failing: In how many problems it failed at least once.
        collapsed: How many of the failures are collapses onto 0.
        rounding: How many rises of the loss were put down to rounding.
        worst: The largest of what the rule measures: change of the loss, standard errors, or height over the start.
        columns: Everything measured, by name; each of shape (problems,).
    """

    rule: Rule
    problems: int
    steps: int
    failures: int
    failing: int
    collapsed: int
    rounding: int
    worst: float
    columns: Mapping[str, Any]

    @property
    def is_met(self) -> bool:
        """Whether what was found is what is expected."""
        return self.problems > 0 and self.rule.is_met(self.failing)


def plan(problems: int, lines: Iterable[Line] = ()) -> list[Piece]:
    """The pieces of work that are not in a journal yet, fleet by fleet.

    Args:
        problems: How many problems, 1 or more: those of the seeds 0, 1, 2 and so on.
        lines: What a journal holds.

    Raises:
        TypeError: The number is not one.
        ValueError: It is below 1.
    """
    checks.whole("problems", problems, low=1)
    there = {name: {seed for line in mine for seed in line["seeds"]} for name, mine in _by_rule(lines).items()}
    pieces = []
    for seeds in split(range(problems)):
        missing: dict[tuple[int, ...], list[str]] = {}
        for name, rule in RULES.items():
            left = tuple(seed for seed in seeds if rule.concerns(seed) and seed not in there.get(name, ()))
            if left:
                missing.setdefault(left, []).append(name)
        for left, names in missing.items():
            pieces += [Piece(tuple(names[at : at + TOGETHER]), left) for at in range(0, len(names), TOGETHER)]
    return pieces


def check(piece: Piece) -> list[Line]:
    """Check rules on problems, and return one line for each rule."""
    fleet = _drawn(piece.seeds)
    lines = []
    with np.errstate(all="ignore"):  # Rules that fail do so by way of overflow and NaN, which are counted.
        for name in piece.rules:
            found = RULES[name].check(fleet)
            columns = {"steps": found.steps, "failures": found.failures, **found.measured}
            head = {"rule": name, "version": RULES[name].version, "with": made_with(), "seeds": list(piece.seeds)}
            lines.append({**head, **{key: [_plain(value) for value in values.tolist()] for key, values in columns.items()}})
    return lines


def execute(
    pieces: Sequence[Piece],
    journal: Journal,
    *,
    engine: Engine,
    limits: Limits | None = None,
    tell: Callable[[Event], None] = lambda _event: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> Iterator[Piece]:
    """Do the work, keep every piece as it is finished, and yield it.

    For the engine, Ctrl-C, killed workers and failures, see `surefoot.engine.perform`.
    """
    work = perform(engine, check, pieces, limits=limits, preload=[__name__], tell=tell, on_interrupt=on_interrupt)
    with closing(work) as finished:
        for piece, lines in finished:
            journal.add(lines)
            yield piece


def judge(lines: Iterable[Line], problems: int | None = None, *, strict: bool = True) -> list[Verdict]:
    """What the lines of a journal say of every rule.

    Args:
        lines: What a journal holds.
        problems: How many problems to look at: those of the lowest seeds; all that are there if None.
        strict: Whether to leave out what other versions of surefoot and NumPy found.

    Raises:
        JournalError: A line does not hold what a line should.
    """
    found = _by_rule(lines, strict=strict)
    return [_verdict(rule, found.get(name, []), inf if problems is None else problems) for name, rule in RULES.items()]


@cache
def made_with() -> str:
    """What findings depend on besides their rule: those of other versions are not taken for these."""
    return ", ".join(f"{name} {version(name)}" for name in ("surefoot", "numpy"))


@lru_cache(maxsize=2)
def _drawn(seeds: tuple[int, ...]) -> Problems:
    return draw(seeds)


def _by_rule(lines: Iterable[Line], *, strict: bool = True) -> dict[str, list[Line]]:
    """The lines of the rules that are checked today, in today's version."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if not all(key in line for key in _KEYS):
            raise JournalError(f"a line lacks one of {', '.join(_KEYS)}: {str(line)[:80]}; name another file")
        rule = RULES.get(line["rule"])
        if rule is not None and line["version"] == rule.version and (not strict or line["with"] == made_with()):
            found.setdefault(rule.name, []).append(line)
    return found


def _verdict(rule: Rule, lines: Sequence[Line], problems: float) -> Verdict:
    names = [key for key in lines[0] if key not in _KEYS] if lines else []
    rows: dict[int, tuple[Any, ...]] = {}
    for line in lines:
        rows.update(zip(line["seeds"], zip(*(line[name] for name in names), strict=True), strict=True))
    kept = [rows[seed] for seed in sorted(rows) if seed < problems]
    values = list(zip(*kept, strict=True)) or [()] * len(names)
    columns = {
        name: np.array([np.inf if value is None else value for value in column])
        for name, column in zip(names, values, strict=True)
    }
    sums = {name: int(columns[name].sum()) if name in columns else 0 for name in ("steps", "failures", "collapsed", "rounding")}
    failing = int(np.count_nonzero(columns["failures"])) if kept else 0
    worst = float(columns["worst"].max()) if kept else -inf
    return Verdict(rule, len(kept), failing=failing, worst=worst, columns=columns, **sums)


def _plain(value: float) -> float | None:
    """JSON has no infinity: what is not finite is null, and is read as infinite."""
    if isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if isfinite(value) else None
