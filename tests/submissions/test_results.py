"""A whole results root: append-only, with a ledger, corrections and outdated entries."""

import json
import shutil

import pytest
from entry_workshop import Workshop

from peerwatt.errors import PeerWattError
from peerwatt.submissions.validate import read_entry


@pytest.fixture
def root(packed, tmp_path):
    """A results root with both entries, and a copy of it as the base."""
    head = shutil.copytree(packed["ippo"].parents[3], tmp_path / "head")
    (head / "ledger.jsonl").write_text("")
    shutil.copytree(head, tmp_path / "base")
    return head


def against(submit, root, *words):
    return submit("validate", root, "--base", root.with_name("base"), *words)


def test_what_is_published_stays(root, submit):
    assert against(submit, root)[0] == 0
    entry = next(root.glob("*/mid-quote/*/*"))
    shutil.rmtree(entry)
    code, _, err = against(submit, root)
    assert code == 2 and "lacks what is published" in err and len(err.splitlines()) == 1


def test_a_new_entry_is_welcome(root, submit):
    shutil.rmtree(next(root.with_name("base").glob("*/mid-quote")))
    assert against(submit, root)[0] == 0


def test_a_replaced_entry_is_told(root, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    with (entry / "entry.json").open("a") as file:
        file.write("\n")
    code, _, err = against(submit, root)
    assert code == 2 and "changes what is published" in err


def test_only_maintainers_write_the_ledger(root, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    code, out, _ = submit("remove", entry.name, "--reason", "by mistake", "--results", root)
    assert code == 0 and not entry.exists() and "removed" in out
    assert not (root / "pilot-v1" / "mid-quote").exists()
    code, _, err = against(submit, root)
    assert code == 2 and "ledger.jsonl: changes" in err
    assert against(submit, root, "--maintainer")[0] == 0
    (root / "ledger.jsonl").write_text("")
    assert against(submit, root, "--maintainer")[0] == 2


def test_a_removed_entry_does_not_come_back(root, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    submit("remove", entry.name, "--reason", "by mistake", "--results", root)
    base = root.with_name("base")
    shutil.copytree(base / entry.relative_to(root), entry)
    code, _, err = submit("validate", root)
    assert code == 2 and "is removed, says the ledger" in err


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "removed"}',
        '{"kind": "praised", "entry_id": "0"}',
        "[]",
        '{"kind": "removed", "entry_id": "%s", "path": "../x", "reason": "a", "date": "2026-01-01"}'
        % ("0" * 64),
    ],
)
def test_a_ledger_that_nobody_wrote(root, submit, line):
    (root / "ledger.jsonl").write_text(f"{line}\n")
    code, _, err = submit("validate", root)
    assert code == 2 and "ledger.jsonl: line 1" in err and len(err.splitlines()) == 1


def test_removing_what_is_not_there(root, submit):
    code, _, err = submit("remove", "0" * 16, "--reason", "x", "--results", root)
    assert code == 2 and "holds 0 entries" in err
    entry = next(root.glob("*/mid-quote/*/*"))
    code, _, err = submit("remove", entry.name, "--reason", "a\nb", "--results", root)
    assert code == 2 and "--reason" in err and entry.exists()


def test_a_verification_is_told_to_the_ledger(root, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    code, out, _ = submit("verify", entry, "--record")
    assert code == 0 and "told the ledger" in out
    line = json.loads((root / "ledger.jsonl").read_text())
    assert line["verdict"] == "exact" and line["entry_id"].startswith(entry.name)
    assert submit("validate", root)[0] == 0
    code, _, err = submit("verify", entry, "--record", "--seeds", "1")
    assert code == 2 and "--record needs all seeds" in err


def correction(root, runs, submit, target, name="Ada Lovelace"):
    """Pack the runs again with another licence, as a correction."""
    words = ("--name", name, "--contact", "ada@example.org", "--licence", "CC0-1.0")
    return submit("pack", runs, "--out", root, "--supersedes", target, *words)


def test_a_correction_names_what_it_supersedes(root, runs, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    assert correction(root, runs["mid-quote"], submit, entry.name)[0] == 0
    assert against(submit, root)[0] == 0
    code, out, _ = submit("validate", next(p for p in entry.parent.iterdir() if p != entry))
    assert code == 0 and "valid" in out


def test_only_the_submitter_corrects(root, runs, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    correction(root, runs["mid-quote"], submit, entry.name, "Mallory")
    code, _, err = submit("validate", root)
    assert code == 2 and "is of another submitter (Ada Lovelace)" in err
    other = next(root.glob("*/ippo/*/*"))
    correction(root, runs["mid-quote"], submit, other.name)
    assert "is of another algorithm (ippo)" in submit("validate", root)[2]


def test_a_configuration_is_told_once(root, runs, submit):
    words = ("--name", "Mallory", "--contact", "mallory@example.org")
    assert submit("pack", runs["mid-quote"], "--out", root, *words)[0] == 0
    code, _, err = submit("validate", root)
    assert code == 2 and "the same configuration is told by" in err


def test_an_entry_is_superseded_once(root, runs, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    correction(root, runs["mid-quote"], submit, entry.name)
    words = ("--name", "Ada Lovelace", "--contact", "other@example.org")
    submit("pack", runs["mid-quote"], "--out", root, "--supersedes", entry.name, *words)
    code, _, err = submit("validate", root)
    assert code == 2 and "is superseded by" in err


def test_an_outdated_entry_is_told_and_not_new(root, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    shop = Workshop(entry, root.with_name("other"))
    shop.edit_all(lambda c: c["task"].update(content_hash="0" * 64))
    shop.seal()
    code, out, err = submit("validate", shop.root)
    assert (code, err) == (0, "") and "outdated (task content 000000000000, today" in out
    code, _, err = submit("validate", shop.root, "--base", root.with_name("base"))
    assert code == 2 and "is outdated" in err and "repeat the runs" in err
    code, _, err = submit("verify", shop.folder)
    assert code == 2 and "nothing to replay" in err


def test_a_link_on_the_way_to_the_results(root, submit, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pr").mkdir()
    (tmp_path / "pr" / "leaderboard").symlink_to(tmp_path)
    code, _, err = submit("validate", "pr/leaderboard/head")
    assert code == 2 and "pr/leaderboard: is a link" in err


def test_a_report_for_machines(root, submit):
    with (next(root.glob("*/mid-quote/*/*")) / "entry.json").open("a") as file:
        file.write("}")
    code, out, _ = submit("validate", root, "--json")
    report = json.loads(out)
    assert code == 2 and report["valid"] is False
    assert len(report["entries"]) == 1 and len(report["refused"]) == 1


def test_errors_of_the_entry_folder(tmp_path):
    with pytest.raises(PeerWattError, match="cannot be read"):
        read_entry(tmp_path / "nowhere")
