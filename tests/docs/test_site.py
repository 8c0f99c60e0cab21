"""The built site: strict, complete, and without the network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from peerwatt.evaluation import METRICS
from peerwatt.plugins.loader import registry
from peerwatt.plugins.specs import PROJECT

ROOT = Path(__file__).parents[2]
MISSING = [
    name
    for name in ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers", "latex2mathml")
    if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"no {', '.join(MISSING)}: pip install --group docs"
)

# Licences in comments, and names of XML namespaces.
HARMLESS = re.compile(
    r"https?://(www\.w3\.org|clipboardjs\.com|lunrjs\.com|tartarus\.org|bit\.ly)$"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


class Loads(HTMLParser):
    """Collects the addresses that a browser loads with a page, and its inline styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.found += [
            values[name] for name in ("src", "srcset", "data", "poster") if name in values
        ]
        if tag == "link" and values.get("rel") != "canonical":
            self.found.append(values.get("href", ""))
        if tag in ("image", "use"):
            self.found += [values.get("href", ""), values.get("xlink:href", "")]
        self.found += re.findall(r"url\(([^)]*)", values.get("style", ""))


def external(address: str) -> bool:
    return bool(re.match(r"\s*[\"']?(https?:)?//", address))


def test_no_page_loads_anything_from_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.found, page
        assert not [address for address in loads.found if external(address)], page


def test_no_style_or_script_loads_anything_from_the_network(site):
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        addresses = re.findall(r"url\(([^)]*)|@import\s+(\S+)", text)
        assert not [a for pair in addresses for a in pair if external(a)], sheet
    for script in [*site.rglob("*.js"), *site.rglob("*.html")]:
        text = script.read_text(encoding="utf-8")
        if script.suffix == ".html":  # scripts within pages
            text = "".join(re.findall(r"<script\b[^>]*>(.*?)</script>", text, re.DOTALL))
        elif script.name == "search_index.js":
            continue
        wild = [a for a in re.findall(r"https?://[\w.-]+", text) if not HARMLESS.match(a)]
        assert not wild, (script, wild)


def test_the_index_of_the_search_is_local(site):
    assert (site / "search" / "search_index.js").stat().st_size > 50_000


@pytest.mark.parametrize("kind", ["task", "algorithm", "critic", "mechanism", "sink"])
def test_the_reference_lists_every_plugin(site, kind):
    text = (site / "reference" / f"{kind}s.html").read_text(encoding="utf-8")
    own = [name for name, plugin in registry()[kind].items() if plugin.distribution == PROJECT]
    assert own
    for name in own:
        assert f'<h2 id="{name}">' in text


def test_the_reference_lists_every_metric_option_and_command(site):
    def page(name: str) -> str:
        return (site / "reference" / f"{name}.html").read_text(encoding="utf-8")

    assert not [name for name in METRICS if f"<code>{name}</code>" not in page("metrics")]
    assert "<code>--algorithm.learning-rate</code>" in page("algorithms")
    assert "Step size of Adam at the start." in page("algorithms")
    for name in registry()["command"]:
        assert f"peerwatt {name}" in page("command-line")
    words = (
        "run status resume compare regress golden speed export report sync evaluate plugins submit"
    )
    for command in words.split():
        assert f'<h2 id="{command}">' in page("command-line")


def test_formulas_are_mathml(site):
    text = (site / "scoring.html").read_text(encoding="utf-8")
    assert text.count("<math ") > 40
    assert "$`" not in text and "language-math" not in text
