"""A picture that shows itself in a notebook, and can be saved."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot import document, vega

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.vega import Spec

SUFFIXES = (".svg", ".png", ".html", ".json")
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
# What is drawn by day, and what stands for it by night: paper, ink, faint lines and the colours.
_NIGHT = {"white": "#16181c", "#33373d": "#c9ced6", "#e4e6e9": "#2c3036", **dict(zip(vega.LIGHT, vega.DARK, strict=True))}


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture: in a notebook it shows itself, `save` writes it to a file.

    Attributes:
        title: What it shows.
        spec: What is drawn, in Vega-Lite.
        reading: How to read it, by what there is to read; on the page that `save` makes.
        made: The code that made it, for the same page.
    """

    title: str
    spec: Spec = field(repr=False)
    reading: dict[str, str] = field(repr=False)
    made: str = field(repr=False)

    def svg(self) -> str:
        """The picture as SVG, light or dark as its reader's system is.

        Raises:
            ImportError: vl-convert-python is not installed.
        """
        drawn = vega.svg(self.spec)
        end = drawn.index(">", drawn.index("<svg")) + 1
        # A style sheet beats the attributes that Vega writes, so that one file serves day and night.
        rules = "".join(f'[fill="{day}"]{{fill:{night}}}[stroke="{day}"]{{stroke:{night}}}' for day, night in _NIGHT.items())
        return f"{drawn[:end]}<style>@media (prefers-color-scheme: dark){{{rules}}}</style>{drawn[end:]}"

    def html(self) -> str:
        """The picture as a page that loads nothing, with tooltips.

        Raises:
            ImportError: vl-convert-python is not installed.
        """
        return document.render(
            title=self.title,
            command=self.made,
            notes=[],
            sections=[f'<section><figure id="figure-0" aria-label="{escape(self.title)}"></figure></section>'],
            reading=self.reading,
            specs=[self.spec],
        )

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file, all of it or nothing, and return the file's path.

        Args:
            path: A name that ends in `.svg`, `.png`, `.html` (with tooltips, and nothing to load) or `.json` (Vega-Lite), in
                a folder that exists; a file of that name is replaced.

        Raises:
            ImportError: vl-convert-python is not installed.
            OSError: The file cannot be written.
            ValueError: The name ends in something else.
        """
        path = Path(path)
        makers: dict[str, Callable[[], str | bytes]] = {
            ".svg": self.svg,
            ".png": self._png,
            ".html": self.html,
            ".json": self._json,
        }
        made = makers.get(path.suffix.lower())
        if made is None:
            raise ValueError(f"a picture is saved as {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, got {path.name!r}")
        return document.write(path, made())

    def _png(self) -> bytes:
        made: bytes = vega.converter().vegalite_to_png(vega.on_white(self.spec), scale=2)
        return made

    def _json(self) -> str:
        return json.dumps({"$schema": _SCHEMA, **vega.on_white(self.spec)}, allow_nan=False)

    def _repr_html_(self) -> str:
        return f'<div style="max-width: 100%; overflow-x: auto">{self.svg()}</div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook asks for; it shows the richest form that it can."""
        del include, exclude
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
