"""The tutorial's pictures, drawn from what its own examples leave behind: `python docs/tutorial_pictures.py`."""

from __future__ import annotations

from doctest import DocTestParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.vega import LIGHT, Spec, converter, theme, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from surefoot.ratings import Ratings

HERE = Path(__file__).parent
PAGE, FOLDER = HERE / "nmf" / "tutorial.md", HERE / "images" / "nmf"
SIDE, PIXEL, GAP = 28, 2, 4
SHADES = 24  # More are hard to see, and make the file larger.
OURS, OTHERS, INK = LIGHT[0], LIGHT[6], "#33373d"


def variables(page: Path) -> dict[str, Any]:
    """What a page's examples leave behind."""
    found: dict[str, Any] = {}
    for example in DocTestParser().get_examples(page.read_text("utf-8").replace("```", "")):
        exec(compile(example.source, page.name, "exec"), found)  # noqa: S102 - the page is ours
    return found


def drawn(found: dict[str, Any]) -> dict[str, Spec]:
    """The pictures by name."""
    shown = found["others"][:12]
    sums = found["wardrobe"].inverse_transform(found["wardrobe"].transform(shown))
    one_number, movie, generosity, predicted = (found[name] for name in ("one_number", "movie", "generosity", "predicted"))
    stars = {
        "one number for all": one_number,
        "the movie's mean": movie,
        "and the user's generosity": movie + generosity,
        "two parts": predicted,
    }
    line, greedy = found["line"], found["greedy"]
    return {
        "parts": sheet(found["wardrobe"].components_, across=12),
        "sums": sheet(np.concatenate([shown, sums]), across=12),
        "topics": topics(found["library"].components_, found["texts"].words),
        "ratings": bars({what: found["stars_off"](prediction) for what, prediction in stars.items()}, "error in stars"),
        "taste": taste(found["share"], found["ratings"], most=24),
        "rates": {"hconcat": [rates(line, "Linear(steps=200)"), rates(greedy, "Greedy(factor=0.8, patience=3, window=10)")]},
    }


def sheet(images: NDArray[Any], across: int) -> Spec:
    """Images of 28 x 28 as one picture, each from white to the darkest of its own ink."""
    down = -(-len(images) // across)
    paper = np.zeros((down * (SIDE + GAP), across * (SIDE + GAP)))
    for place, image in enumerate(images):
        row, column = divmod(place, across)
        corner = np.s_[row * (SIDE + GAP) :, column * (SIDE + GAP) :]
        paper[corner][:SIDE, :SIDE] = image.reshape(SIDE, SIDE) / image.max()
    paper = paper[:-GAP, :-GAP]
    squares = [
        {"x": int(x), "y": int(y), "right": int(x) + 1, "bottom": int(y) + 1, "ink": round(SHADES * float(paper[y, x]))}
        for y, x in np.argwhere(np.rint(SHADES * paper))
    ]
    height, width = paper.shape
    place = {"type": "quantitative", "axis": None}
    return {
        "data": {"values": squares},
        "mark": {"type": "rect", "strokeWidth": 0},
        "encoding": {
            "x": {"field": "x", "scale": {"domain": [0, width], "nice": False}, **place},
            "y": {"field": "y", "scale": {"domain": [0, height], "nice": False, "reverse": True}, **place},
            "x2": {"field": "right"},
            "y2": {"field": "bottom"},
            "color": {
                "field": "ink",
                "type": "quantitative",
                "scale": {"domain": [0, SHADES], "range": ["#ffffff", "#15191f"], "interpolate": "rgb"},
                "legend": None,
            },
        },
        "width": width * PIXEL,
        "height": height * PIXEL,
    }


def topics(parts: NDArray[Any], words: Sequence[str], heaviest: int = 6) -> Spec:
    """The heaviest words of each part, as bars with the words on them."""
    rows = [
        {"topic": topic + 1, "place": place, "word": words[word], "weight": float(part[word] / part.max())}
        for topic, part in enumerate(parts)
        for place, word in enumerate(np.argsort(-part)[:heaviest])
    ]
    y = {"field": "place", "type": "ordinal", "axis": None}
    weight = {"field": "weight", "type": "quantitative", "scale": {"domain": [0, 1]}, "axis": None}
    bar = {"mark": {"type": "bar", "color": OURS, "opacity": 0.3, "height": {"band": 0.86}}, "encoding": {"x": weight, "y": y}}
    word = {
        "mark": {"type": "text", "align": "left", "fontSize": 12, "color": INK},
        "encoding": {"x": {"value": 5}, "y": y, "text": {"field": "word"}},
    }
    return {
        "data": {"values": rows},
        "facet": {"field": "topic", "type": "ordinal", "header": {"labelExpr": "''", "title": None, "labelFontSize": 1}},
        "columns": 4,
        "spacing": 18,
        "spec": {"layer": [bar, word], "width": 190, "height": 116},
    }


def bars(errors: dict[str, float], title: str) -> Spec:
    """One bar for each error, with its number; the last is ours."""
    rows = [{"what": what, "error": error} for what, error in errors.items()]
    *_, last = errors
    y = {
        "field": "what",
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "minExtent": 220, "ticks": False, "domain": False},
    }
    x = {"field": "error", "type": "quantitative", "axis": {"title": title, "grid": False, "tickCount": 5}}
    colour = {"condition": {"test": {"field": "what", "equal": last}, "value": OURS}, "value": OTHERS}
    return {
        "data": {"values": rows},
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": {"type": "bar", "height": {"band": 0.7}}, "encoding": {"color": colour}},
            {"mark": {"type": "text", "align": "left", "dx": 5}, "encoding": {"text": {"field": "error", "format": ".2f"}}},
        ],
        "width": 480,
        "height": {"step": 28},
    }


def taste(share: NDArray[Any], ratings: Ratings, most: int) -> Spec:
    """The movies with the most ratings on a line from the one part to the other."""
    often = np.argsort(-np.isfinite(ratings.table).sum(axis=0))[:most]
    rows = [{"movie": ratings.titles[movie], "share": float(share[movie])} for movie in often]
    y = {"field": "movie", "type": "nominal", "sort": {"field": "share"}, "title": None}
    ticks_of = {"domain": False, "ticks": False, "grid": True, "labelLimit": 230, "minExtent": 250}
    x = {"field": "share", "type": "quantitative", "scale": {"domain": [0, 1]}, "axis": {"format": ".0%", "grid": False}}
    return {
        "data": {"values": rows},
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": OURS},
        "encoding": {"x": {**x, "title": "share of the first part"}, "y": {**y, "axis": ticks_of}},
        "width": 380,
        "height": {"step": 19},
    }


def rates(model: Any, title: str) -> Spec:
    """The rate of the parts and the bound that it stays under, step by step."""
    lines = {"the bound": model.bound_history_, "the rate": model.rate_history_}
    rows = [{"step": at, "what": what, "rate": rate} for what, values in lines.items() for at, rate in enumerate(values)]
    low, high = 3e-6, 2e-2  # The same in both pictures.
    y = {
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {"format": "~g", "values": ticks(low, high, most=6)},
    }
    hue = {"domain": list(lines), "range": [OTHERS, OURS]}
    return {
        "title": {"text": title, "fontSize": 12},
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round", "clip": True},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "axis": {"title": "step", "grid": False, "tickCount": 5}},
            "y": {"field": "rate", "type": "quantitative", "title": None, **y},
            "color": {"field": "what", "type": "nominal", "scale": hue, "legend": {"orient": "top", "title": None}},
        },
        "width": 310,
        "height": 220,
    }


def dressed(specification: Spec) -> Spec:
    """On white, in the colours of all other pictures."""
    return {**specification, "padding": 8, "config": {**theme(), "background": "white"}}


def main() -> None:
    """Draw them all: photographs as PNG, everything else as SVG."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, specification in drawn(variables(PAGE)).items():
        if name in {"parts", "sums"}:
            (FOLDER / f"{name}.png").write_bytes(converter().vegalite_to_png(dressed(specification), scale=1))
        else:
            (FOLDER / f"{name}.svg").write_text(converter().vegalite_to_svg(dressed(specification)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
