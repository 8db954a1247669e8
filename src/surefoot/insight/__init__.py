"""What a learned policy saw and did: as rows, in words, and on a page."""

from surefoot.insight.tracing import Moment, Trace, trace

__all__ = ["Moment", "Trace", "trace"]
