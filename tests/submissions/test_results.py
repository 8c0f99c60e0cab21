"""A whole results root: append-only, with a ledger, corrections and outdated entries."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from entry_workshop import Workshop

from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import Registered
from peerwatt.submissions.validate import made_task, read_entry


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


@pytest.mark.parametrize("stray", [".DS_Store", "pilot-v1/.DS_Store", "pilot-v1/ippo/0.1.0/x"])
def test_a_stray_file_in_the_base_hides_nothing(root, submit, stray):
    (root.with_name("base") / stray).touch()
    shutil.rmtree(next(root.glob("*/mid-quote/*/*")))
    code, _, err = against(submit, root)
    assert code == 2 and f"base/{stray}: does not belong here" in err


def test_a_stray_file_hides_nothing(root, submit):
    (root / "pilot-v1" / ".DS_Store").touch()
    code, _, err = against(submit, root)
    assert code == 2 and "does not belong here" in err and err.count("lacks what is") == 2


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


def written(root, **line):
    """Add a line to the ledger and remove the scripted trader's entry."""
    entry = next(root.glob("*/mid-quote/*/*"))
    told = json.loads((entry / "entry.json").read_text())["entry_id"]
    path = entry.relative_to(root).as_posix()
    content = {"kind": "removed", "entry_id": told, "path": path, "reason": "x"}
    (root / "ledger.jsonl").write_text(json.dumps(content | {"date": "2025-01-01"} | line) + "\n")
    shutil.rmtree(entry)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"entry_id": "0" * 64}, "line 1: the base has no entry 0000000000000000 at pilot-v1/"),
        ({"path": "pilot-v1/ippo/1.0/0123456789abcdef"}, "at pilot-v1/ippo/1.0/0123456789abcdef"),
        ({"date": "2025-02-30"}, "line 1: date: "),
        ({"date": "2999-01-01"}, "line 1: date: is in the future"),
    ],
)
def test_a_line_of_the_ledger_concerns_an_entry(root, submit, line, sentence):
    written(root, **line)
    code, _, err = against(submit, root, "--maintainer")
    assert code == 2 and sentence in err and "lacks what is published" in err


def test_a_verification_concerns_an_entry(root, submit):
    assert submit("verify", next(root.glob("*/mid-quote/*/*")), "--record")[0] == 0
    assert against(submit, root, "--maintainer")[0] == 0
    ledger = root / "ledger.jsonl"
    ledger.write_text(json.dumps(json.loads(ledger.read_text()) | {"entry_id": "0" * 64}) + "\n")
    code, _, err = against(submit, root, "--maintainer")
    assert code == 2 and "line 1: there is no entry 0000000000000000" in err


def test_strangers_add_entries_and_nothing_else(root, submit, monkeypatch):
    (root / "README.md").write_text("mine")
    code, _, err = against(submit, root)
    assert code == 2 and "README.md: only maintainers write it" in err
    assert against(submit, root, "--maintainer")[0] == 0
    (root / "README.md").unlink()
    shutil.rmtree(root.with_name("base") / "pilot-v1")
    assert against(submit, root)[0] == 0
    monkeypatch.setattr("peerwatt.submissions.collection.MAX_NEW", 1)
    code, _, err = against(submit, root)
    assert code == 2 and "2 entries are new, and 1 may be at once" in err


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


def test_a_removal_that_the_disk_refuses(root, submit, monkeypatch):
    entry = next(root.glob("*/mid-quote/*/*"))
    ledger = root / "ledger.jsonl"

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("os.rename", refuse)
        code, _, err = submit("remove", entry.name, "--reason", "x", "--results", root)
        assert code == 2 and f"{entry}: cannot be removed (Permission denied)." in err
    ledger.unlink()
    ledger.mkdir()
    code, _, err = submit("remove", entry.name, "--reason", "x", "--results", root)
    assert code == 2 and "cannot be written" in err
    ledger.rmdir()
    assert submit("validate", root)[0] == 0 and entry.exists()
    monkeypatch.setattr("shutil.rmtree", refuse)
    code, _, err = submit("remove", entry.name, "--reason", "x", "--results", root)
    assert code == 2 and len(err.splitlines()) == 1 and "delete it by hand" in err
    assert not entry.exists() and json.loads(ledger.read_text())["reason"] == "x"


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
    code, out, _ = against(submit, root)
    target = json.loads((entry / "entry.json").read_text())["entry_id"]
    told = f"supersedes {target} of Ada Lovelace (confirm with the owner)"
    assert code == 0 and out.count(told) == 1
    assert told not in submit("validate", root, "--base", root)[1]
    code, out, _ = submit("validate", next(p for p in entry.parent.iterdir() if p != entry))
    assert code == 0 and "valid" in out


def test_only_the_submitter_corrects(root, runs, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    correction(root, runs["mid-quote"], submit, entry.name, "Mallory")
    code, _, err = submit("validate", root)
    assert code == 2 and "is of another submitter (Ada Lovelace)" in err
    words = ("--name", "Ada Lovelace", "--contact", "mallory@example.org", "--out", root)
    submit("pack", runs["mid-quote"], "--supersedes", entry.name, *words)
    assert "is of another contact (ada@example.org)" in submit("validate", root)[2]
    other = next(root.glob("*/ippo/*/*"))
    correction(root, runs["mid-quote"], submit, other.name)
    assert "is of another algorithm (ippo)" in submit("validate", root)[2]


def copied(root, entry, change):
    """Add a changed copy of an entry to its results root; return its folder."""
    shop = Workshop(entry, root.with_name("shop"))
    change(shop)
    shop.seal()
    target = root / shop.folder.relative_to(shop.root)
    shutil.copytree(shop.folder, target)
    shutil.rmtree(shop.root)
    return target


def by_mallory(content):
    content["submitter"].update(name="Mallory")
    content.update(created_utc="2001-01-01T00:00:00Z")


def test_a_configuration_is_told_once(root, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    copy = copied(root, entry, lambda w: w.edit(w.entry, by_mallory))
    code, _, err = against(submit, root)
    (sentence,) = err.splitlines()
    assert code == 2 and f"{copy}/entry.json: config_hash: the same configuration" in sentence
    assert f"is told by {entry.relative_to(root)};" in sentence
    code, _, err = submit("validate", root)
    one, other = sorted(err.splitlines())
    assert code == 2 and "nothing decides between the two" in one and one != other
    assert all(str(place) in one + other for place in (entry, copy))
    assert submit("verify", entry, "--record")[0] == 0
    code, _, err = submit("validate", root)
    assert code == 2 and err == f"{sentence}\n"


def test_a_policy_is_told_once(root, submit):
    entry = next(root.glob("*/ippo/*/*"))
    copy = copied(root, entry, lambda w: w.edit_all(lambda c: c.update(budget=3_000)))
    code, _, err = against(submit, root)
    (sentence,) = err.splitlines()
    assert code == 2 and f"{copy}/entry.json: runs: a trained policy is the very one" in sentence
    assert f"of {entry.relative_to(root)};" in sentence


def corrected(root, entry, licence="MIT"):
    """Add a correction of an entry to `root`."""
    target = json.loads((entry / "entry.json").read_text())["entry_id"]
    change = {"supersedes": target, "licence": licence}
    return copied(root, entry, lambda w: w.edit(w.entry, lambda c: c.update(change)))


def test_an_entry_is_superseded_once(root, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    first = corrected(root, entry)
    assert against(submit, root)[0] == 0
    shutil.copytree(first, root.with_name("base") / first.relative_to(root))
    second = corrected(root, entry, "CC0-1.0")
    code, _, err = against(submit, root)
    (sentence,) = err.splitlines()
    assert code == 2 and f"{second}/entry.json: supersedes: {entry.name} is" in sentence
    assert f"superseded by {first.relative_to(root)};" in sentence


def test_a_copy_beside_a_correction_brings_the_first_back(root, submit):
    entry = next(root.glob("*/mid-quote/*/*"))
    copy = copied(root, entry, lambda w: w.edit(w.entry, by_mallory))
    correction = corrected(root, entry)
    code, out, err = submit("validate", root)
    assert code == 2 and f"valid: {entry}" in out and len(err.splitlines()) == 2
    assert f"valid: {copy}" not in out and f"valid: {correction}" not in out


def of_a_stranger_s_task(shop, factor=1.0):
    """Move an entry to a task that is not PeerWatt's, and multiply all its money."""

    def move(content):
        content["task"].update(name="garden-v1", content_hash="5" * 64)
        if "distribution" in content["task"]:
            content["task"].update(distribution="ada-homes")
            return
        test = content["test"]
        for part in ("cost", "grid_cost", "oracle_cost", "savings", "grid_bills"):
            test[part] = (factor * np.array(test[part])).tolist()
        for part in ("operator_revenue", "operator_revenue_grid", "market_surplus"):
            test["metrics"][part] = [factor * value for value in test["metrics"][part]]

    shop.edit_all(move)


def test_nobody_changes_the_truth_of_a_stranger_s_task(root, submit):
    honest = copied(root, next(root.glob("*/ippo/*/*")), of_a_stranger_s_task)
    base = root.with_name("base")
    shutil.copytree(honest, base / honest.relative_to(root))
    for place in (root, base):
        shutil.rmtree(place / "pilot-v1" / "ippo")  # of the same policies

    def forge(shop):
        of_a_stranger_s_task(shop, 10.0)
        shop.edit(shop.entry, by_mallory)

    assert against(submit, root)[0] == 0
    forged = copied(root, next(root.glob("*/mid-quote/*/*")), forge)
    code, _, err = against(submit, root)
    (sentence,) = err.splitlines()
    assert code == 2 and f"{forged}/entry.json: task: households, grid-only costs or" in sentence
    assert f"are not those of {honest.relative_to(root)};" in sentence
    code, _, err = submit("validate", root)
    assert code == 2 and len(err.splitlines()) == 2
    assert err.count("nothing decides between the two") == 2


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


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        (lambda: 1 / 0, "cannot be made: ZeroDivisionError: division by zero."),
        (lambda: "garden", "is a str: its factory must return a Task."),
    ],
)
def test_a_stranger_s_task_that_cannot_be_made(factory, problem):
    spec = SimpleNamespace(name="garden-v1", load=lambda: factory)
    with pytest.raises(PeerWattError) as error:
        made_task(Registered(spec, "ada-homes", "1.0"))
    assert str(error.value) == f"the task 'garden-v1' of ada-homes {problem}"


def test_errors_of_the_entry_folder(tmp_path):
    with pytest.raises(PeerWattError, match="cannot be read"):
        read_entry(tmp_path / "nowhere")
