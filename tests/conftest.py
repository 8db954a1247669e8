"""Settings and fixtures of the test suite."""

import pytest
from hypothesis import settings

import browsing

settings.register_profile("surefoot", max_examples=200, deadline=None, derandomize=True)
settings.load_profile("surefoot")


@pytest.fixture(scope="module")
def browser():
    """Chromium, where it is installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    if browsing.CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=browsing.CHROMIUM, args=browsing.FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def one_thread():
    """PyTorch's work in one thread: small networks only wait for a second one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
