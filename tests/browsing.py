"""Pages in a browser without a network."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
FLAGS = [f"--disable-{what}" for what in ("gpu", "quic", "background-networking", "component-update", "sync")]
FLAGS += ["--no-sandbox", "--no-first-run"]


@contextmanager
def opened(browser: Browser, html: str, folder: Path, width: int = 1280) -> Iterator[Page]:
    """A page that has been drawn; that nothing went wrong there is checked at the end."""
    path, wrong = folder / "page.html", []
    path.write_text(html, "utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    page.on("request", lambda request: request.url == path.as_uri() or wrong.append(request.url))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=20_000)
    yield page
    context.close()
    assert wrong == []
