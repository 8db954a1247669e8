"""What the laws are tested on: every policy, and losses of every kind."""

from __future__ import annotations

import tempfile
from math import inf
from pathlib import Path

from hypothesis import strategies as st

import policy_files
from surefoot import (
    Clip,
    Constant,
    Cosine,
    CosineRestarts,
    Every,
    Exponential,
    Greedy,
    Hypergradient,
    InverseTime,
    Learned,
    Linear,
    OneCycle,
    Plateau,
    Polynomial,
    Step,
    Then,
    Warmup,
    WarmupStableDecay,
)

fractions = st.floats(0.1, 0.9)
small = st.floats(0.0, 1.0)
lengths = st.integers(1, 40)
waits = st.integers(0, 3)
modes = st.sampled_from(["min", "max"])

# Absolute thresholds are in the loss's own units, so they are 0 where units must not matter.
thresholds = st.one_of(
    st.fixed_dictionaries({"threshold": st.floats(0.0, 0.5), "threshold_mode": st.just("relative")}),
    st.fixed_dictionaries({"threshold": st.just(0.0), "threshold_mode": st.just("absolute")}),
)


@st.composite
def greedy(draw: st.DrawFn, *, mode: str | None = None) -> Greedy:
    evidence = draw(st.none() | st.floats(0.5, 5.0))
    return Greedy(
        factor=draw(fractions),
        patience=draw(waits),
        window=draw(st.integers(1, 5) if evidence is None else st.integers(8, 12)),
        evidence=evidence,
        **draw(thresholds),
        raise_stage=draw(waits),
        cut_stage=draw(waits),
        stage=draw(st.sampled_from(["continue", "hold"])),
        min_scale=draw(st.floats(0.01, 1.0)),
        max_scale=draw(st.floats(1.0, 20.0)),
        reset_after=draw(st.none() | st.integers(1, 4)),
        mode=mode or draw(modes),
    )


@st.composite
def plateau(draw: st.DrawFn, *, mode: str | None = None) -> Plateau:
    return Plateau(
        factor=draw(fractions),
        patience=draw(waits),
        **draw(thresholds),
        cooldown=draw(waits),
        min_scale=draw(small),
        mode=mode or draw(modes),
    )


timed = st.one_of(
    st.builds(Constant, scale=small),
    st.builds(Step, milestones=st.sets(lengths, max_size=4).map(sorted).map(tuple), factor=fractions),
    st.builds(Exponential, factor=fractions),
    st.builds(InverseTime, steps=lengths, power=st.floats(0.1, 1.0)),
    st.builds(Linear, steps=lengths, start=small, end=small),
    st.builds(Cosine, steps=lengths, end=small),
    st.builds(CosineRestarts, steps=lengths, growth=st.integers(1, 3), end=small),
    st.builds(Polynomial, steps=lengths, power=st.floats(0.0, 3.0), end=small),
    st.builds(OneCycle, steps=lengths, rise=small, start=small, end=small),
    st.builds(WarmupStableDecay, steps=lengths, warmup=st.floats(0.0, 0.5), decay=st.floats(0.0, 0.5), start=small, end=small),
)
hypergradient = st.builds(
    Hypergradient,
    step=fractions,
    rule=st.sampled_from(["multiplicative", "additive"]),
    min_scale=st.floats(0.01, 1.0),
    max_scale=st.floats(1.0, 20.0),
)
driven = st.one_of(greedy(), plateau())

_folder = tempfile.TemporaryDirectory()
LEARNED = [
    policy_files.made(Path(_folder.name), f"alarm-{alarm:g}", alarm=alarm, seed=seed) for seed, alarm in enumerate([inf, 4.0])
]
learned = st.builds(Learned, st.sampled_from(LEARNED), steps=st.none() | lengths)
policies = st.recursive(
    timed | driven,
    lambda inner: st.one_of(
        st.builds(Clip, inner, min_scale=st.floats(0.0, 0.5), max_scale=st.floats(0.5, 2.0)),
        st.builds(Warmup, inner, steps=lengths, start=small),
        st.builds(Every, inner, steps=st.integers(1, 4)),
        st.builds(Then, inner, inner, after=lengths, carry=st.booleans()),
    ),
    max_leaves=3,
)

every = policies | learned

# Sums of these are exact in any order, so that no arithmetic can round its way to another decision.
dyadic = st.integers(-512, 512).map(lambda n: n / 64)
odd = st.sampled_from([float("nan"), float("inf"), -float("inf")])
alignments = st.lists(st.floats(-1.0, 1.0) | odd, min_size=1, max_size=60)
finite_losses = st.lists(dyadic, min_size=1, max_size=60)
losses = st.lists(dyadic | odd, min_size=1, max_size=60)
EXAMPLES: list[object] = [
    Greedy(factor=0.5, patience=1, window=1),
    Greedy(factor=0.8, patience=0, window=3, raise_stage=2, cut_stage=1, reset_after=2, min_scale=0.5, max_scale=4.0),
    Greedy(factor=0.8, patience=1, window=2, raise_stage=2, cut_stage=2, stage="hold", mode="max", threshold=0.1),
    Greedy(factor=0.8, patience=0, window=8, evidence=1.0, raise_stage=1),
    Greedy(factor=0.8, patience=0, window=1, threshold=0.25, threshold_mode="absolute"),
    Plateau(factor=0.5, patience=1, cooldown=2),
    Constant(0.5),
    Step(milestones=(5, 9), factor=0.1),
    Exponential(factor=0.9),
    InverseTime(steps=5),
    Linear(steps=20),
    Cosine(steps=20, end=0.1),
    CosineRestarts(steps=7),
    CosineRestarts(steps=5, growth=2),
    Polynomial(steps=20, power=2.0),
    OneCycle(steps=20),
    WarmupStableDecay(steps=20),
    Clip(Greedy(factor=0.5, patience=0, window=1), max_scale=2.0),
    Warmup(Greedy(factor=0.5, patience=0, window=2), steps=4),
    Every(Greedy(factor=0.5, patience=0, window=1), steps=3),
    Then(Greedy(factor=0.5, patience=0, window=1), Linear(steps=10), after=8, carry=True),
    Then(Linear(steps=4, start=0.1, end=1.0), Plateau(factor=0.5, patience=1), after=4),
]
