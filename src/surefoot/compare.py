"""Problems x policies x seeds: which schedule does best, and by how much."""

from __future__ import annotations

import json
import platform
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from math import isfinite
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from surefoot import catalogue, checks, lineup, spec, stats, under_way
from surefoot.engine import TRAINING, Limits, on_ranks, perform
from surefoot.fleet import fleet
from surefoot.keeping import SECONDS
from surefoot.learned import Learned
from surefoot.loop import Row, drive, train
from surefoot.policy import parts
from surefoot.runs import Run, Store, Trial, evaluation_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from surefoot.engine import Engine, Event
    from surefoot.keeping import Keeper
    from surefoot.policy import Policy
    from surefoot.problems import Problem

EVALUATIONS = 20
PRELOAD = (*TRAINING, "sklearn.datasets")
"""What takes long to import, and is needed by trials."""
TOGETHER = {"digits-mlp": 16, "breast-cancer-mlp": 16, "wine-mlp": 16, "digits-cnn": 8}
"""How many runs of a problem are trained as one fleet, measured on one core of a CPU against one run after another.

Perceptrons gain a factor of 3 to 7, the small convolutions 1.4. The larger convolutions and the transformer keep a core busy
with a single run, and gain nothing. More runs at once would gain more, and lose more when they are killed.
"""


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
            made = _problem(problem, optimizer, ranks=ranks)
            base, budget = rate or made.base, steps or made.steps
            entered = {label: lineup.enter(label, budget) for label in policies}
            _check_signals(problem, entered)
            cells[problem, optimizer] = {
                label: [Trial(*about, seed, made_with, weights(policy), ranks) for seed in range(seeds)]
                for label, policy in entered.items()
                for about in [(problem, made.revision, optimizer, spec.to_dict(policy), base, budget, EVALUATIONS)]
            }
    return Plan(cells)


def signals(policy: Policy[Any]) -> set[str]:
    """What has to be measured of every step, besides its loss, for a policy and all those that it is made of."""
    every = list(parts(policy))
    asked = {name for part in every for name in getattr(part, "signals", ())}
    return asked | ({"progress"} if any(isinstance(part, Learned) and part.timed for part in every) else set())


def weights(policy: Policy[Any]) -> str:
    """The checksums of what was learned in a policy, with commas between: a file that is learned anew makes other trials."""
    return ",".join(part.card.sha256 for part in parts(policy) if isinstance(part, Learned))


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


def run_trial(trial: Trial, folder: Path | None = None) -> Run:
    """Train what a trial names, from the beginning to the end.

    Args:
        trial: The trial.
        folder: Where it keeps how far it is, and looks whether it was begun before; nowhere if None. What it keeps stays there.

    Raises:
        WorkError: Ranks set different rates, or something went wrong on one of them.
        WorkerDiedError: One of them died.
    """
    if trial.ranks == 1:
        return _trained(trial, folder)[0]
    # The networks of the catalogue live on CPUs, whatever else there is.
    run: Run = on_ranks(_on_a_rank, trial, folder, count=trial.ranks, backend="gloo", same=itemgetter(1), preload=PRELOAD)[0]
    return run


def _on_a_rank(trial: Trial, folder: Path | None) -> tuple[Run, str]:
    """The same on every rank: all go on from the same checkpoint, which the first one writes."""
    from torch import distributed

    return _trained(trial, folder, seconds=SECONDS if distributed.get_rank() == 0 else under_way.NEVER)


def _trained(trial: Trial, folder: Path | None, seconds: float = SECONDS) -> tuple[Run, str]:
    """A run, and the checksum of its losses and rates before they are rounded."""
    policy, evaluations, began = _policy(trial), [], perf_counter()
    keeper = _keeper(folder, [trial], seconds)
    rows = list(
        train(
            _problem(trial.problem, trial.optimizer, gradients=bool(signals(policy)), ranks=trial.ranks),
            policy,
            base=trial.base,
            steps=trial.steps,
            seed=trial.seed,
            evaluate=lambda step, loss: evaluations.append((step, loss)),
            evaluate_at=frozenset(evaluation_steps(trial.steps, trial.evaluations)),
            keeper=keeper,
        )
    )
    checksum = sha256(np.array(rows, np.float64).tobytes()).hexdigest()
    return _run(trial, rows, evaluations, _seconds(began, keeper)), checksum


def crews(trials: Sequence[Trial]) -> list[tuple[Trial, ...]]:
    """Trials in groups, each of which is trained as one fleet; most are alone where a fleet gains nothing."""
    cells: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        cell = (trial.problem, trial.optimizer, trial.steps, trial.evaluations, trial.ranks)
        cells.setdefault(cell, []).append(trial)
    return [
        tuple(cell[first : first + size])
        for cell in cells.values()
        for size in [TOGETHER.get(cell[0].problem, 1) if cell[0].ranks == 1 else 1]
        for first in range(0, len(cell), size)
    ]


def run_crew(trials: Sequence[Trial], folder: Path | None = None) -> list[Run]:
    """Train trials of one cell as one fleet.

    The figures are those of `run_trial` but for rounding: a fleet sums in another order. On the machine tried, that order does
    not depend on who else is in the fleet as long as they are an even number, so an odd number is filled up with a second copy
    of the first. Each run's time is an equal share.

    Args:
        trials: One or more of the same problem, optimizer, budget, number of evaluations and number of ranks.
        folder: Where they keep how far they are, as for `run_trial`.
    """
    if trials[0].problem not in TOGETHER or trials[0].ranks > 1:
        return [run_trial(trial, folder) for trial in trials]
    by_policy: dict[str, list[Trial]] = {}
    for trial in (*trials, *trials[: len(trials) % 2]):
        by_policy.setdefault(json.dumps([trial.policy, trial.weights], sort_keys=True), []).append(trial)
    ordered, began = [trial for crew in by_policy.values() for trial in crew], perf_counter()
    first, evaluations, keeper = ordered[0], [], _keeper(folder, trials)
    policies = [(_policy(crew[0]), len(crew)) for crew in by_policy.values()]
    rows = list(
        drive(
            fleet(_problem(first.problem, first.optimizer, gradients=any(signals(policy) for policy, _ in policies))),
            policies,
            np.array([trial.base for trial in ordered]),
            [trial.seed for trial in ordered],
            first.steps,
            evaluate=lambda step, losses: evaluations.append((step, losses)),
            evaluate_at=frozenset(evaluation_steps(first.steps, first.evaluations)),
            keeper=keeper,
        )
    )
    seconds = _seconds(began, keeper) / len(trials)
    runs = {}
    for place, trial in enumerate(ordered):
        own = [Row(row.step, row.loss[place], row.rate[place]) for row in rows]
        end = next((row.step for row in own if not isfinite(row.loss)), len(own))
        held_out = [(step, losses[place]) for step, losses in evaluations if step <= end]
        runs[trial.key] = _run(trial, own[: end + 1], held_out, seconds)
    return [runs[trial.key] for trial in trials]


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
        work = perform(engine, train, missing, limits=limits, preload=PRELOAD, tell=tell, on_interrupt=on_interrupt)
        with closing(work) as finished:
            for together, runs in finished:
                store.add(*runs)
                if keeper := _keeper(folder, together):
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


def _keeper(folder: Path | None, trials: Sequence[Trial], seconds: float = SECONDS) -> Keeper | None:
    return under_way.keeper(folder, ",".join(trial.key for trial in trials), seconds=seconds)


def _seconds(began: float, keeper: Keeper | None) -> float:
    """What a training took, with what it took before it was cut."""
    return perf_counter() - began + (0.0 if keeper is None else keeper.before)


def _kept(store: Store, trial: Trial) -> Run:
    run = store.get(trial)
    if run is None:
        raise KeyError(f"the run of {trial.to_json()} is not in {store.path}")
    return run


def _run(trial: Trial, rows: Sequence[Row], evaluations: Sequence[tuple[int, float]], seconds: float) -> Run:
    with np.errstate(over="ignore"):  # A loss beyond float32 is kept as infinite.
        steps = np.array(rows, dtype=np.float32).reshape(-1, 3)
        held_out = np.array(evaluations, dtype=np.float32).reshape(-1, 2)
    is_whole = len(steps) == trial.steps and np.isfinite(steps).all() and np.isfinite(held_out).all()
    status: Literal["finished", "diverged"] = "finished" if is_whole else "diverged"
    return Run(trial, steps[:, 1], steps[:, 2], held_out[:, 0], held_out[:, 1], status, seconds)


def _policy(trial: Trial) -> Policy[Any]:
    policy: Policy[Any] = spec.from_dict(trial.policy)
    if weights(policy) != trial.weights:
        raise ValueError(
            f"the learned policy of {trial.policy} is no longer what the comparison was planned with; plan it anew"
        )
    return policy


@cache
def _problem(name: str, optimizer: str, *, gradients: bool = False, ranks: int = 1) -> Problem[Any]:
    # Settings that some problems do not have are named only where they are not the usual ones.
    settings = {**({"gradients": True} if gradients else {}), **({} if ranks == 1 else {"ranks": ranks})}
    return catalogue.problem(name, optimizer, **settings)
