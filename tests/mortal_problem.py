"""Lessons, one of whose tasks kills the process that it is trained in, as often as a file beside this one says."""

import os
import signal
from pathlib import Path

from surefoot.control import Control
from surefoot.episodes import Task
from surefoot.features import Features
from surefoot.fleet import fleet
from surefoot.learn import Lesson, Settings
from surefoot.nmf import Factorisation, Matrices

LIVES = Path(__file__).with_name("lives")
LAST = 17
"""The step, of all that a process makes, that it does not come back from."""
USUAL = Settings(rounds=2, checks=1, validation=2, epochs=2, hidden=(4,))


class Mortal:
    """A fleet that is what it was, but for that."""

    def __init__(self, mine):
        self.mine, self.done = mine, 0

    def __getattr__(self, name):
        return getattr(self.mine, name)

    def __repr__(self):
        return f"Mortal({self.mine!r})"

    def step(self, *given):
        self.done += 1
        if self.done == LAST and LIVES.exists() and (left := int(LIVES.read_text())) > 0:
            LIVES.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.mine.step(*given)


def several():
    """Tasks whose episodes end at different times."""
    tiny = Factorisation("tiny", draw=Matrices(rows=12, columns=8, held_out=4, rank=(2, 2)), rank=2, batch_size=4, steps=23)
    made = []
    for steps, count in ((23, 3), (40, 2), (11, 4)):
        control = Control(Features(window=5), steps=steps, first=(1, 2))
        made.append((Task(Mortal(fleet(tiny)) if steps == 40 else fleet(tiny), control, steps), count))
    return Lesson("several", tuple(made), USUAL)


def failing():
    """One that cannot be trained."""
    lesson = several()

    def fail(*_):
        raise RuntimeError("no data left")

    lesson.tasks[1][0].fleet.step = fail
    return lesson
