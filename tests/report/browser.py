"""A page as a browser shows it: headless Chromium, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Runs in a copy of the page alone: what stands beyond the right edge and cannot be scrolled to.
_PROBE = """<script>document.title = [...document.querySelectorAll('body *')].filter(e =>
!e.closest('.scroll, pre') && e.getBoundingClientRect().right > innerWidth + 1).map(e =>
e.tagName + ':' + (e.textContent || '').trim().slice(0, 30)).join(';') || 'fits'</script>"""


def chromium() -> str:
    """Return the browser, or skip the test."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here")
    return found


def looked_at(page: Path, out: Path, *, dark: bool = False, width: int = 1100) -> np.ndarray:
    """Return the top of the page as pixels. Shape: uint8 (900, width, 3)."""
    _run(
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--hide-scrollbars",
        f"--window-size={width},900",
        f"--screenshot={out}",
        page.as_uri(),
    )
    with Image.open(out) as image:
        return np.asarray(image.convert("RGB"))


def beyond_the_edge(page: Path, copy: Path, *, width: int) -> str:
    """Return what lies beyond the right edge of a window; "fits" for nothing."""
    source = page.read_text(encoding="utf-8")
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)
    copy.write_text(source.replace("</body>", _PROBE + "</body>"), encoding="utf-8")
    dom = _run(f"--window-size={width},900", "--dump-dom", copy.as_uri())
    title = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert title is not None, "the browser gave no page"
    return title[1]


def printed(page: Path, out: Path) -> int:
    """Return how many pages it prints on."""
    _run(f"--print-to-pdf={out}", page.as_uri())
    return len(re.findall(rb"/Type\s*/Page\b", out.read_bytes()))


def _run(*words: str) -> str:
    command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout
