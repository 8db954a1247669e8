"""A page that is one file: it loads nothing, works offline, and is dark where its reader's system is."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from surefoot import __version__, vega, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


def render(
    *,
    title: str,
    command: str,
    notes: Sequence[str],
    sections: Iterable[str],
    reading: Mapping[str, str],
    specs: Sequence[vega.Spec],
) -> str:
    """An HTML document with everything in it.

    Args:
        title: The heading.
        command: The command that made it.
        notes: Paragraphs under the heading.
        sections: HTML, with an element `figure-0`, `figure-1` and so on for each of the specifications.
        reading: How to read the page: explanations by what they explain.
        specs: What is drawn, in Vega-Lite.

    Raises:
        ImportError: vl-convert-python is not installed.
    """
    bundle = vega.converter().javascript_bundle()
    return Template(files("surefoot").joinpath("page.html").read_text("utf-8")).substitute(
        title=escape(title),
        font=vega.FONT,
        light=_palette(vega.LIGHT),
        dark=_palette(vega.DARK),
        notes="\n".join(f"<p>{escape(note)}</p>" for note in notes),
        sections="\n".join(sections),
        reading="\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in reading.items()),
        command=escape(command),
        version=escape(__version__),
        figures=_json({"specs": specs, "themes": vega.themes()}),
        # Neither stands in the bundle today; in a string of JavaScript the backslash changes nothing.
        bundle=bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--"),
    )


def write(path: str | Path, held: str | bytes) -> Path:
    """Write a file, all of it or nothing, and return its path.

    Args:
        path: The file, replaced if it is there; its folder exists.
        held: What it shall hold; text in UTF-8.

    Raises:
        OSError: The file cannot be written.
    """
    return whole.write(path, held.encode() if isinstance(held, str) else held)


def _json(value: Any) -> str:
    """JSON that can stand inside a script element, whatever its strings say."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _palette(colours: Sequence[str]) -> str:
    return " ".join(f"--c{number}: {colour};" for number, colour in enumerate(colours))
