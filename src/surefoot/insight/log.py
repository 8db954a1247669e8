"""What there is to explain: a run of a store, or a log of losses from anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surefoot import lineup, loss_log, spec
from surefoot.learned import Learned

if TYPE_CHECKING:
    from pathlib import Path

    from surefoot.runs import Run, Store, Trial

_SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Log:
    """Losses in their order, and what else is known of the steps.

    Attributes:
        name: Where it is from.
        losses: The loss of every step.
        rates: The rate of every step; None if it is not known.
        signals: Further measurements by name.
        trial: What was trained, if it is a run of a store.
    """

    name: str
    losses: list[float]
    rates: list[float] | None = None
    signals: dict[str, list[float]] = field(default_factory=dict)
    trial: Trial | None = None

    @property
    def driver(self) -> Learned | None:
        """The learned policy that set the rates, if one did."""
        made = None if self.trial is None else driver_of(self.trial)
        return made if isinstance(made, Learned) else None


def from_file(path: str | Path, **which: str | None) -> Log:
    """A log from a file or a folder, as `surefoot.loss_log.read` reads it.

    Args:
        path: The file or folder.
        **which: `column` or `tag`, the name of the loss where it is not a usual one.

    Raises:
        ImportError: It is TensorBoard's, and `tensorboard` is not installed.
        ValueError: A line cannot be read, or there is no loss.
        OSError: The file cannot be read.
    """
    found = loss_log.read(path, **which)
    return Log(found.name, found.losses, found.rates, found.signals)


def from_store(store: Store, wanted: str) -> Log:
    """The run of that key, of a prefix that no other has, or of `problem/policy/seed`.

    Raises:
        ValueError: There is no such run, or more than one.
    """
    found = [run for run in store if _is_meant(run.trial, wanted)]
    if len(found) != 1:
        near = [f"{run.trial.key[:12]} ({named(run.trial)})" for run, _ in zip(found or store, range(3), strict=False)]
        held = ", ".join(near) or "nothing"
        count = f"{len(found)} runs are" if found else "no run is"
        raise ValueError(
            f"{count} called {wanted!r} in {store.path}; name one by problem/policy/seed or by its key, such as {held}"
        )
    return of_run(found[0])


def of_run(run: Run) -> Log:
    """A run of a store as a log."""
    signals = {name: values.tolist() for name, values in run.signals.items()}
    return Log(named(run.trial), run.loss.tolist(), run.rate.tolist(), signals, run.trial)


def named(trial: Trial) -> str:
    """What a run is called: problem, policy and seed.

    >>> from surefoot.runs import Trial
    >>> named(Trial("wine-mlp", 1, "sgd", {"is": "Constant"}, 0.1, 300, 20, 4, ""))
    'wine-mlp/constant/4'
    """
    return f"{trial.problem}/{_label(trial)}/{trial.seed}"


def driver_of(trial: Trial) -> Any:
    """The policy that set a run's rates."""
    if trial.policy.get("is") == "Explored":  # It brings all that learning needs along.
        from surefoot.learn.explored import Explored

        return spec.from_dict(trial.policy, known=(Explored,))
    return spec.from_dict(trial.policy)


def _label(trial: Trial) -> str:
    made = driver_of(trial)
    return made.name if isinstance(made, Learned) else lineup.label(made, trial.steps)


def _is_meant(trial: Trial, wanted: str) -> bool:
    is_prefix = len(wanted) >= _SHORTEST_PREFIX and trial.key.startswith(wanted.lower())
    return is_prefix or wanted == named(trial)
