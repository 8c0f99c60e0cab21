"""MkDocs hook: take the network out of the theme's scripts, so that nobody has to trust them.

They know addresses of features that no page here uses: diagrams, the stars of a repository, and a
stand-in for browsers before 2020.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

_LOADED = re.compile(r"https://(unpkg\.com|api\.github\.com|gitlab\.com)/")


def on_post_build(config: Any, **_: Any) -> None:
    """Make each such address one that leads nowhere, and drop other languages' search."""
    shutil.rmtree(Path(config.site_dir, "assets", "javascripts", "lunr"))
    for script in Path(config.site_dir, "assets", "javascripts").rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        mended = _LOADED.sub("about:blank#", text)
        if mended != text:
            script.write_text(mended, encoding="utf-8")
