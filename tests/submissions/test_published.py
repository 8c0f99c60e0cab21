"""The page of submitted entries: what is ranked, what is told, and what is left out."""

import json
import re
import shutil

import pytest
from entry_workshop import Workshop

from peerwatt_leaderboard.command import build


@pytest.fixture
def root(packed, tmp_path):
    root = shutil.copytree(packed["ippo"].parents[3], tmp_path / "results")
    (root / "ledger.jsonl").write_text("")
    return root


@pytest.fixture
def page(root, tmp_path, capsys):
    """Build the page and return its text, its data, and what was told."""

    def make():
        build(root, tmp_path / "site")
        text = (tmp_path / "site" / "index.html").read_text()
        data = tmp_path / "site" / "data" / "pilot-v1.json"
        table = json.loads(data.read_text()) if data.exists() else None
        return text, table, capsys.readouterr()

    return make


def entries(table):
    return sorted(entry["label"] for entry in table["entries"])


def test_entries_are_shown_with_who_made_them(page):
    text, table, told = page()
    assert "2 entries (4 runs) on 1 task\n" in told.out and told.err == ""
    assert entries(table) == ["ippo", "mid-quote"]
    assert text.count("not re-checked") >= 2 and "Not ranked" not in text
    assert "Ada Lovelace (ada@example.org)" in text
    assert '<a href="https://example.org/a" rel="noopener noreferrer nofollow">' in text
    assert table["entries"][0]["submission"]["submitter"]["name"] == "Ada Lovelace"
    assert table["entries"][0]["verified"] is None
    assert "default-src 'none'" in text
    below = text.index("</tbody>")
    assert '<small class="seal">○</small> not re-checked.' in text[below:]


def test_what_was_replayed_bears_a_seal(page, root, submit):
    assert submit("verify", next(root.glob("*/mid-quote/*/*")), "--record")[0] == 0
    text, table, _ = page()
    assert "reproduced: replayed on " in text and ": exact" in text
    sealed = {entry["label"]: entry["verified"] for entry in table["entries"]}
    assert sealed["ippo"] is None and sealed["mid-quote"]["verdict"] == "exact"


def test_outdated_and_superseded_entries_are_told_and_not_ranked(page, root, runs, submit):
    shop = Workshop(next(root.glob("*/ippo/*/*")), root.with_name("shop"))
    shop.edit_all(lambda c: c["task"].update(content_hash="0" * 64))
    shop.seal()
    shutil.copytree(shop.folder, root / shop.folder.relative_to(shop.root))
    old = next(root.glob("*/mid-quote/*/*"))
    words = ("--name", "Ada Lovelace", "--contact", "ada@example.org", "--supersedes", old.name)
    assert submit("pack", runs["mid-quote"], "--out", root, *words)[0] == 0
    text, table, told = page()
    assert entries(table) == ["ippo", "mid-quote"] and told.err == ""
    outdated = text[text.index("Outdated or superseded</h3>") :]
    rows = re.findall(r"<tr><td>(.*?)</td></tr>", outdated)
    assert len(rows) == 2
    assert "task content 000000000000, today it is" in outdated
    assert f"<code>{old.name}</code>" in outdated and "superseded by " in outdated


def test_removals_are_told_with_their_reason(page, root, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    reason = "trained on test scenarios <b>"
    assert submit("remove", entry.name, "--reason", reason, "--results", root)[0] == 0
    text, table, _ = page()
    assert entries(table) == ["ippo"]
    assert f"pilot-v1/mid-quote/0.1.0/{entry.name}" in text
    assert "trained on test scenarios &lt;b&gt;" in text


def test_one_bad_entry_leaves_the_page_alone(page, root):
    result = next(root.glob("*/mid-quote/*/*/seed-000/result.json"))
    result.write_text("{")
    text, table, told = page()
    assert entries(table) == ["ippo"]
    assert "left out: " in told.err and "result.json: has another SHA-256" in told.err
    assert "Left out, because they are not as they should be" in text


def test_a_copied_configuration_is_told_and_takes_nothing_down(page, root, tmp_path):
    entry = next(root.glob("*/mid-quote/*/*"))
    told = json.loads((entry / "entry.json").read_text())["entry_id"]
    for change in ({"licence": "CC0-1.0"}, {"supersedes": told}):
        shop = Workshop(entry, tmp_path / "shop")
        shop.edit(shop.entry, lambda content, change=change: content.update(change))
        shop.seal()
        shutil.copytree(shop.folder, root / shop.folder.relative_to(shop.root))
        shutil.rmtree(shop.root)
    text, table, told = page()
    assert entries(table) == ["ippo", "mid-quote"]
    assert told.err.count("nothing decides between the two") == 2
    assert text.count("nothing decides between the two") == 2


def test_a_root_without_entries_is_a_page(page, root):
    shutil.rmtree(root / "pilot-v1")
    text, table, told = page()
    assert table is None and "No entry has been submitted yet" in text
    assert "0 entries (0 runs) on 0 tasks" in told.out
