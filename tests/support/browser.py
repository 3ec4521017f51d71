"""A page in headless Chromium: a harness puts it into a frame, uses it as a person would, and reports what it found.

Chromium is Debian's package of that name. axe-core, which looks for barriers, is an npm package: `npm install --global
axe-core`, or AXE_CORE names its axe.min.js.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PLACES = (ROOT, Path("/usr/local/lib"), Path("/usr/lib"))
"""Folders whose node_modules may have axe-core."""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
)  # fmt: skip
DARK = "--blink-settings=preferredColorScheme=0"

_HARNESS = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe width="{width}" height="{height}" style="border:0"></iframe><script>
const frame = document.querySelector("iframe");
const encoded = (found) => btoa(unescape(encodeURIComponent(JSON.stringify(found))));
const write = (found) => {{ document.body.textContent = "FOUND" + encoded(found) + "END"; }};
frame.addEventListener("load", async () => {{ try {{
  const page = frame.contentDocument, view = frame.contentWindow;
  write(await (async () => {{ {steps} }})());
}} catch (error) {{ write({{ error: String(error) }}); }} }});
frame.srcdoc = {page};
</script>"""


def axe_core() -> Path | None:
    """The script of axe-core, or None if it is not here."""
    named = os.environ.get("AXE_CORE")
    places = [Path(named)] if named else [root / "node_modules" / "axe-core" / "axe.min.js" for root in PLACES]
    return next((place for place in places if place.is_file()), None)


def browse(
    folder: Path, text: str, steps: str, size: tuple[int, int] = (400, 800), flags: tuple[str, ...] = ()
) -> tuple[dict[str, Any], str]:
    """What `steps` returns, JavaScript that sees `page` and `view`, and what the browser's console said."""
    assert CHROMIUM is not None
    harness = folder / "harness.html"
    page = json.dumps(text).replace("</", "<\\/")
    harness.write_text(_HARNESS.format(width=size[0], height=size[1], steps=steps, page=page))
    profile = f"--user-data-dir={folder / 'profile'}"
    window = f"--window-size={size[0] + 100},{size[1] + 200}"
    command = [CHROMIUM, *FLAGS, "--virtual-time-budget=20000", profile, window, *flags, "--dump-dom", harness.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    encoded = done.stdout.partition("FOUND")[2].partition("END")[0]
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(base64.b64decode(encoded)), console
