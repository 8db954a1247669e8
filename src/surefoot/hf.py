"""Policies in the Trainer of Hugging Face: one callback."""
# ruff: noqa: ARG002 - a Trainer hands everything it has to every callback.

from __future__ import annotations

import inspect
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from surefoot import budget, checks, direction
from surefoot.arithmetic import widen
from surefoot.combine import Warmup
from surefoot.evaluated import EvaluatedLR
from surefoot.ranks import mean_over_ranks
from surefoot.torch import PolicyLR

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError("surefoot.hf needs transformers and accelerate: pip install 'surefoot[hf]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from surefoot.changes import Change
    from surefoot.policy import Policy

__all__ = ["PolicyCallback"]


class PolicyCallback(TrainerCallback):
    """Let a policy set the learning rate of a `transformers.Trainer`, or of one that is derived from it, such as TRL's.

    `Trainer(..., callbacks=[PolicyCallback(Greedy())])` is all. The policy takes the place of the Trainer's own schedule: it is
    saved and loaded with its checkpoints, and its rate is the `learning_rate` in the logs. At every optimizer step it sees the
    loss that was trained on, the sum of what the micro-batches contributed, as a mean over all processes. With `metric`, it
    sees that at every evaluation, and nothing else.

    Every change of the scale that was a decision is a row of `trainer.state.log_history`, with `surefoot/rate`,
    `surefoot/scale` and `surefoot/reason`. Trackers are told at the Trainer's own logging steps.

    >>> from surefoot import Greedy
    >>> PolicyCallback(Greedy(), metric="accuracy").metric
    'eval_accuracy'

    Attributes:
        policy: The policy, or None for that of the `PolicyLR` that the Trainer was given.
        metric: The name of the metric, beginning with `eval_`; None for the training loss.

    Args:
        policy: Any policy; None if the Trainer has a scheduler of surefoot's already, as one of its `optimizers`, and only the
            loss is wanting.
        metric: What to judge by at every evaluation, such as "accuracy" or "eval_accuracy".
        greater_is_better: Whether higher values of the metric are better; None to go by its name and, if that does not tell
            and it is the `metric_for_best_model`, by what the Trainer was told.
        total_steps: The budget of a policy that is made for one, in its own updates, 1 or more; None for the optimizer steps
            that the Trainer is about to make after the warm-up.

    Raises:
        TypeError: The policy is not one, or the budget is no number.
        ValueError: A setting has no policy to go with, the policy's `mode` contradicts what it is to see, or the budget is
            outside its range or nothing that this policy can use.
    """

    def __init__(
        self,
        policy: Policy[Any] | None = None,
        *,
        metric: str | None = None,
        greater_is_better: bool | None = None,
        total_steps: int | None = None,
    ) -> None:
        if policy is None and not (metric is None and total_steps is None):
            raise ValueError(
                f"metric and total_steps are for the callback's own policy, got {metric=} and {total_steps=} without one "
                "(PolicyCallback(Greedy(), metric=...))"
            )
        self.policy = policy
        self.metric = metric if metric is None or metric.startswith("eval_") else f"eval_{metric}"
        if policy is not None:
            checks.policy("policy", policy)
            direction.agreed(self.metric or "loss", policy)
            self.policy = policy if total_steps is None else budget.in_steps(policy, total_steps)
        self._takes_length = total_steps is None and metric is None
        self._greater_is_better, self._sign = greater_is_better, 1.0
        self._trainer: Any = None
        self._loss: Tensor | None = None
        self._is_new = False  # Whether the optimizer has stepped since the last metric.
        self._measured: set[str] = set()
        self._changes: list[Change] = []
        self._untold: list[dict[str, Any]] = []
        self._stop_listening: Callable[[], None] | None = None

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The Trainer is there: listen to its loss, and see to it that it makes the right scheduler."""
        self._trainer = trainer = _trainer_of(self)
        self._refuse_another()
        self._refuse_two_masters(trainer.lr_scheduler)
        if self.metric is None:
            # Not a forward hook on the model: the loss may be computed after it, by a label smoother or a `compute_loss_func`,
            # and be divided by the tokens of the whole step. What `training_step` returns is what was differentiated.
            trainer.training_step = self._heard(trainer.training_step)
        if self.policy is not None:
            # Not an exchange at `on_train_begin`: by then, the Trainer has read the checkpoint into its own scheduler.
            trainer.create_scheduler = partial(self._create_scheduler, trainer)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Begin to note what the policy decides."""
        if self._trainer is None:
            raise ValueError(
                "a PolicyCallback must be there when the Trainer is made, since its checkpoints are read before any callback "
                "is asked (Trainer(..., callbacks=[PolicyCallback(...)]) instead of add_callback)"
            )
        self._refuse_another()
        scheduler = kwargs["lr_scheduler"]
        if not isinstance(scheduler, PolicyLR):
            raise TypeError(
                f"the Trainer steps a {type(scheduler).__name__}, and not the scheduler of its PolicyCallback "
                "(leave one of them out; DeepSpeed's stands in its own configuration)"
            )
        if self.metric is not None:
            self._sign = self._direction(args)
        self._loss, self._is_new = None, False  # An attempt that ran out of memory may have left some.
        if self._stop_listening is not None:
            self._stop_listening()
        self._stop_listening = scheduler.on_change(self._changes.append)

    def on_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Hand over the step's loss; the Trainer then calls the scheduler's bare `step()`, unless the step was left out."""
        loss, self._loss, self._is_new = self._loss, None, True
        if loss is not None:
            mean = mean_over_ranks(loss)
            if not self._trainer.accelerator.optimizer_step_was_skipped:
                kwargs["lr_scheduler"].observe(mean)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """See whether the evaluation before this step had the metric, in any of its data sets."""
        measured, self._measured = self._measured, set()
        if measured and self.metric not in measured:
            raise ValueError(f"no evaluation measures {self.metric}, there are {', '.join(sorted(measured))}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep what was decided."""
        self._keep(state)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Step with the metric, once for an evaluation that is a part of the training and follows on an optimizer step."""
        if self.metric is None or not (self._is_new and self._trainer.is_in_train):
            return
        metrics = kwargs["metrics"]
        self._measured |= set(metrics)
        if self.metric in metrics:
            self._is_new = False
            kwargs["lr_scheduler"].step(self._sign * metrics[self.metric])
            self._keep(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tell trackers: the rate and the scale as they are now, and every reason since they were told last."""
        # Not one call for every change: a policy may decide at every step, and some trackers wait for a server.
        if self._untold:
            reasons = [f"step {row['step']}: {row['surefoot/reason']}" for row in self._untold]
            told = {**self._untold[-1], "surefoot/reason": "\n".join(reasons)}
            del told["step"]
            self._untold.clear()
            self._trainer.callback_handler.on_log(args, state, control, told)

    def _refuse_another(self) -> None:
        """Raise if there is a second callback of this kind."""
        if sum(isinstance(callback, PolicyCallback) for callback in self._trainer.callback_handler.callbacks) > 1:
            raise ValueError("a PolicyCallback was added twice, and the scheduler would get every loss twice (leave one out)")

    def _refuse_two_masters(self, given: Any) -> None:
        """Raise unless there is just one: the scheduler that the Trainer was given, or the callback's policy."""
        if self.policy is None and not isinstance(given, PolicyLR):
            raise ValueError(
                f"PolicyCallback() feeds a scheduler of surefoot's that the Trainer was given, got {given!r} "
                "(PolicyCallback(Greedy()), or Trainer(..., optimizers=(optimizer, GreedyLR(optimizer))))"
            )
        if self.policy is not None and given is not None:
            raise ValueError(
                f"the rates have two masters, a {type(given).__name__} and PolicyCallback({self.policy!r}) "
                "(leave one out: optimizers=(optimizer, None), or PolicyCallback() to feed a scheduler of surefoot's)"
            )

    def _direction(self, args: TrainingArguments) -> float:
        """What the metric has to be multiplied by."""
        assert self.metric is not None
        if args.eval_strategy == "no":
            raise ValueError(
                f"{self.metric} is measured at evaluations, and there are none (TrainingArguments(eval_strategy='epoch'))"
            )
        said = self._greater_is_better
        is_best_model = args.metric_for_best_model in {self.metric, self.metric.removeprefix("eval_")}
        if said is None and is_best_model and direction.lower_is_better(self.metric) is None:
            said = args.greater_is_better
        return direction.signed(self.metric, self.policy, said)

    def _heard(self, training_step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same, but what it returns is heard: what one micro-batch contributes to the loss of its step."""

        @wraps(training_step)
        def heard(*args: Any, **settings: Any) -> Tensor:
            loss = training_step(*args, **settings)
            share = widen(loss.detach())
            self._loss = share if self._loss is None else self._loss + share
            return loss

        return heard

    def _create_scheduler(self, trainer: Any, num_training_steps: int, optimizer: Optimizer | None = None) -> Any:
        """In the place of the Trainer's own method, which a checkpoint is read after."""
        if trainer.lr_scheduler is None:
            warmup = trainer.args.get_warmup_steps(num_training_steps)
            policy = self._told_length(max(num_training_steps - warmup, 1))
            policy = Warmup(policy, steps=warmup) if warmup else policy
            kind = PolicyLR if self.metric is None else EvaluatedLR
            trainer.lr_scheduler = kind(trainer.optimizer if optimizer is None else optimizer, policy)
            trainer._created_lr_scheduler = True  # noqa: SLF001 - so that the next `train()` makes a new one
        return trainer.lr_scheduler

    def _told_length(self, steps: int) -> Any:
        """The policy, with the run's length if it is made for one."""
        assert self.policy is not None
        try:
            return budget.in_steps(self.policy, steps) if self._takes_length else self.policy
        except ValueError:
            return self.policy

    def _keep(self, state: TrainerState) -> None:
        """Put the changes into the Trainer's history, which is a part of its checkpoints."""
        for change in self._changes:
            row = {**change.told(), "epoch": state.epoch, "step": state.global_step}
            state.log_history.append(row)
            self._untold.append(row)
        self._changes.clear()


def _trainer_of(callback: PolicyCallback) -> Any:
    """The Trainer whose constructor is under way.

    It hands its callbacks all that it has, but not itself. To have it handed over by the user would take a second line, after
    the constructor, and there is no place for one where a script builds its Trainer deep inside.
    """
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if any(other is callback for other in getattr(getattr(found, "callback_handler", None), "callbacks", ())):
            return found
        frame = frame.f_back
    raise RuntimeError("PolicyCallback.on_init_end is for the constructor of a Trainer to call, and there is none under way")
