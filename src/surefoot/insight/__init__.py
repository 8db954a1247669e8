"""What a learned policy saw and did: as rows, in words, and on a page."""

from surefoot.insight.trace import Row, Trace, trace

__all__ = ["Row", "Trace", "trace"]
