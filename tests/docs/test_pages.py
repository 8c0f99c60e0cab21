"""The code of the documentation does what the pages say.

In a page, a fenced block with a title is a file. In a block `console` each line `$ ...` is a
command (it goes on in the next line after a backslash), run in the folder of these files, and a
non-zero exit is a failure. Blocks `shell-session` look the same but are not run: they install
something, or take long.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```([\w-]+)(?: title=\"([\w.-]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(page.name for page in DOCS.glob("*.md"))


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Return (language, title, text) of each fenced block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [(m[1], m[2] or "", m[3]) for m in FENCE.finditer(text)]


def commands(text: str) -> list[str]:
    """Return the commands of a block `console`."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line[2:] for line in lines if line.startswith("$ ")]


RUNNABLE = [page for page in PAGES if any(language == "console" for language, _, _ in blocks(page))]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_one_that_is_known(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text.count("\n```") == 2 * len(blocks(page))
    for language, title, content in blocks(page):
        assert language in ("python", "toml", "console", "shell-session", "math", "text")
        assert title or language != "console" or commands(content)
        if language == "python":
            ast.parse(content)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE)
def test_the_code_of_a_page_runs(page, tmp_path):
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PEERWATT_", "PYTEST_"))
    }
    # `python`, `peerwatt` and `pytest` are those of the environment that runs the tests.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for language, title, text in blocks(page):
        if title:
            (tmp_path / title).write_text(text, encoding="utf-8")
        elif language == "console":
            for command in commands(text):
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", command],
                    cwd=tmp_path,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=300,
                )
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
