"""Learning policies by reinforcement: what on, how, and what is kept of it."""

from surefoot.learn.lessons import NAMES, Lesson, lesson
from surefoot.learn.settings import Settings
from surefoot.learn.training import Record, Training, train

__all__ = ["NAMES", "Lesson", "Record", "Settings", "Training", "lesson", "train"]
