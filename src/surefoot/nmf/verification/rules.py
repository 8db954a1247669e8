"""What is checked: every rule that is stated as proved, what lies just above its edge, and what is documented as invalid."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from surefoot.nmf import cauchy_edge
from surefoot.nmf.verification import catapult, descent, expectation, minibatches, noisy, tight, tightness
from surefoot.nmf.verification.rule import Rule
from surefoot.nmf.verification.watching import joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.nmf.verification.fleets import Problems
    from surefoot.nmf.verification.watching import Found


def _and_where_tight(run: Callable[[Problems], Found], step: Callable[..., Found]) -> Callable[[Problems], Found]:
    """A run, and one step from the start at which the edge is tight."""
    return lambda fleet: joined(run(fleet), step(fleet, descent.BELOW))


_alternating, _together, _gradient = descent.alternating, descent.together, descent.along_gradient
_mean = expectation.unprojected

_RULES = (
    Rule(
        "block",
        "Codes and parts in turn, projected, below the block edge.",
        "proved",
        _and_where_tight(lambda fleet: _alternating(fleet, _gradient(descent.block())), tight.block_step),
    ),
    Rule(
        "block-collatz",
        "The same with the eigenvalue bounded from above by Collatz and Wielandt.",
        "proved",
        _and_where_tight(
            lambda fleet: _alternating(fleet, _gradient(descent.block("collatz"))), partial(tight.block_step, method="collatz")
        ),
    ),
    Rule(
        "cauchy",
        "Codes and parts in turn, not projected, below the exact edge along the gradient.",
        "proved",
        lambda fleet: _alternating(fleet, _gradient(cauchy_edge, is_projected=False)),
    ),
    Rule(
        "feasible",
        "Codes and parts in turn along feasible directions, below the exact edge.",
        "proved",
        lambda fleet: _alternating(fleet, descent.along_feasible_direction),
    ),
    Rule(
        "a-priori",
        "A constant rate below the a-priori edge, with balancing.",
        "proved",
        _and_where_tight(descent.a_priori, tight.a_priori_step),
    ),
    Rule(
        "cycle",
        "Codes and parts in turn, each by a safeguarded Chebyshev cycle of eight projected steps.",
        "proved",
        lambda fleet: _alternating(fleet, descent.along_cycle()),
    ),
    Rule(
        "cycle-balanced",
        "The same in units in which every part has length 1.",
        "proved",
        lambda fleet: _alternating(fleet, descent.along_cycle(balanced=True)),
    ),
    Rule(
        "masked",
        "Weighted entries, below the edge of the gram without weights.",
        "proved",
        partial(descent.masked, by_row=False),
    ),
    Rule(
        "masked-rows",
        "Weighted entries, each row below its own edge.",
        "proved",
        _and_where_tight(partial(descent.masked, by_row=True), tight.row_step),
    ),
    Rule(
        "segment",
        "Both at once, projected, below the segment edge.",
        "proved",
        _and_where_tight(lambda fleet: _together(fleet, descent.segment_move), tight.segment_step),
    ),
    Rule(
        "quartic",
        "Both at once, not projected, below the first root of the quartic.",
        "proved",
        lambda fleet: _together(fleet, descent.quartic_move),
    ),
    Rule(
        "quartic-feasible",
        "Both at once along a feasible direction, below the first root of its quartic.",
        "proved",
        lambda fleet: _together(fleet, descent.feasible_quartic_move),
    ),
    Rule(
        "noisy",
        "One noisy step, not projected, below the exact edge of the expected loss.",
        "proved",
        partial(_mean, edge=expectation.exact_edge),
    ),
    Rule(
        "snr",
        "One noisy step, not projected, below the edge by signal-to-noise ratio.",
        "proved",
        partial(_mean, edge=expectation.by_signal),
    ),
    Rule(
        "cap-and-clip",
        "Long runs with noise of fixed size, below half the edge now and half the edge at the start.",
        "held",
        partial(noisy.run, rates=noisy.cap_and_clip()),
    ),
    Rule(
        "running-maximum",
        "Batches of rows, below half the edge of the running maximum of their curvatures, and below the cap.",
        "held",
        minibatches.running_maximum,
    ),
    Rule("block-above", "One step at 1.02 block edges, where it is tight.", "above", tight.block_step),
    Rule(
        "block-collatz-above",
        "The same with Collatz and Wielandt's bound.",
        "above",
        partial(tight.block_step, method="collatz"),
    ),
    Rule(
        "cauchy-above",
        "Not projected, at 1.02 exact edges along the gradient.",
        "above",
        lambda fleet: _alternating(fleet, _gradient(cauchy_edge, is_projected=False), tight.ABOVE),
    ),
    Rule(
        "feasible-above",
        "Along feasible directions, at 1.02 exact edges.",
        "above",
        lambda fleet: _alternating(fleet, descent.along_feasible_direction, tight.ABOVE),
    ),
    Rule("a-priori-above", "One step at 1.02 a-priori edges, where it is tight.", "above", tight.a_priori_step),
    Rule("masked-rows-above", "One step at 1.02 row edges, where they are tight.", "above", tight.row_step),
    Rule("segment-above", "One joint step at 1.02 segment edges, where it is tight.", "above", tight.segment_step),
    Rule(
        "quartic-above",
        "Both at once, not projected, at 1.02 first roots of the quartic.",
        "above",
        lambda fleet: _together(fleet, descent.quartic_move, tight.ABOVE),
    ),
    Rule(
        "quartic-feasible-above",
        "Both at once along a feasible direction, at 1.02 first roots.",
        "above",
        lambda fleet: _together(fleet, descent.feasible_quartic_move, tight.ABOVE),
    ),
    Rule(
        "noisy-above",
        "One noisy step, not projected, at 1.5 exact edges.",
        "above",
        partial(_mean, edge=expectation.exact_edge, multiple=1.5),
    ),
    Rule(
        "snr-above",
        "One noisy step, not projected, at 1.5 edges by signal-to-noise ratio.",
        "above",
        partial(_mean, edge=expectation.by_signal, multiple=1.5),
    ),
    Rule(
        "cap-and-clip-above",
        "Long noisy runs with cap and clip at 1.5 edges.",
        "above",
        partial(noisy.run, rates=noisy.cap_and_clip(1.5)),
    ),
    Rule(
        "running-maximum-above",
        "Batches with running maximum and cap at 1.5 edges.",
        "above",
        partial(minibatches.running_maximum, scale=1.5),
    ),
    Rule(
        "mean-square-above",
        "Batches with expected smoothness and cap at 1.5 edges.",
        "above",
        partial(minibatches.in_mean_square, scale=1.5),
    ),
    Rule(
        "cauchy-projected",
        "The exact edge along the gradient, but projected.",
        "invalid",
        lambda fleet: _alternating(fleet, _gradient(cauchy_edge)),
    ),
    Rule(
        "quartic-projected",
        "The first root of the quartic, but projected.",
        "invalid",
        lambda fleet: _together(fleet, partial(descent.quartic_move, is_projected=True)),
    ),
    Rule(
        "cycle-unguarded",
        "Chebyshev cycles of eight projected steps, without the safeguard.",
        "invalid",
        lambda fleet: _alternating(fleet, descent.along_unguarded_cycle),
    ),
    Rule(
        "snr-projected",
        "One noisy step, projected, below the edge by the signal-to-noise ratio of the gradient mapping.",
        "invalid",
        expectation.projected,
    ),
    Rule(
        "own-batch",
        "Clipped by the edge of the very batch: the expected step rests more than 1% above the best loss.",
        "invalid",
        minibatches.rest_of_own_clip,
    ),
    Rule(
        "running-maximum-late",
        "Batches as above, with the maximum of the batches before the one whose step it limits.",
        "invalid",
        partial(minibatches.running_maximum, is_late=True),
    ),
    Rule(
        "clip-alone",
        "Long noisy runs below half the edge now, without a cap.",
        "invalid",
        partial(noisy.run, rates=noisy.clip_alone),
    ),
    Rule(
        "cap-alone",
        "Long noisy runs below half the edge at the start, without a clip.",
        "invalid",
        partial(noisy.run, rates=noisy.cap_alone),
    ),
    Rule(
        "mean-square",
        "Batches of rows, below half the edge of the expected smoothness, and below the cap.",
        "measured",
        minibatches.in_mean_square,
    ),
    Rule("as-set", "Long noisy runs at a random rate.", "measured", partial(noisy.run, rates=noisy.as_set)),
    Rule(
        "as-set-and-clipped", "The same rate with cap and clip.", "measured", partial(noisy.run, rates=noisy.as_set_and_clipped)
    ),
    Rule(
        "catapult",
        "Joint steps, projected, at a constant rate around the edge at the start.",
        "measured",
        partial(catapult.run, is_projected=True),
    ),
    Rule("catapult-unprojected", "The same without projection.", "measured", partial(catapult.run, is_projected=False)),
    Rule(
        "tight-block",
        "Largest stable multiple of the block edge.",
        "measured",
        partial(tightness.alternating, edge=tightness.now),
        few=True,
    ),
    Rule(
        "tight-start",
        "Largest stable multiple of the edge at the start, kept.",
        "measured",
        partial(tightness.alternating, edge=tightness.at_start),
        few=True,
    ),
    Rule(
        "tight-a-priori",
        "Largest stable multiple of the a-priori edge.",
        "measured",
        partial(tightness.alternating, edge=tightness.a_priori),
        few=True,
    ),
    Rule("tight-segment", "Largest stable multiple of the segment edge.", "measured", tightness.joint, few=True),
)
RULES = {rule.name: rule for rule in _RULES}
