"""The arguments of transformers' GreedyLR in surefoot's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

from surefoot import checks
from surefoot.greedy import Greedy
from surefoot.hold_all import HoldAll

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OURS = {
    "cooldown": "cut_stage",
    "warmup": "raise_stage",
    "min_lr": "min_scale",
    "max_lr": "max_scale",
    "smooth": "window",
    "window_size": "window",
    "reset_start": "reset_after",
}
"""By the name of an argument there, the setting here that says the same."""

THRESHOLD_MODES = {"rel": "relative", "abs": "absolute"}


class GreedySettings(TypedDict, total=False):
    """What `surefoot.torch.GreedyLR` takes: the settings of `Greedy`, and what transformers' GreedyLR calls them."""

    factor: float
    patience: int
    window: int
    evidence: float | None
    threshold: float
    threshold_mode: Literal["relative", "absolute", "rel", "abs"]
    raise_stage: int
    cut_stage: int
    stage: Literal["continue", "hold"]
    min_scale: float
    max_scale: float
    reset_after: int | None
    mode: Literal["min", "max"]
    cooldown: int
    warmup: int
    min_lr: float | Sequence[float]
    max_lr: float | Sequence[float]
    eps: float
    verbose: bool
    smooth: bool
    window_size: int
    reset_start: int | None


def greedy(settings: Mapping[str, Any], bases: Sequence[float]) -> Greedy:
    """The policy that settings in either spelling describe.

    >>> greedy({"smooth": False, "min_lr": 0.025, "cooldown": 3}, bases=[0.1, 0.25])
    Greedy(..., window=1, ..., cut_stage=3, stage='hold', min_scale=0.25, ...)

    Args:
        settings: Settings by name.
        bases: The base rate of every group, 0 or more. Absolute limits become limits of the scale that all groups share, the
            tightest ones.

    Raises:
        TypeError: There is no such setting, or one is not a number where one is needed.
        ValueError: A setting is outside its range, or is named in both spellings.
    """
    for theirs, ours in OURS.items():
        if theirs in settings and ours in settings:
            raise ValueError(f"{theirs} and {ours} say the same thing, got both (leave one of them out)")
    own = {name: value for name, value in settings.items() if name not in OURS and name not in {"eps", "verbose"}}
    own |= {OURS[name]: settings[name] for name in ("cooldown", "warmup", "reset_start") if name in settings}
    if {"cooldown", "warmup"} & settings.keys():
        own.setdefault("stage", "hold")
    if "eps" in settings:
        checks.number("eps", settings["eps"], low=0.0)
    if "threshold_mode" in own:
        own["threshold_mode"] = THRESHOLD_MODES.get(own["threshold_mode"], own["threshold_mode"])
    if {"smooth", "window_size"} & settings.keys():
        own["window"] = settings.get("window_size", Greedy.window) if settings.get("smooth", True) else 1
    if {"min_lr", "max_lr"} & settings.keys():
        own |= _scales(settings, bases)
    return Greedy(**own)


def hold_all(settings: Mapping[str, Any], bases: Sequence[float]) -> HoldAll:
    """The rule of transformers' GreedyLR under its own arguments, all of them.

    Args:
        settings: Every argument of that class by its name; `verbose` is not looked at.
        bases: The base rate of every group, 0 or more.

    Raises:
        TypeError: An argument is not a number where one is needed.
        ValueError: An argument is outside its range.
    """
    checks.one_of("threshold_mode", settings["threshold_mode"], ("rel", "abs"))
    return HoldAll(
        bases=tuple(bases),
        min_rates=tuple(_each("min_lr", settings["min_lr"], len(bases))),
        max_rates=tuple(_each("max_lr", settings["max_lr"], len(bases))),
        factor=settings["factor"],
        patience=settings["patience"],
        threshold=settings["threshold"],
        threshold_mode="relative" if settings["threshold_mode"] == "rel" else "absolute",
        raise_stage=settings["warmup"],
        cut_stage=settings["cooldown"],
        least_change=settings["eps"],
        smooth=settings["smooth"],
        window=settings["window_size"],
        reset_after=settings["reset_start"],
        mode=settings["mode"],
    )


def refuse_own(settings: Mapping[str, Any]) -> None:
    """Raise if a setting is in surefoot's spelling, where only that of transformers' class has a meaning."""
    words = {ours: " and ".join(theirs for theirs in OURS if OURS[theirs] == ours) for ours in OURS.values()}
    for name in settings:
        if name in {"stage", "evidence"}:
            raise ValueError(f'{name} has no meaning with compat="transformers": that class has nothing like it (leave it out)')
        if name in words:
            raise ValueError(f'{name} is surefoot\'s spelling, and compat="transformers" knows {words[name]} instead')


def _scales(settings: Mapping[str, Any], bases: Sequence[float]) -> dict[str, float]:
    """Absolute limits of every group as limits of the one scale: those that no group would leave."""
    lowest = _each("min_lr", settings.get("min_lr", 0.0), len(bases))
    highest = _each("max_lr", settings.get("max_lr", max(bases)), len(bases))
    for place, base in enumerate(bases):
        checks.absolute_limits(place, base, lowest[place], highest[place])
    moving = [place for place, base in enumerate(bases) if base > 0.0]
    scales = {}
    if "min_lr" in settings:
        scales["min_scale"] = max((lowest[place] / bases[place] for place in moving), default=Greedy.min_scale)
    if "max_lr" in settings:
        scales["max_scale"] = min((highest[place] / bases[place] for place in moving), default=Greedy.max_scale)
    if scales.get("min_scale") == 0.0:
        raise ValueError("min_lr must be above 0: a rate of 0 could never be raised again")
    return scales


def _each(name: str, limit: Any, groups: int) -> list[float]:
    """One limit per group."""
    if not isinstance(limit, (list, tuple)):
        return [limit] * groups
    if len(limit) != groups:
        raise ValueError(f"{name} must be one number, or one for each of the {groups} groups, got {len(limit)}")
    return list(limit)
