"""Which way a metric is better, by its name."""

from __future__ import annotations

import re
from typing import Any

from surefoot.policy import parts

_HIGHER = (
    "accuracy acc auc auroc auprc f1 fbeta precision recall specificity sensitivity map ap ndcg mrr hits bleu rouge rouge1 "
    "rouge2 rougel rougelsum meteor chrf bertscore iou dice miou r2 pearson spearman pearsonr spearmanr kappa mcc matthews "
    "elbo reward return score psnr ssim top1 top5"
)
_LOWER = (
    "loss perplexity ppl bpc bpb error err mae mse rmse mape rmsle wer cer ter nll crossentropy entropy kl divergence deviance "
    "hinge fid regret"
)
_WORDS = dict.fromkeys(_HIGHER.split(), False) | dict.fromkeys(_LOWER.split(), True)


def lower_is_better(metric: str) -> bool | None:
    """Whether lower values of a metric are better, by the last word of its name that says so; None if none does.

    >>> lower_is_better("eval_loss"), lower_is_better("val/top5_accuracy"), lower_is_better("eval_goodness")
    (True, False, None)
    """
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", metric).lower())
    return next((_WORDS[word] for word in reversed(words) if word in _WORDS), None)


def agreed(metric: str, policy: Any) -> None:
    """Raise if a policy that takes higher values for better is to be fed with a metric of which lower ones are.

    A policy with `mode="min"`, the default, is handed a metric of which higher values are better with its sign changed.

    Raises:
        ValueError: They contradict each other.
    """
    if _maximizes(policy) and lower_is_better(metric):
        raise ValueError(
            f"{type(policy).__name__} takes a higher {metric} for better, and lower ones are (leave mode='max' out)"
        )


def signed(metric: str, policy: Any, greater_is_better: bool | None = None) -> float:
    """What a metric has to be multiplied by so that the policy takes better values for better: 1 or -1.

    >>> from surefoot import Greedy
    >>> signed("eval_accuracy", Greedy()), signed("eval_accuracy", Greedy(mode="max")), signed("eval_loss", Greedy())
    (-1.0, 1.0, 1.0)

    Args:
        metric: Its name.
        policy: Who is to be handed it.
        greater_is_better: Whether higher values are better; None to go by the name.

    Raises:
        ValueError: The name does not tell, or policy, name and `greater_is_better` contradict each other.
    """
    agreed(metric, policy)
    known = lower_is_better(metric)
    if greater_is_better is None:
        if known is None:
            raise ValueError(
                f"whether a higher {metric} is better cannot be told from its name (say greater_is_better=True or False)"
            )
        greater_is_better = not known
    elif known is greater_is_better:
        better, said = ("lower", True) if known else ("higher", False)
        raise ValueError(f"{better} values of {metric} are better, got greater_is_better={said} (leave it out)")
    if _maximizes(policy):
        if not greater_is_better:
            raise ValueError(
                f"{type(policy).__name__} has mode='max', got greater_is_better=False for {metric} (leave one out)"
            )
        return 1.0
    return -1.0 if greater_is_better else 1.0


def _maximizes(policy: Any) -> bool:
    return any(getattr(part, "mode", "min") == "max" for part in parts(policy))
