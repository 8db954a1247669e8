"""What learned policies do and are worth, drawn from the rows of the studies: `python docs/study_pictures.py`."""

from __future__ import annotations

from pathlib import Path

from surefoot import document
from surefoot.judge import folder as folders
from surefoot.judge.figures import sensitivity, shapes
from surefoot.vega import svg

HERE = Path(__file__).parent
DRAWN = {
    "nmf": ("judge-nmf", "nmf@", ("unseen", "large")),
    "networks": ("judge-networks", "networks-gradient@", ("digits-residual", "teacher-residual", "fashion-32")),
}
"""By picture: a study, who is drawn, and in which of its arenas."""


def draw(images: Path) -> None:
    """Draw all of them into this folder."""
    for name, (study, who, arenas) in DRAWN.items():
        found, known = folders.read(HERE.parent / "studies" / study, arenas)
        labels = [each.label for each in known if each.label.startswith(who)]
        document.write(images / f"learned-shapes-{name}.svg", svg(shapes(found, labels)))
        document.write(images / f"learned-starts-{name}.svg", svg(sensitivity(found, labels)))


if __name__ == "__main__":
    draw(HERE / "images")
