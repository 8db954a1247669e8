"""The page people look at: one file that shows what every policy did, and how it ended."""

from __future__ import annotations

from html import escape
from math import isfinite
from typing import TYPE_CHECKING

from surefoot import document, pictures, stats
from surefoot.pictures import picture, policy_picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from surefoot.stats import Cell, Summary

__all__ = ["page", "picture", "policy_picture", "write"]

READING = {
    "Learning rate": (
        "What every policy set at each step: the median over the seeds, and a thin line for each seed where "
        "they differ. The axis is logarithmic; rates below a thousandth of the base rate, zero among them, "
        "are drawn at that height."
    ),
    "Held-out loss": (
        "The loss on data that is never trained on: the mean over the seeds, and a band from the lowest to "
        "the highest of them. Curves that climb far above the loss before training leave the picture."
    ),
    "Training loss": "The running mean over the last 2% of the steps, averaged over the seeds.",
    "A cross": "A run diverged there: its loss was no longer finite, and it was stopped. Means go on over the other seeds.",
    "Click": (
        "A name in the legend shows that policy alone, and with shift adds it or takes it away, in all three "
        "plots. A double click brings all of them back."
    ),
    "Point": "Anywhere in a plot to read the values at the nearest step.",
}


def page(cells: Sequence[Cell], *, title: str, command: str, notes: Sequence[str] = ()) -> str:
    """An HTML document with everything in it: it loads nothing, and works offline.

    Args:
        cells: What is shown, in this order.
        title: The page's heading.
        command: The command that made it.
        notes: Paragraphs under the heading.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    colours = pictures.order(label for cell in cells for label in cell.runs)
    return document.render(
        title=title,
        command=command,
        notes=notes,
        sections=(_section(number, cell, colours) for number, cell in enumerate(cells)),
        reading=READING,
        specs=[pictures.specification(cell, colours) for cell in cells],
    )


def write(path: str | Path, cells: Sequence[Cell], *, title: str, command: str, notes: Sequence[str] = ()) -> Path:
    """Write the page, all of it or nothing, and return its path.

    Args:
        path: The file, replaced if it is there; its folder exists.
        cells: What is shown, in this order.
        title: The page's heading.
        command: The command that made it.
        notes: Paragraphs under the heading.

    Raises:
        ImportError: vl-convert-python is not installed.
        OSError: The file cannot be written.
    """
    return document.write(path, page(cells, title=title, command=command, notes=notes))


def _section(number: int, cell: Cell, colours: Sequence[str]) -> str:
    seeds = max(summary.runs for summary in cell.summaries)
    ranks = "" if cell.ranks == 1 else f"{cell.ranks} ranks, "
    return f"""<section>
<h2>{escape(cell.problem)} with {escape(cell.optimizer)}</h2>
<p class="quiet">Base rate {cell.base:g}, {cell.steps:,} steps, {ranks}{_count(seeds, "seed")}, every policy at the same \
untuned base rate.</p>
<figure id="figure-{number}" class="tall" aria-label="Learning rates and losses of {escape(cell.problem)} with \
{escape(cell.optimizer)}"></figure>
{_table(cell, colours, seeds)}
</section>"""


def _table(cell: Cell, colours: Sequence[str], seeds: int) -> str:
    diverged = any(summary.diverged for summary in cell.summaries)
    heads = ["policy", "final held-out loss", f"versus {cell.reference}", "steps to target", *["diverged runs"] * diverged]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "\n".join(_row(cell, summary, colours, diverged=diverged) for summary in cell.summaries)
    return f"""<div class="table"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
<p class="quiet">{escape(_caption(cell, seeds))}</p></div>"""


def _row(cell: Cell, summary: Summary, colours: Sequence[str], *, diverged: bool) -> str:
    colour, dashes = pictures.look(colours.index(summary.policy))
    texts = [_final(summary), "reference" if summary.policy == cell.reference else _percent(summary.versus)]
    texts.append(f"{summary.steps_to_target:,.0f}" if isfinite(summary.steps_to_target) else "missed")
    texts += [f"{summary.diverged} of {summary.runs}" if summary.diverged else "none"] * diverged
    swatch = f'<span class="swatch{" dashed" * bool(dashes)}" style="color: var(--c{colour})"></span>'
    cells = "".join(f"<td>{text}</td>" for text in texts)
    return f'<tr><th scope="row">{swatch}{escape(summary.policy)}</th>{cells}</tr>'


def _final(summary: Summary) -> str:
    if not isfinite(summary.final):
        return "diverged"
    return f"{summary.final:#.4g}".rstrip(".") + (f" ± {_two_digits(summary.spread)}" if isfinite(summary.spread) else "")


def _two_digits(spread: float) -> str:
    text = f"{spread:.2g}"
    return f"{spread:,.0f}" if "e+" in text else text


def _percent(fraction: float) -> str:
    """A signed percentage, with the sign that is as wide as the plus.

    >>> _percent(0.031)
    '+3.1%'
    """
    return f"{fraction:+,.1%}".replace("-", "\N{MINUS SIGN}") if isfinite(fraction) else "\N{EN DASH}"


def _caption(cell: Cell, seeds: int) -> str:
    if isfinite(cell.target):
        margin = f"{stats.TARGET_MARGIN - 1:.0%}"
        target = f"The target is a held-out loss of {cell.target:.4g}, {margin} above the median final one of {cell.reference}"
        target += "; steps to it are the median over the seeds, missed if half of them never came there."
    else:
        target = f"There is no target, because {cell.reference} diverged."
    return (
        f"Final is the mean of a run's last {stats.LAST_EVALUATIONS} held-out losses, here averaged over the seeds, "
        f"± their standard deviation. Versus {cell.reference}: the mean difference seed by seed; + is a higher loss, so worse. "
        f"{target} These figures are of this problem, this budget, this untuned base rate and {_count(seeds, 'seed')} only; "
        "they prove no ranking."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
