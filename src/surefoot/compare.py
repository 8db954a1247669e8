"""Problems x policies x seeds: which schedule does best, and by how much."""

from __future__ import annotations

import platform
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from surefoot import catalogue, checks, lineup, spec, stats, under_way
from surefoot.crews import PRELOAD, crews, keeper_of, problem_of, run_crew, signals, weights
from surefoot.engine import TRAINING, Limits, perform
from surefoot.recipes import RECIPES, pick
from surefoot.runs import Run, Store, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from surefoot.engine import Engine, Event
    from surefoot.policy import Policy

EVALUATIONS = 20


@dataclass(frozen=True)
class Plan:
    """What shall be compared: one cell for every problem with every optimizer.

    Attributes:
        cells: By problem and optimizer, the trials of every policy by label, ordered by seed.
    """

    cells: Mapping[tuple[str, str], Mapping[str, Sequence[Trial]]]

    @property
    def trials(self) -> list[Trial]:
        """Every trial once, the policies of one seed next to each other."""
        rows = (row for cell in self.cells.values() for row in zip(*cell.values(), strict=True))
        return list({trial.key: trial for row in rows for trial in row}.values())


def plan(
    problems: Sequence[str],
    optimizers: Sequence[str],
    policies: Sequence[str],
    *,
    seeds: int,
    rate: float | None = None,
    steps: int | None = None,
    ranks: int = 1,
) -> Plan:
    """Plan a comparison: every policy of a cell gets the same seeds, base rate and budget.

    Args:
        problems: Names from `surefoot.catalogue.PROBLEMS`.
        optimizers: Names of optimizers that each of the problems offers.
        policies: Entries for `surefoot.lineup.enter`; they are the labels, too.
        seeds: How many seeds, 1 or more: 0, 1, 2 and so on.
        rate: Base rate, above 0; each problem's own for the optimizer if None.
        steps: Budget in optimizer steps, 1 or more; each problem's own if None.
        ranks: How many processes train each run together, 1 or more: see `surefoot.networks.Network`.

    Raises:
        TypeError: A number is not one.
        ValueError: A name is not known, a number is outside its range, a policy sees what a problem does not measure, or a
            problem cannot be trained by several ranks; the message says what is allowed.
    """
    for name, values in (("problem", problems), ("optimizer", optimizers), ("policy", policies)):
        if not values:
            raise ValueError(f"name at least one {name}")
        if len(set(values)) < len(values):
            raise ValueError(f"each {name} can be named once, got {', '.join(values)}")
    checks.whole("seeds", seeds, low=1)
    checks.whole("ranks", ranks, low=1)
    if steps is not None:
        checks.whole("steps", steps, low=1)
    if rate is not None:
        checks.number("rate", rate)
        if rate <= 0.0:
            raise ValueError(f"rate must be above 0, got {rate}")
    cells, made_with = {}, versions()
    for problem in problems:
        for optimizer in optimizers:
            recipe = pick(catalogue.PROBLEMS, problem, optimizer)
            if ranks > 1:
                problem_of(problem, optimizer, ranks=ranks)  # It may refuse.
            base, budget = rate or recipe.bases[optimizer], steps or recipe.steps
            entered = {label: lineup.enter(label, budget) for label in policies}
            _check_signals(problem, entered)
            cells[problem, optimizer] = {
                label: [Trial(*about, seed, made_with, weights(policy), ranks) for seed in range(seeds)]
                for label, policy in entered.items()
                for about in [(problem, recipe.revision, optimizer, spec.to_dict(policy), base, budget, EVALUATIONS)]
            }
    return Plan(cells)


def _check_signals(problem: str, entered: Mapping[str, Policy[Any]]) -> None:
    measured = catalogue.PROBLEMS[problem].signals
    for label, policy in entered.items():
        if missing := sorted(signals(policy) - set(measured)):
            raise ValueError(
                f"{label} sees {' and '.join(missing)}, which {problem} does not measure; it measures the loss, "
                f"{' and '.join(measured)} (leave the policy or the problem out)"
            )


def versions() -> str:
    """What a run depends on besides its trial: runs of other versions are not comparable with these.

    The Python version counts because its standard library is the text that `stdlib-gpt` learns.
    """
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in ("surefoot", "torch", "numpy"))]
    )


def execute(
    plan: Plan,
    store: Store,
    *,
    engine: Engine,
    limits: Limits | None = None,
    tell: Callable[[Event], None] = lambda _event: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Trial, Run]]:
    """Train the trials of a plan that are not in the store yet, keep each run as it is finished, and yield it.

    Who is trained together depends on the plan alone, and those who are get into the store together: a plan that was stopped
    ends with the figures of one that was not, to the last bit. A trial of several ranks keeps as many processors busy.

    Every half minute, trials keep how far they are in a folder beside the store, `STORE.under-way`. If their worker dies, or
    this process does, they go on from there; a worker that cannot write to that folder begins again.

    For the engine, Ctrl-C, killed workers and failures, see `surefoot.engine.perform`.
    """
    left = (tuple(trial for trial in crew if trial not in store) for crew in crews(plan.trials))
    missing = (crew for crew in left if crew)
    limits = limits or Limits()
    limits = replace(limits, cpus=max([limits.cpus, *(trial.ranks for trial in plan.trials)]))
    with nullcontext() if store.path == ":memory:" else under_way.beside(store.path) as folder:
        train = partial(run_crew, folder=folder)
        needed = (*TRAINING, *PRELOAD) if any(trial.problem in RECIPES for trial in plan.trials) else PRELOAD
        work = perform(engine, train, missing, limits=limits, preload=needed, tell=tell, on_interrupt=on_interrupt)
        with closing(work) as finished:
            for together, runs in finished:
                store.add(*runs)
                if keeper := keeper_of(folder, together):
                    keeper.remove()
                yield from zip(together, runs, strict=True)


def judge(plan: Plan, store: Store) -> list[stats.Cell]:
    """Compare the policies of each cell by the runs in the store, all of which must be there.

    Raises:
        KeyError: A run is missing.
    """
    return [
        stats.cell(*names, {label: [_kept(store, trial) for trial in trials] for label, trials in cell.items()})
        for names, cell in plan.cells.items()
    ]


def collect(store: Store) -> list[stats.Cell]:
    """Every comparison that the runs in a store allow: per cell, the seeds that all of its policies were trained from.

    Policies that were learned into one file, one after another, are told apart by the beginnings of their checksums.
    """
    cells: dict[tuple[Any, ...], dict[tuple[str, str], dict[int, Run]]] = {}
    for run in store:
        trial = run.trial
        about = (trial.base, trial.steps, trial.evaluations, trial.revision, trial.version, trial.ranks)
        cell = (trial.problem, trial.optimizer, *about)
        label = lineup.label(spec.from_dict(trial.policy), trial.steps)
        cells.setdefault(cell, {}).setdefault((label, trial.weights), {})[trial.seed] = run
    judged = []
    for (problem, optimizer, *_), policies in cells.items():
        seeds = sorted(set.intersection(*(set(runs) for runs in policies.values())))
        if seeds:
            labels = [label for label, _ in policies]
            paired = {
                label if labels.count(label) == 1 else f"{label} @{made_of[:6] or 'unknown'}": [runs[seed] for seed in seeds]
                for (label, made_of), runs in policies.items()
            }
            judged.append(stats.cell(problem, optimizer, paired))
    return judged


def _kept(store: Store, trial: Trial) -> Run:
    run = store.get(trial)
    if run is None:
        raise KeyError(f"the run of {trial.to_json()} is not in {store.path}")
    return run
