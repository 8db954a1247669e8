"""The comparison itself: every rival in every cell, until nothing is missing."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import groupby
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot import Learned, under_way
from surefoot.appended import JournalError
from surefoot.compare import versions
from surefoot.contest import blocks, optimizers
from surefoot.contest.blocks import Block
from surefoot.contest.cells import FULL, QUICK, Grid, Plan
from surefoot.contest.rivals import pick
from surefoot.contest.rows import FOLDER, CellName, Rows, definitions
from surefoot.contest.tasks import load
from surefoot.crews import PRELOAD
from surefoot.engine import TRAINING, WorkError, perform
from surefoot.nmf import Factorisation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from surefoot.contest.cells import Wanted
    from surefoot.contest.optimizers import ContestOptimizer
    from surefoot.contest.rivals import Rival
    from surefoot.contest.rows import ContestRow, RunKey
    from surefoot.contest.tasks import ContestTask
    from surefoot.engine import Engine, Event, Failed, Limits

_PLACES = {"sgd": (0, 6), "adamw": (-2, 4)}
_AROUND = (-3, 3)
"""Seven half decades that are tried: of the cells' own optimizers those that are usual, of others around their default."""
_PLAIN = 1e-3
"""The default rate of PyTorch's optimizers, which hypergradient descent begins from as well."""
_EDGES = 0.5
"""The default rate of a factorisation, in units of the first stability edge."""
TOGETHER, ALONE = 240, 12
"""Runs in a block at most, with a fleet and without."""
QUICK_TASKS = ("digits-mlp", "digits-cnn", "modules-letters", "modules-told-apart")
QUICK_RIVALS = ("greedy", "greedy-decay", "constant", "cosine", "wsd", "plateau")
"""Of a quick look: tasks that need no data from elsewhere, and some of the rivals."""


class Entry(NamedTuple):
    """A rival in a cell.

    Attributes:
        rival: Who.
        problem: What is trained, with the optimizer that takes the steps.
        stacks: Whether that optimizer has a fleet.
        grid: The rates that are tried.
    """

    rival: Rival
    problem: Any
    stacks: bool
    grid: Grid


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        tasks: The tasks.
        rivals: Who takes part.
        plan: How much is run.
    """

    tasks: tuple[ContestTask, ...]
    rivals: tuple[Rival, ...]
    plan: Plan = FULL

    @property
    def definitions(self) -> dict[str, str]:
        """What rows depend on: the plan, every task and every rival, each in eight hexadecimal digits."""
        plan = {"plan": _digest((self.plan, blocks.EVALUATIONS))}
        tasks = {f"task {task.name}": _digest(task) for task in self.tasks}
        return plan | tasks | {f"rival {rival.name}": _digest(_described(rival)) for rival in self.rivals}

    def cells(self) -> Iterator[tuple[CellName, ContestTask]]:
        """Every task under each of its optimizers."""
        for task in self.tasks:
            for optimizer in task.optimizers:
                yield CellName(task.name, optimizer), task

    def entries(self, cell: CellName, task: ContestTask) -> list[Entry]:
        """Who takes part in a cell."""
        if task.model == "factorisation":
            taken = {"plain": ("sgd", True, Grid(_EDGES, *_AROUND))}
        else:
            taken = {each.method: (each.name, each.in_fleet, _grid(each)) for each in optimizers.of_cell(cell.optimizer)}
        return [
            Entry(rival, self._problem(task, name), stacks, grid)
            for rival in self.rivals
            if rival.method in taken
            for name, stacks, grid in [taken[rival.method]]
        ]

    def _problem(self, task: ContestTask, optimizer: str) -> Any:
        problem: Any = task.problem(optimizer)
        if isinstance(problem, Factorisation):
            problem = replace(problem, rates="plain")
        return replace(problem, steps=min(problem.steps, self.plan.steps or problem.steps))

    def missing(self, there: Callable[[CellName], Mapping[RunKey, ContestRow]]) -> list[Block]:
        """The blocks that can be trained now."""
        return [block for cell, task in self.cells() for block in self._blocks(cell, task, there(cell))]

    def _blocks(self, cell: CellName, task: ContestTask, rows: Mapping[RunKey, ContestRow]) -> Iterator[Block]:
        """Those of a cell: runs are together that share the optimizer, their length, and whether gradients are looked at."""
        wanted = [(entry, run) for entry in self.entries(cell, task) for run in self.plan.wanted(entry.rival, entry.grid, rows)]
        wanted.sort(key=_kind)
        for _, some in groupby(wanted, key=_kind):
            runs = list(some)
            first = runs[0][0]
            size = TOGETHER if first.stacks else ALONE
            for start in range(0, len(runs), size):
                part = tuple((entry.rival, run) for entry, run in runs[start : start + size])
                yield Block(cell, first.problem, first.stacks, part)


def carry_out(
    folder: Path,
    study: Study,
    *,
    engine: Engine,
    limits: Limits | None = None,
    seconds: float | None = None,
    tell: Callable[[Block, int, int], None] = lambda *_: None,
    on_event: Callable[[Event], None] = lambda _event: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> bool:
    """Train what is missing, and return whether anything still is.

    Some blocks can be planned only when others are finished: a block that fails keeps none from being trained but those.

    Args:
        folder: Where the rows are, or will be; made if it is not there.
        study: What is compared.
        engine: Where, within its context.
        limits: What a block may take; the usual if None.
        seconds: After how many seconds to stop with the next block that is finished, and drop those under way; None for never.
        tell: Called with every block that is finished, the blocks left of those that could be trained, and the rows there are.
        on_event: Called with all that happens to blocks.
        on_interrupt: Called at the first Ctrl-C.

    Raises:
        JournalError: The folder holds another study, or another process is writing to it.
        WorkError: Some blocks could not be trained; it is raised when all others are.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    began = monotonic()
    errors: list[WorkError] = []
    failures: list[Failed] = []

    def is_over() -> bool:
        return seconds is not None and monotonic() - began > seconds

    with Rows(folder, study.definitions) as rows, under_way.beside(folder / FOLDER) as kept:
        place = blocks.Place(kept, f"{study.definitions}, {versions()}")
        train = partial(blocks.run, place=place)
        while waiting := _without(failures, study.missing(rows.of)):
            if is_over():
                return True
            work = perform(
                engine, train, waiting, limits=limits, preload=(*TRAINING, *PRELOAD), tell=on_event, on_interrupt=on_interrupt
            )
            try:
                with closing(work) as finished:
                    for (block, made), left in zip(finished, reversed(range(len(waiting))), strict=False):
                        rows.add(block.cell, made)
                        place.clear(block)
                        tell(block, left, len(rows))
                        if left and is_over():
                            return True
            except WorkError as error:
                if not error.failures:  # It was not for a block, and will be so again.
                    raise
                errors.append(error)
                failures += error.failures
    if errors:
        raise WorkError("; ".join(map(str, errors)), failures)
    return False


def _without(failures: Sequence[Failed], waiting: Sequence[Block]) -> list[Block]:
    """Blocks without the runs of those that failed."""
    failed = {(block.cell, run) for block in (failure.item for failure in failures) for _, run in block.runs}
    left = [
        block._replace(runs=tuple((rival, run) for rival, run in block.runs if (block.cell, run) not in failed))
        for block in waiting
    ]
    return [block for block in left if block.runs]


def _kind(pair: tuple[Entry, Wanted]) -> tuple[Any, ...]:
    entry, run = pair
    return (not entry.stacks, entry.rival.method, run.is_long, run.is_watched, entry.rival.finds, not entry.rival.is_blind)


def _grid(optimizer: ContestOptimizer) -> Grid:
    places = _PLACES[optimizer.cell] if optimizer.rate == _PLAIN and not optimizer.package else _AROUND
    return Grid(optimizer.rate, *places)


def _described(rival: Rival) -> Any:
    made: Any = rival.policy(100, 1.0)
    configured = rival.name, rival.entry, rival.decay, rival.method, rival.finds, made
    return (*configured, made.card.sha256) if isinstance(made, Learned) else configured


def _digest(value: Any) -> str:
    return sha256(repr(value).encode()).hexdigest()[:8]


def study_of(*, quick: bool = False, role: str = "test", tasks: Sequence[str] = (), rivals: Sequence[str] = ()) -> Study:
    """A study of the tasks of a role, or of those that are named.

    Raises:
        ValueError: There is no task, or no rival, of a name.
    """
    every = load()
    known = [task.name for task in every]
    names = tasks or (QUICK_TASKS if quick else [task.name for task in every if task.role == role])
    for name in names:
        if name not in known:
            raise ValueError(f"there is no task {name!r}; choose from {', '.join(known)}")
    chosen = tuple(task for task in every if task.name in names)
    return Study(chosen, pick(rivals or (QUICK_RIVALS if quick else ())), QUICK if quick else FULL)


def ready(study: Study) -> tuple[Study, list[str]]:
    """The study of those tasks whose data are there, and a sentence for each of the others.

    Raises:
        ValueError: There is none whose data are there.
    """
    lacking = {task.name: sentence for task in study.tasks if (sentence := task.missing())}
    if len(lacking) == len(study.tasks):
        raise ValueError(f"no task has its data; run `surefoot contest fetch` first ({next(iter(lacking.values()))})")
    left = tuple(task for task in study.tasks if task.name not in lacking)
    return replace(study, tasks=left), list(lacking.values())


def of_folder(folder: Path) -> tuple[Study, list[str]]:
    """The study that a folder holds rows of, and a sentence for each of the test's tasks that has none there.

    Raises:
        JournalError: It holds none, or one of another version.
    """
    known = definitions(folder)
    every = {task.name: task for task in load()}
    names = [name.removeprefix("task ") for name in known if name.startswith("task ")]
    if unknown := [name for name in names if name not in every]:
        raise JournalError(f"{folder} holds runs of a task {unknown[0]!r} that is not there any more; name another folder")
    tasks = tuple(task for task in every.values() if task.name in names)
    rivals = pick([name.removeprefix("rival ") for name in known if name.startswith("rival ")])
    plan = next((plan for plan in (FULL, QUICK) if known.get("plan") == _digest((plan, blocks.EVALUATIONS))), FULL)
    role = "test" if any(task.role == "test" for task in tasks) else "development"
    absent = [
        f"{task.name}: there are no runs of it" for task in every.values() if task.role == role and task.name not in names
    ]
    return Study(tasks, rivals, plan), absent if plan is FULL else []
