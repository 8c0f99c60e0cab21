"""Packing runs, and what cannot be packed."""

import json
import shutil

import pytest
from entry_workshop import configure

WHO = ("--name", "Ada Lovelace", "--contact", "ada@example.org")


@pytest.mark.parametrize("algorithm", ["mid-quote", "ippo"])
def test_what_is_packed_is_valid_and_reproduced(packed, submit, algorithm):
    folder = packed[algorithm]
    entry = json.loads((folder / "entry.json").read_text())
    assert folder.name == entry["entry_id"][:16]
    assert entry["task"] | {"content_hash": ""} == {
        "name": "pilot-v1",
        "content_hash": "",
        "distribution": "peerwatt",
        "version": "0.1.0",
    }
    assert [run["seed"] for run in entry["runs"]] == [0, 1]
    code, out, err = submit("validate", folder.parents[3])
    assert (code, err) == (0, "") and "2 entries are as they should be; 0 refused" in out
    code, out, err = submit("verify", folder)
    assert (code, err) == (0, "")
    assert [line.partition(";")[0] for line in out.splitlines()] == [
        "seed 0: equal",
        "seed 1: equal",
        "reproduced exactly: 2 of 2 seeds",
    ]
    assert "1 of 2 seeds" in submit("verify", folder, "--seeds", "1")[1]


def test_packing_twice_makes_the_same_entry(runs, packed, submit, tmp_path):
    options = ("--out", tmp_path / "results", "--code-url", "https://example.org/a", *WHO)
    code, out, err = submit("pack", *sorted(runs["mid-quote"].glob("seed-*")), *options)
    assert code == 0
    (folder,) = (tmp_path / "results").glob("*/*/*/*")
    assert folder.name == packed["mid-quote"].name
    assert "fewer than 5 seeds get no rank" in err
    for told in ("Ada Lovelace, ada@example.org", "https://example.org/a", "MIT", "command:"):
        assert told in out
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_disclosure_is_recorded(runs, submit, tmp_path):
    flags = ("--tuned-on-test", "--llm-in-training")
    code, out, _ = submit("pack", runs["mid-quote"], "--out", tmp_path, *WHO, *flags)
    assert code == 0 and "disclosed: tuned on test, llm in training" in out
    (file,) = tmp_path.glob("*/*/*/*/entry.json")
    disclosure = json.loads(file.read_text())["disclosure"]
    assert disclosure == {"tuned_on_test": True, "external_data": False, "llm_in_training": True}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--name", "<b>"), "--name must be"),
        (("--contact", "a b"), "--contact must be"),
        (("--code-url", "http://example.org"), "--code-url must be"),
        (("--name", "\u3164"), "--name must be"),
        (("--licence", "my own"), "--licence must be"),
        (("--supersedes", "abc"), "'abc' must be the 16 to 64 digits of an entry_id"),
        (("--supersedes", "0" * 64), "holds 0 entries 0000"),
    ],
)
def test_what_cannot_be_published_is_refused(runs, submit, tmp_path, options, sentence):
    out = tmp_path / "results"
    code, _, err = submit("pack", runs["mid-quote"], "--out", out, *WHO, *options)
    assert code == 2 and sentence in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def folder(runs, tmp_path):
    """A copy of the learner's runs."""
    return shutil.copytree(runs["ippo"], tmp_path / "runs")


def edit(folder, change):
    for file in folder.glob("seed-*/result.json"):
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        configure(file)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r["algorithm"].update(distribution="file:x.py"), "peerwatt plugins new ippo"),
        (lambda r: r["critic"].update(distribution="file:x.py"), "--kind critic"),
        (lambda r: r["algorithm"]["options"].update(api_key="sk-1"), "'api_key' looks secret"),
        (lambda r: r["critic"]["options"].update(http={"token": "x"}), "'token' looks secret"),
        (lambda r: r.update(command="peerwatt run --track.password x"), "password' looks secret"),
        (lambda r: r["task"].update(name="garden-v1"), "unknown task 'garden-v1'"),
        (lambda r: r["task"].update(content_hash="0" * 64), "is not that of today's pilot-v1"),
        (lambda r: r["algorithm"]["options"].update(clip=r["seed"] + 1.0), "of another entry"),
        (lambda r: r.update(seed=0), "is told by"),
        (lambda r: r["critic"].update(source=f"code {r['seed']}"), "made by different code"),
        (lambda r: r["test"]["metrics"].update({"\x1b[2J": [0.0] * 32}), "?[2J"),
        (lambda r: r.update({"\x1b[2J": 1}), "?[2J"),
        (lambda r: r.update(schema_version=1), "schema_version"),
        (lambda r: r["files"].update({"policy.json": "0" * 64}), "was changed since the run"),
        (lambda r: r["files"].update({"gone.json": "0" * 64}), "cannot be read"),
    ],
)
def test_runs_that_make_no_entry(folder, submit, tmp_path, change, sentence):
    edit(folder, change)
    code, _, err = submit("pack", folder, "--out", tmp_path / "results", *WHO)
    assert code == 2 and sentence in err and len(err.splitlines()) == 1
    assert err.removesuffix("\n").isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_an_empty_secret_is_none(folder, submit, tmp_path):
    edit(folder, lambda r: r["algorithm"]["options"].update(api_key="", max_tokens=5))
    assert submit("pack", folder, "--out", tmp_path / "results", *WHO)[0] == 0


def test_folders_without_runs(submit, tmp_path):
    code, _, err = submit("pack", tmp_path, "--out", tmp_path / "results", *WHO)
    assert code == 2 and "holds no finished runs" in err


def test_what_a_model_was_asked_is_disclosed_and_its_transcript_left_at_home(
    folder, submit, tmp_path
):
    account = {"slots": 10, "scored": 10, "calls": 3, "transcript": "0" * 64}
    edit(folder, lambda r: r.update(critic_usage=account))
    for seed in folder.glob("seed-*"):
        (seed / "critic.jsonl").write_text("{}\n")
    (folder / "seed-000.critic.interrupted-1.jsonl").write_text("{}\n")
    words = ("pack", folder, "--out", tmp_path / "results", *WHO)
    code, _, err = submit(*words)
    assert code == 2 and "'none' asked a model in training: add --llm-in-training" in err
    assert submit(*words, "--llm-in-training")[0] == 0
    assert not list((tmp_path / "results").rglob("*critic*"))
    assert submit("validate", tmp_path / "results")[0] == 0
