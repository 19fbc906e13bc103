"""Debian's Chromium, driven by Playwright; without one these tests are skipped by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

CHROMIUM = which("chromium") or which("chromium-browser")
#: Milliseconds for what must come, on a machine that is busy.
PATIENCE = 30_000
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    if not CHROMIUM:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("No Chromium is installed: apt-get install chromium.")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
