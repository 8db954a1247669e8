"""Settings of the test suite."""

from hypothesis import settings

settings.register_profile("surefoot", max_examples=200, deadline=None, derandomize=True)
settings.load_profile("surefoot")
