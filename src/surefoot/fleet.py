"""Many trainings at once, side by side: each with its own seed, its own rate and its own order of batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import numpy as np

from surefoot import checks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from surefoot.problems import Problem, Resumable

R = TypeVar("R")


class Fleet(Protocol[R]):
    """A problem of which many trainings advance together: what `surefoot.problems.Problem` is to one, this is to B of them.

    Rates and everything measured are vectors with one entry per run, in float64: NumPy arrays, or tensors on the device where
    the fleet lives. The runs know nothing of each other: whatever becomes of one changes no bit of another.

    A run whose loss is not finite is frozen: its loss and its held-out loss are NaN from the next step on, whatever its rate,
    until it is restarted. That is the mark by which it is known.
    """

    @property
    def name(self) -> str:
        """The problem's name."""
        ...

    @property
    def optimizer(self) -> str:
        """Name of the optimizer that takes the steps."""
        ...

    @property
    def base(self) -> float:
        """The base rate that is used where nobody names one."""
        ...

    @property
    def steps(self) -> int:
        """The budget, in optimizer steps, where nobody names one."""
        ...

    @property
    def revision(self) -> int:
        """The revision of the problem's definition."""
        ...

    def init(self, seeds: Sequence[int]) -> R:
        """One training per seed that has not begun; a seed may come more than once, as in a grid of rates.

        The run of a seed begins as the problem's own of that seed does, and is shown the same batches in the same order.

        Raises:
            ValueError: There are no seeds.
        """
        ...

    def step(self, runs: R, rates: Any, awake: Any = None) -> tuple[R, Mapping[str, Any]]:
        """One optimizer step of every run, each at its own rate.

        Args:
            runs: What `init` or the last `step` returned; it may be changed.
            rates: One rate per run, finite and 0 or more.
            awake: Which runs make the step, as a NumPy vector of truth values; None for all. The others stay as they are, bit
                by bit, with the same batch next that they had next before; what is measured of them means nothing.

        Returns:
            The runs after it (it may be the same object, changed), and what was measured, one entry per run: at least `loss`,
            the training loss of the run's batch before the step.

        Raises:
            ValueError: Rates are not one per run, negative or not finite.
        """
        ...

    def held_out(self, runs: R) -> Any:
        """The loss of every run on data that are never trained on; it leaves the runs as they are."""
        ...

    def restart(self, runs: R, places: Sequence[int], seeds: Sequence[int]) -> R:
        """The runs, those at these places begun afresh from these seeds; all others as they are, bit by bit.

        Args:
            runs: What `init` or the last `step` returned; it may be changed.
            places: Which runs, from 0, each at most once.
            seeds: One seed per place.

        Raises:
            ValueError: There is not one seed per place.
        """
        ...


def fleet(problem: Problem[Any] | Fleet[Any]) -> Fleet[Any]:
    """The fleet of a problem: its own, `problem.fleet()`, where it has one, and else one that takes its runs one by one.

    A fleet is its own fleet.

    >>> from surefoot.catalogue import problem
    >>> wines = fleet(problem("wine-mlp"))
    >>> runs, signals = wines.step(wines.init(seeds=[0, 1, 2]), np.array([0.01, 0.03, 0.1]))
    >>> signals["loss"].shape
    (3,)
    """
    if hasattr(problem, "restart"):
        return cast("Fleet[Any]", problem)
    own = getattr(problem, "fleet", None)
    return OneByOne(problem) if own is None else cast("Fleet[Any]", own())


def is_resumable(problem: Problem[Any] | Fleet[Any]) -> bool:
    """Whether runs can be saved and taken up again: see `surefoot.problems.Resumable`."""
    return hasattr(problem.problem if isinstance(problem, OneByOne) else problem, "resume")


class OfProblem:
    """What every fleet has from the problem that it trains."""

    if TYPE_CHECKING:

        @property
        def problem(self) -> Problem[Any]:
            """What is trained: a field of some fleets, and known to others by another name."""
            ...

    @property
    def name(self) -> str:
        """The problem's name."""
        return self.problem.name

    @property
    def optimizer(self) -> str:
        """Name of the optimizer that takes the steps."""
        return self.problem.optimizer

    @property
    def base(self) -> float:
        """The problem's base rate."""
        return self.problem.base

    @property
    def steps(self) -> int:
        """The problem's budget in optimizer steps."""
        return self.problem.steps

    @property
    def revision(self) -> int:
        """The revision of the problem's definition."""
        return self.problem.revision


@dataclass(frozen=True)
class OneByOne(OfProblem, Generic[R]):
    """Any problem as a fleet, its runs stepped one after another: no faster than a loop, and the same to the last bit.

    Attributes:
        problem: The problem.
    """

    problem: Problem[R]

    def init(self, seeds: Sequence[int]) -> list[R | None]:
        """One training per seed; None stands for a frozen one later on."""
        return [self.problem.init(seed) for seed in as_seeds(seeds)]

    def step(self, runs: list[R | None], rates: Any, awake: Any = None) -> tuple[list[R | None], Mapping[str, Any]]:
        """One step of every run that is awake and not frozen; the others measure NaN."""
        measured: dict[str, NDArray[np.float64]] = {"loss": np.full(len(runs), nan)}
        for place, rate in enumerate(as_rates(rates, len(runs)).tolist()):
            run = runs[place]
            if run is None or not (awake is None or awake[place]):
                continue
            runs[place], signals = self.problem.step(run, rate)
            for name, value in signals.items():
                measured.setdefault(name, np.full(len(runs), nan))[place] = float(value)
            if not isfinite(measured["loss"][place]):
                runs[place] = None
        return runs, measured

    def held_out(self, runs: list[R | None]) -> NDArray[np.float64]:
        """The held-out loss of every run, NaN for those that are frozen."""
        return np.array([nan if run is None else float(self.problem.held_out(run)) for run in runs])

    def restart(self, runs: list[R | None], places: Sequence[int], seeds: Sequence[int]) -> list[R | None]:
        """The runs, those at these places begun afresh from these seeds."""
        for place, seed in zip(*as_pairs(places, seeds), strict=True):
            runs[place] = self.problem.init(seed)
        return runs

    def save(self, runs: list[R | None]) -> list[Any]:
        """Every run as its problem saves it; only where the problem does."""
        problem = cast("Resumable[R]", self.problem)
        return [None if run is None else problem.save(run) for run in runs]

    def resume(self, seeds: Sequence[int], saved: list[Any]) -> list[R | None]:
        """The runs that were saved."""
        problem = cast("Resumable[R]", self.problem)
        return [None if one is None else problem.resume(seed, one) for seed, one in zip(as_seeds(seeds), saved, strict=True)]


def as_seeds(seeds: Sequence[int]) -> list[int]:
    """Seeds as a list of plain numbers, at least one, each 0 or more."""
    listed = [int(seed) for seed in seeds]
    if not listed:
        raise ValueError("seeds must name at least one run, got none")
    for seed in listed:
        checks.whole("seeds", seed, low=0)
    return listed


def as_pairs(places: Sequence[int], seeds: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places and the seeds to restart them from, as lists of plain numbers of one length."""
    listed = [int(place) for place in places], [int(seed) for seed in seeds]
    if len(listed[0]) != len(listed[1]) or len(set(listed[0])) < len(listed[0]):
        raise ValueError(f"a restart needs one seed for each of its places, got {len(listed[1])} seeds for places {listed[0]}")
    return listed


def as_rates(rates: Any, runs: int) -> Any:
    """Rates as a vector, checked: one per run, finite and 0 or more.

    On an accelerator only their number is checked: looking at them would wait for the device.

    >>> as_rates([0.1, 0.2], runs=3)
    Traceback (most recent call last):
    ValueError: rates must be a vector with one entry for each of 3 runs, got the shape (2,)
    """
    rates = np.asarray(rates, np.float64) if isinstance(rates, (Sequence, int, float)) else rates
    if tuple(rates.shape) != (runs,):
        raise ValueError(f"rates must be a vector with one entry for each of {runs} runs, got the shape {tuple(rates.shape)}")
    if on_host(rates) and not bool(((rates >= 0.0) & (rates < inf)).all()):
        wrong = next((place, rate) for place, rate in enumerate(rates.tolist()) if not 0.0 <= rate < inf)
        raise ValueError(f"rates must be finite and 0 or more, got {wrong[1]} for run {wrong[0]}")
    return rates


def on_host(array: Any) -> bool:
    """Whether looking at an array's numbers waits for no accelerator."""
    return bool(getattr(array.device, "type", array.device) == "cpu")
