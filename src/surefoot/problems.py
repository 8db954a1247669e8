"""What can be trained: a plant with one control, the learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

R = TypeVar("R")


class Problem(Protocol[R]):
    """A model, its data, a loss and an optimizer, ready to be trained from any seed.

    Training is reproducible: the same seed gives the same initial parameters and the same order of batches whatever the rates
    are, so that two schedules can be compared run by run.
    """

    @property
    def name(self) -> str:
        """Lower-case words with hyphens, such as `digits-cnn`."""
        ...

    @property
    def optimizer(self) -> str:
        """Name of the optimizer that takes the steps, such as `sgd`."""
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
        """Goes up whenever the definition changes so that earlier runs cannot be compared with new ones."""
        ...

    def init(self, seed: int) -> R:
        """A training that has not begun."""
        ...

    def step(self, run: R, rate: float) -> tuple[R, Mapping[str, Any]]:
        """One optimizer step at learning rate `rate`.

        Returns:
            The training after it (it may be the same object, changed), and what was measured: at least `loss`, the training
            loss of the batch before the step.
        """
        ...

    def held_out(self, run: R) -> float:
        """The loss on data that is never trained on; it leaves the training as it is."""
        ...


class Resumable(Protocol[R]):
    """What a problem, or a fleet, has besides if its runs can be saved and taken up again.

    A run that was taken up goes on as the one that was saved would have, to the last bit.
    """

    def save(self, run: R) -> Any:
        """All that a run's further steps depend on beside its seed, as `surefoot.packed.pack` takes it.

        It may be what the run itself works with: whoever wants to keep it for later, packs it before the next step.
        """
        ...

    def resume(self, seed: Any, saved: Any) -> R:
        """The run that was saved.

        Args:
            seed: That of the run; of a fleet, those of the runs.
            saved: What `save` returned, packed and unpacked again.
        """
        ...
