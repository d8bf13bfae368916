"""Debian's Chromium without a window, driven by Playwright, which then needs no browser of its own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROGRAM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",  # tests may run as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator["Browser"]:  # noqa: F821 - playwright may be missing
    """A browser; skips the test that asks for it where the machine has none.

    Playwright keeps an event loop running in this thread for as long: keep it to modules without asyncio.run.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")
    if not os.path.exists(PROGRAM):
        pytest.skip(f"no Chromium at {PROGRAM}: make test-browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS, headless=True)
        yield browser
        browser.close()
