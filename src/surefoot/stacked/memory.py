"""How many runs are worked on at once."""
from __future__ import annotations
def at_once(fleet, runs):
    return runs
