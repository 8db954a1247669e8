"""Checkpoints of transformers' GreedyLR: read into either rule, and written by the one that follows that class."""

from __future__ import annotations

import warnings
from math import fsum, inf, isclose, isfinite
from typing import TYPE_CHECKING, Any

from surefoot.hold_all import HoldAll, HoldAllState, entry
from surefoot.spelling import THRESHOLD_MODES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surefoot.greedy import Greedy, GreedyState

SETTINGS = {
    *(
        "mode",
        "factor",
        "patience",
        "threshold",
        "threshold_mode",
        "cooldown",
        "warmup",
        "min_lrs",
        "max_lrs",
        "eps",
        "verbose",
    ),
    *("smooth", "window_size", "reset_start_original", "_init_lrs"),
}
STATE = {
    *("best", "num_bad_epochs", "num_good_epochs", "cooldown_counter", "warmup_counter", "last_epoch", "reset_start"),
    *("_last_lr", "_streaming_avg"),
}
OBSERVED = {"total", "observed"}
"""What `observe` has taken note of: that class does not know it, and looks away."""


def is_theirs(state_dict: Mapping[str, Any]) -> bool:
    """Whether this is a checkpoint of transformers' GreedyLR, be it in parts."""
    return "best" in state_dict and state_dict.keys() <= SETTINGS | STATE | OBSERVED


def written(policy: HoldAll, state: HoldAllState) -> dict[str, Any]:
    """Settings and state under the names that transformers' GreedyLR gives them, but for those that its policy has not."""
    groups = range(len(state.rates))
    found: dict[str, Any] = {
        "factor": policy.factor,
        "min_lrs": [entry(policy.min_rates, place) for place in groups],
        "max_lrs": [entry(policy.max_rates, place) for place in groups],
        "patience": policy.patience,
        "cooldown": policy.cut_stage,
        "warmup": policy.raise_stage,
        "cooldown_counter": state.cutting,
        "warmup_counter": state.raising,
        "mode": policy.mode,
        "threshold": policy.threshold,
        "threshold_mode": "rel" if policy.threshold_mode == "relative" else "abs",
        "best": state.best,
        "num_bad_epochs": state.bad,
        "num_good_epochs": state.good,
        "eps": policy.least_change,
        "smooth": policy.smooth,
        "window_size": policy.window,
        "reset_start": None if policy.reset_after is None else policy.reset_after - state.stuck,
        "reset_start_original": policy.reset_after,
        "_last_lr": list(state.rates),
        "_init_lrs": list(state.bases),
    }
    if policy.smooth:
        window = {"window_size": policy.window, "values": list(state.window), "sum": state.total}
        found["_streaming_avg"] = window
    return found


def hold_all_state(checkpoint: Mapping[str, Any], policy: HoldAll, now: HoldAllState) -> HoldAllState:
    """The state in a checkpoint, for a policy with settings of its own; what the checkpoint lacks is as at the start.

    But for the rates, which stay as they are `now`.

    Raises:
        ValueError: The checkpoint has other groups.
    """
    start = policy.init()._replace(scale=now.scale, rates=now.rates, bases=now.bases)
    found = {**written(policy, start), **checkpoint}
    rates = _rates(found, len(now.bases))
    limits = [(entry(policy.min_rates, place), entry(policy.max_rates, place)) for place in range(len(rates))]
    state = start._replace(
        best=_best(checkpoint, policy.mode, start.best),
        good=found["num_good_epochs"],
        bad=found["num_bad_epochs"],
        raising=found["warmup_counter"],
        cutting=found["cooldown_counter"],
        stuck=_stuck(checkpoint),
    )
    if policy.smooth:
        state = state._replace(**_window(checkpoint, policy.window))
    return state.moved(tuple(min(max(rate, low), high) for rate, (low, high) in zip(rates, limits, strict=True)))


def greedy_state(checkpoint: Mapping[str, Any], policy: Greedy, bases: Sequence[float]) -> GreedyState:
    """The state in a checkpoint, for `Greedy`; what the checkpoint lacks is as at the start.

    One scale takes the place of the groups' own rates: the smallest that any of them had, within the policy's limits.

    Raises:
        ValueError: The checkpoint has other groups.
    """
    sign = 1.0 if policy.mode == "min" else -1.0
    losses = _window(checkpoint, policy.window)["window"] if policy.window > 1 else ()
    padding = (0.0,) * (policy.window - len(losses)) if policy.window > 1 else ()
    counts: dict[str, Any] = {}
    if policy.evidence is None:  # It compares with no best, and counts something else.
        counts["best"] = sign * _best(checkpoint, policy.mode, sign * inf)
        counts |= {"good": checkpoint.get("num_good_epochs", 0), "bad": checkpoint.get("num_bad_epochs", 0)}
    return policy.init()._replace(
        scale=min(max(min(_scales(checkpoint, bases)), policy.min_scale), policy.max_scale),
        **counts,
        raising=min(checkpoint.get("warmup_counter", 0), policy.raise_stage),
        cutting=min(checkpoint.get("cooldown_counter", 0), policy.cut_stage),
        stuck=_stuck(checkpoint),
        count=len(losses),
        window=padding + tuple(sign * loss for loss in losses),
    )


def translated(checkpoint: Mapping[str, Any], policy: Any, bases: Sequence[float]) -> dict[str, Any]:
    """A checkpoint as the snapshot of a `PolicyLR` with this `Greedy`; warns of settings that differ.

    Raises:
        ValueError: The checkpoint has other groups.
    """
    state = greedy_state(checkpoint, policy, bases)
    warn_of_differences(checkpoint, policy, bases, stacklevel=4)
    kept = {"last_epoch": 0, "total": 0.0, "observed": 0, **checkpoint}
    return {"state": state._asdict(), **{name: kept[name] for name in ("last_epoch", "total", "observed")}}


def warn_of_differences(checkpoint: Mapping[str, Any], policy: Any, bases: Sequence[float], *, stacklevel: int = 3) -> None:
    """Name in one warning the settings that a checkpoint was written with and that the policy has not."""
    theirs, mine = _compared(checkpoint, policy, bases)
    parted = [f"{name}={value} (here {mine[name]})" for name, value in theirs.items() if not _same(value, mine[name])]
    if parted:
        said = ", ".join(parted).replace("_init_lrs", "base rates")
        message = f"the checkpoint was written with {said}; what was set here stays as it is"
        warnings.warn(message, UserWarning, stacklevel=stacklevel)


def _compared(checkpoint: Mapping[str, Any], policy: Any, bases: Sequence[float]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a checkpoint, and those here, under the same names."""
    if isinstance(policy, HoldAll):
        mine = {**written(policy, policy.init()), "_init_lrs": list(bases)}
        theirs = {name: checkpoint[name] for name in sorted(SETTINGS - {"verbose"} & checkpoint.keys())}
        if not (policy.smooth and theirs.get("smooth", True)):
            theirs.pop("window_size", None)
        for name in ("min_lrs", "max_lrs"):
            mine[name] = [entry(tuple(mine[name]), place) for place in range(len(bases))]
    else:
        theirs = _in_our_words(checkpoint, bases)
        mine = {name: getattr(policy, name) for name in theirs if name != "scale"}
        mine["scale"] = min(theirs.get("scale", [1.0]))
    return theirs, mine


def _in_our_words(checkpoint: Mapping[str, Any], bases: Sequence[float]) -> dict[str, Any]:
    names = {"cooldown": "cut_stage", "warmup": "raise_stage", "reset_start_original": "reset_after"}
    same = ("factor", "patience", "threshold", "mode", *names)
    found = {names.get(name, name): checkpoint[name] for name in same if name in checkpoint}
    if "threshold_mode" in checkpoint:
        found["threshold_mode"] = THRESHOLD_MODES[checkpoint["threshold_mode"]]
    if "smooth" in checkpoint:
        found["window"] = checkpoint.get("window_size") if checkpoint["smooth"] else 1
    if {"min_lrs", "max_lrs"} <= checkpoint.keys() and any(bases):
        found["min_scale"] = max(low / base for low, base in zip(checkpoint["min_lrs"], bases, strict=False) if base)
        found["max_scale"] = min(high / base for high, base in zip(checkpoint["max_lrs"], bases, strict=False) if base)
    found["scale"] = _scales(checkpoint, bases)
    return found


def _same(theirs: Any, mine: Any) -> bool:
    if isinstance(theirs, list):
        mine = mine if isinstance(mine, list) else [mine] * len(theirs)
        return len(theirs) == len(mine) and all(map(_same, theirs, mine))
    return isclose(theirs, mine, rel_tol=1e-6) if isinstance(theirs, float) and mine is not None else bool(theirs == mine)


def _rates(checkpoint: Mapping[str, Any], groups: int) -> list[float]:
    rates = [float(rate) for rate in checkpoint["_last_lr"]]
    if len(rates) != groups:
        raise ValueError(f"the checkpoint has rates for {len(rates)} parameter groups, and the optimizer has {groups}")
    return rates


def _scales(checkpoint: Mapping[str, Any], bases: Sequence[float]) -> list[float]:
    rates = _rates({"_last_lr": bases, **checkpoint}, len(bases))
    return [rate / base for rate, base in zip(rates, bases, strict=True) if base] or [1.0]


def _best(checkpoint: Mapping[str, Any], mode: str, otherwise: float) -> float:
    """The best loss, unless it is one of the other mode, or one that nothing could ever beat."""
    best = float(checkpoint["best"])
    return best if checkpoint.get("mode", mode) == mode and isfinite(best) else otherwise


def _stuck(checkpoint: Mapping[str, Any]) -> int:
    allowed, left = checkpoint.get("reset_start_original"), checkpoint.get("reset_start")
    return 0 if allowed is None or left is None else max(allowed - left, 0)


def _window(checkpoint: Mapping[str, Any], width: int) -> dict[str, Any]:
    """The window and its sum, which is formed anew if losses are left out: those too many, and those that are not finite."""
    average = checkpoint.get("_streaming_avg", {"values": [], "sum": 0.0})
    window = tuple(float(loss) for loss in average["values"] if isfinite(loss))[-width:]
    is_whole = len(window) == len(average["values"]) and isfinite(average["sum"])
    return {"window": window, "total": average["sum"] if is_whole else fsum(window)}
