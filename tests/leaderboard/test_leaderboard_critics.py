"""The table of critics: what is read, what is refused, and what the page tells of it."""

import csv
import json
import os
import re

import numpy as np
import pytest
from critic_factory import constant, exact, make_record, noisy, silent, write_record
from leaderboard_factory import make_result, write_result
from test_leaderboard_site import HOSTILE, Page

from peerwatt.criticbench.measures import repeats_tell_nothing, slots_of, verdict
from peerwatt.criticbench.record import (
    FOLDER,
    POOLED,
    CriticRecord,
    Estimate,
    ReachableField,
    bench_hash,
)
from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import CriticUsage, HeldOut
from peerwatt_leaderboard import critic_charts
from peerwatt_leaderboard.command import build
from peerwatt_leaderboard.critic_columns import asked, cell, conduct, seconds, written
from peerwatt_leaderboard.critics import labels, read_critics

SMOL = {"model": "openai/smollm2", "prompt": "households-v1"}


@pytest.fixture(scope="module")
def records():
    """Return a few records, which take a moment to make."""
    return {
        "rule": make_record(influence=True),
        "constant": make_record("constant", constant, options={"value": 0.5}),
        "llm": make_record("llm", noisy, options=SMOL, asks=True, influence=True),
        "paid": make_record("llm", noisy, options=SMOL | {"prompt": "b"}, asks=True, dollars=1.5),
        "silent": make_record("openai-http", silent, options=SMOL, asks=True),
    }


@pytest.fixture(scope="module")
def page(records, tmp_path_factory):
    """Build a page of all records and one run; return its folder and text."""
    folder = tmp_path_factory.mktemp("page")
    write_result(folder / "runs", make_result())
    for record in records.values():
        write_record(folder / "runs", record)
    build(folder / "runs", folder / "site")
    return folder / "site", (folder / "site" / "index.html").read_text()


def rows_of(text, table):
    """Return the cells of a table of the critics, by name and second line of the first cell."""
    (part,) = re.findall(
        rf'aria-labelledby="[^"]*-{table}">\s*(<table.*?</table>)', text, flags=re.DOTALL
    )
    return {cells[0]: cells[1:] for cells in Page(part).cells if cells}


def test_the_tables_show_the_numbers(page):
    _, text = page
    assert "Error where all answered" in text
    rows = rows_of(text, "right")
    assert list(rows)[:2] == ["rule", "llm"]  # the least wrong first
    assert list(rows)[-1] == "openai-http"  # answered nothing
    assert rows["rule"][:4] == ["–", "–", "0.000[0.000, 0.000]", "100.0"]
    assert rows["rule"][5:8] == ["1.00", "1.00", "1.00"]
    assert rows["constantvalue 0.5"][5:8] == ["–", "–", "0.00"]
    assert rows["openai-http"][:4] == ["openai/smollm2", "households-v1", "–", "0.0"]
    rows = rows_of(text, "moved")
    assert rows["rule"][3:7] == ["≡", "≡", "–", "≡"]  # order, units, paraphrase, slots of a batch
    assert rows["rule"][7:10] == ["≡", "≡", "≡"]  # reachable text, lift, drift
    assert rows["constantvalue 0.5"][:3] == ["constant", "–", "constant"]  # SD, ICC, flips
    assert rows["rule"][10:14] == ["–", "–", "–", "20 µs"]
    assert rows["llmsmollm2 households-v1"][10:14] == ["4.9", "0.0", "unknown", "595 ms"]
    assert rows["llmsmollm2 b"][12] == "1.50"


def test_what_was_paid_elsewhere_is_no_critic_that_asks_nobody(records):
    operations = records["paid"].operations.model_copy(update={"calls": 0})
    cached = records["paid"].model_copy(update={"operations": operations})
    by_key = {column.key: column for column in conduct([cached])}
    for key in ("invalid", "refused", "dollars"):
        assert cell(by_key[key], cached).told == "answered from the cache: nothing was paid here"
        assert cell(by_key[key], records["rule"]).told == "asks no model"
    assert asked(cached) and not asked(records["rule"])


def test_noise_is_not_told_as_text_that_reached_the_critic(records):
    (column,) = (column for column in conduct([]) if column.key == "reachable")

    def shown(*fields):
        reachable = [
            ReachableField(field="x", payloads=1, scores=10, changed=changed, same_input=same)
            for changed, same in fields
        ]
        robustness = records["llm"].robustness.model_copy(update={"reachable": reachable})
        return cell(column, records["llm"].model_copy(update={"robustness": robustness})).text

    assert shown((9, True), (0, True)) == "≡"
    assert shown((9, True), (0, None)) == shown() == "unknown"
    assert shown((9, True), (3, False)) == "30.0"


def test_influence_is_told_against_no_critic(page):
    _, text = page
    rows = rows_of(text, "influence-1")
    assert rows["rule"][0].startswith("−0.100[")
    assert rows["rule"][1].startswith("+0.20[")
    assert "Without a critic: Welfare 0.920, FPP 0.42." in text


def test_what_the_numbers_come_to_is_said_in_words(page, records):
    _, text = page
    for name in ("rule", "constant", "llm"):
        assert f"</b>: {verdict(records[name])}.</li>" in text.replace("&#39;", "'")
    slots = slots_of([records["llm"]])
    for group, told in (("Validity", slots["validity"]), ("Invariance", slots["variants"])):
        assert f"{group} <small>· {told} slots</small>" in text
    assert f"Robustness <small>· notes on {slots['notes']} slots</small>" in text
    truth = records["rule"].validity.scores[POOLED].distinct.estimate
    assert f"{100 * truth:.1f} of {100 * truth:.1f}" in text


def test_verdicts(records):
    said = {name: verdict(record).partition(":")[0] for name, record in records.items()}
    assert said["rule"] == "tracks the truth"
    assert said["constant"] == "says the same of every market"
    assert said["silent"] == "answered nothing"
    chance = make_record("random", lambda truth, generator: generator.random(4))
    assert verdict(chance).startswith("no better than a constant: MAE ")
    assert verdict(chance).endswith("; Spearman's interval holds 0")
    upside_down = make_record("rule", lambda truth, generator: 1.0 - truth)
    assert verdict(upside_down).startswith("puts markets in the wrong order: ")
    assert "% that it answered" in verdict(records["llm"])


def test_repeats_at_temperature_0_tell_nothing(tmp_path):
    options = SMOL | {"temperature": 0.0}
    steady = make_record("llm", exact, options=options, asks=True)
    assert repeats_tell_nothing(steady)
    assert not repeats_tell_nothing(make_record("llm", exact, options=SMOL, asks=True))
    assert not repeats_tell_nothing(make_record("llm", noisy, options=options, asks=True))
    write_record(tmp_path / "runs", steady)
    build(tmp_path / "runs", tmp_path / "site")
    assert "measure with temperature=1." in (tmp_path / "site" / "index.html").read_text()


def test_a_bad_record_alone_is_told_before_the_page_is_refused(tmp_path, capsys):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "broken.json").write_text("{}")
    with pytest.raises(PeerWattError, match="in its folder critics no valid record"):
        build(tmp_path, tmp_path / "site")
    assert "broken.json" in capsys.readouterr().err


def test_what_is_hypothetical_is_called_so(page):
    _, text = page
    assert "Lift, if exposed" in text
    assert "Hypothetical: how far scores move towards" in text
    assert "(hypothetical: training shows no text to a critic)" in text
    assert "0 by construction: it reads no text" in text
    assert 'aria-label="by construction"' in text


def test_charts_have_a_panel_per_critic_and_score_and_one_per_series(page, records):
    _, text = page
    assert text.count('class="one" data-entry') == 5 * len(records)
    assert len(re.findall(r'<polyline [^>]*class="truth"', text)) == 6  # kinds of series
    assert text.count("no score</text>") == 5
    assert "$1.50" in text
    assert ">unknown<" in text


def test_the_page_is_whole_and_loads_nothing(page):
    folder, text = page
    elements = Page(text).elements
    ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in elements:
        assert not {"src", "style"} & attrs.keys(), tag
        href = attrs.get("href", "")
        if href.startswith("#"):
            assert href[1:] in ids
        elif href.startswith("data/"):
            assert (folder / href).is_file()
        if "data-entry" in attrs:
            assert attrs["data-entry"] in ids
        if "aria-labelledby" in attrs:
            assert attrs["aria-labelledby"] in ids
    assert not re.search(r"url\(|@import|https?://", text)


def test_every_column_sorts(page):
    _, text = page
    for table in ("right", "moved", "influence-1"):
        (part,) = re.findall(
            rf'aria-labelledby="[^"]*-{table}">(.*?)</table>', text, flags=re.DOTALL
        )
        heads = re.findall(r'<th scope="col" [^>]*data-kind="(\w+)"', part)
        for row in re.findall(r"<tr data-entry.*?</tr>", part, flags=re.DOTALL):
            keys = re.findall(r'<t[hd] [^>]*data-v="([^"]*)"', row)
            assert len(keys) == len(heads)
            for kind, key in zip(heads, keys, strict=True):
                assert kind == "text" or key == "" or np.isfinite(float(key))


def test_data_files(page, records):
    folder, _ = page
    table = json.loads((folder / "data" / "critics-small-v1.json").read_text())
    assert table["suite"]["name"] == "small-v1"
    first = table["critics"][0]
    assert first["label"] == "rule"
    assert first["values"]["mae"]["estimate"] == 0.0
    assert first["values"]["lift"]["status"] == "by-construction"
    assert first["values"]["dollars"]["status"] == "no calls"
    assert set(first["scores"]) == {"ftg", "fbs", "fpp", "ftb", "pooled"}
    kept = CriticRecord.model_validate_json((folder / "data" / first["record"]).read_bytes())
    assert kept == records["rule"]
    with (folder / "data" / "critics-small-v1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["critic"] == "rule"
    assert float(rows[0]["spearman"]) == pytest.approx(1.0)
    by_hash = {row["bench_hash"]: row for row in rows}
    assert by_hash[records["llm"].bench_hash]["dollars"] == ""  # unknown, not 0


def test_without_critics_there_is_no_section(tmp_path):
    write_result(tmp_path / "runs", make_result())
    build(tmp_path / "runs", tmp_path / "site")
    text = (tmp_path / "site" / "index.html").read_text()
    assert 'id="critics' not in text
    assert "not measured here (<code>peerwatt critics bench</code> does it)" in text


def test_critics_alone_make_a_page(tmp_path, records, capsys):
    write_record(tmp_path / "runs", records["rule"])
    build(tmp_path / "runs", tmp_path / "site")
    text = (tmp_path / "site" / "index.html").read_text()
    assert "<b>Welfare</b> is the ranking" not in text  # no entry is ranked here
    assert "Critics judge how fairly" in text and "submit pack" not in text
    assert 'id="critics-small-v1"' in text
    assert "1 critic on small-v1\n" in capsys.readouterr().out


def test_same_records_same_page(tmp_path, records):
    write_record(tmp_path / "runs", records["llm"])
    build(tmp_path / "runs", tmp_path / "one")
    build(tmp_path / "runs", tmp_path / "other")
    one, other = ((tmp_path / name / "index.html").read_text() for name in ("one", "other"))
    assert one == other


def test_estimates_are_recomputed_from_the_rows(tmp_path, records):
    record = records["llm"]
    pooled = record.validity.scores[POOLED].model_copy(
        update={"mae": Estimate(estimate=0.001, low=0.0, high=0.002)}
    )
    validity = record.validity.model_copy(
        update={"scores": record.validity.scores | {POOLED: pooled}}
    )
    operations = record.operations.model_copy(
        update={"invalid_rate": Estimate(estimate=0.0), "dollars_per_1000_calls": 0.0}
    )
    forged = record.model_copy(update={"validity": validity, "operations": operations})
    write_record(tmp_path, forged)
    ((board,), problems) = read_critics(tmp_path)
    assert problems == []
    (entry,) = board.entries
    assert entry.record.validity == record.validity
    assert entry.record.operations.invalid_rate == record.operations.invalid_rate
    assert entry.record.operations.dollars_per_1000_calls is None
    (influence,) = entry.record.influence
    assert influence.against_none["welfare"].estimate == pytest.approx(-0.1)
    assert entry.record.reliability == record.reliability
    assert entry.record.invariance == record.invariance
    assert entry.record.robustness == record.robustness


def first_row(record, **changes):
    rows = [record.rows[0].model_copy(update=changes), *record.rows[1:]]
    return {"rows": rows}


FORGERIES = {
    "another truth": (
        lambda r: first_row(r, truth=(0.123, 0.5, 0.5, 0.5)),
        "rows: are not the slots and closed forms of that suite",
    ),
    "another hash": (lambda r: {"bench_hash": "0" * 64}, "bench_hash: is not that of suite"),
    "fewer rows": (lambda r: {"rows": r.rows[1:]}, "rows: 40 rows are not the slots"),
    "repeats": (
        lambda r: first_row(r, repeats=(r.rows[0].score,) * 7),
        "rows.0.repeats: 7 further answers for 3 repeats",
    ),
    "another name": (lambda r: {"label": "gpt-9"}, "label: does not begin with the name"),
    "no such day": (lambda r: {"created_utc": "2025-02-30T12:00:00Z"}, "created_utc: "),
    "more replies than calls": (
        lambda r: {"operations": r.operations.model_copy(update={"replies": 9})},
        "operations: tells of more replies than calls",
    ),
    "too many seeds": (
        lambda r: {
            "influence": [
                i.model_copy(update={"none": i.none.model_copy(update={"seeds": list(range(99))})})
                for i in r.influence
            ]
        },
        "influence: 99 seeds are none or too many",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_record_is_left_out_and_told(tmp_path, records, capsys, name):
    forge, message = FORGERIES[name]
    record = records["rule"]
    write_record(tmp_path / "runs", record.model_copy(update=forge(record)))
    write_record(tmp_path / "runs", records["constant"])
    write_result(tmp_path / "runs", make_result())
    build(tmp_path / "runs", tmp_path / "site")
    told = capsys.readouterr().err
    assert "peerwatt: warning: left out: " in told
    assert message in told
    text = (tmp_path / "site" / "index.html").read_text()
    assert list(rows_of(text, "right")) == ["constantvalue 0.5"]


def test_very_many_repeats_are_refused_before_they_are_computed(tmp_path, records):
    record = records["rule"]
    digest = bench_hash(record.suite, record.critic, 10**9, record.seed)
    rows = [row.model_copy(update={"repeats": ()}) for row in record.rows]
    changes = {"repeats": 10**9, "rows": rows, "bench_hash": digest}
    write_record(tmp_path, record.model_copy(update=changes))
    boards, (problem,) = read_critics(tmp_path)
    assert boards == []
    assert "more than a page takes" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no valid JSON"),
        (b"[" * 100_000, "is nested more than"),
        (b'{"kind": "critic-bench", "kind": 1}', "tells the key 'kind' twice"),
        (b'{"x": NaN}', "holds NaN"),
        (b'{"x": 1}', "Field required"),
        (b" " * 20_000_001, "has more than 20,000,000 bytes"),
    ],
)
def test_broken_records_are_left_out_and_told(tmp_path, content, message):
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "broken.json").write_bytes(content)
    boards, (problem,) = read_critics(tmp_path)
    assert boards == []
    assert message in problem
    assert "broken.json" in problem


def test_links_pipes_and_folders_are_left_out(tmp_path, records):
    file = write_record(tmp_path / "elsewhere", records["rule"])
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "link.json").symlink_to(file)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    boards, problems = read_critics(tmp_path)
    assert boards == []
    assert len(problems) == 3
    (link,) = [problem for problem in problems if "link.json" in problem]
    assert "is a symbolic link; put a plain file there" in link


def test_a_copy_is_told_and_another_suite_has_a_table_of_its_own(tmp_path, records):
    file = write_record(tmp_path, records["rule"])
    forged = records["rule"].model_copy(update={"label": "rule, the best"})
    (file.parent / "z-copy.json").write_text(forged.model_dump_json())
    suite = records["constant"].suite.model_copy(update={"content_hash": "1" * 64})
    changed = {
        "suite": suite,
        "bench_hash": bench_hash(suite, records["constant"].critic, 3, 0),
    }
    write_record(tmp_path, records["constant"].model_copy(update=changed))
    boards, (problem,) = read_critics(tmp_path)
    assert f"z-copy.json: is the record whose file is named {file.name}" in problem
    assert [board.title for board in boards] == [
        f"small-v1 ({digest[:8]})"
        for digest in sorted(["1" * 64, records["rule"].suite.content_hash])
    ]
    assert sorted(board.known for board in boards) == [False, True]


def test_records_of_an_unknown_suite_must_agree_with_each_other(tmp_path, records):
    for name, record in (("constant", records["constant"]), ("rule", records["rule"])):
        suite = record.suite.model_copy(update={"name": "own-v1"})
        changes = {"suite": suite, "bench_hash": bench_hash(suite, record.critic, 3, 0)}
        if name == "rule":
            changes |= first_row(record, truth=(0.123, 0.5, 0.5, 0.5))
        write_record(tmp_path, record.model_copy(update=changes))
    (board,), (problem,) = read_critics(tmp_path)
    assert [entry.label for entry in board.entries] == ["constant"]
    assert "rows.0: tells another slot or closed form than constant-" in problem


def test_hostile_texts_are_escaped(tmp_path):
    hostile = HOSTILE[:90]
    record = make_record(
        "llm",
        exact,
        options={"model": hostile, "prompt": "=1+1", hostile: hostile},
        asks=True,
        changes={
            "notes": [hostile],
            "command": hostile,
            "label": f"llm:model={hostile}",
        },
    )
    write_record(tmp_path / "runs", record)
    build(tmp_path / "runs", tmp_path / "site")
    text = (tmp_path / "site" / "index.html").read_text()
    page = Page(text)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    for path in (tmp_path / "site").rglob("*"):
        assert re.fullmatch(r"[a-z0-9.-]+", path.name)
    with (tmp_path / "site" / "data" / "critics-small-v1.csv").open() as file:
        for row in csv.reader(file):
            assert not [cell for cell in row if cell[:1] in ("=", "+", "@")]


def test_errors_compare_where_all_answered(tmp_path, records):
    write_record(tmp_path / "runs", records["rule"])
    write_record(tmp_path / "runs", records["silent"])
    ((board,), _) = read_critics(tmp_path / "runs")
    assert board.common == {}  # who answered nothing does not count
    write_record(tmp_path / "runs", records["llm"])
    ((board,), _) = read_critics(tmp_path / "runs")
    assert set(board.common) == {records["rule"].bench_hash, records["llm"].bench_hash}


def test_labels_are_short_and_unlike_each_other(records):
    llm = records["llm"]

    def with_options(**options):
        critic = llm.critic.model_copy(update={"options": SMOL | options})
        return llm.model_copy(update={"critic": critic})

    assert labels([llm, records["rule"]]) == ["llm smollm2 households-v1", "rule"]
    assert labels([llm, with_options(prompt="b")]) == ["llm smollm2 households-v1", "llm smollm2 b"]
    assert labels([llm, with_options(model="ollama/smollm2")]) == [
        "llm smollm2 households-v1 openai/smollm2",
        "llm smollm2 households-v1 ollama/smollm2",
    ]
    assert labels([with_options(temperature=0.0), with_options(temperature=1.0)]) == [
        "llm smollm2 households-v1 temperature 0.0",
        "llm smollm2 households-v1 temperature 1.0",
    ]
    hosts = [
        with_options(api_base="http://10.0.0.1:8080/v1", concurrency=4),
        with_options(api_base="http://10.0.0.2/v1", timeout=9.0),
    ]
    assert labels(hosts) == [
        "llm smollm2 households-v1 10.0.0.1:8080",
        "llm smollm2 households-v1 10.0.0.2",
    ]
    again = llm.model_copy(update={"seed": 7})
    assert labels([llm, again]) == [
        "llm smollm2 households-v1 seed 0",
        "llm smollm2 households-v1 seed 7",
    ]
    assert (
        labels([llm, llm])
        == [
            f"llm smollm2 households-v1 #{llm.bench_hash[:8]}",
            f"llm smollm2 households-v1 #{llm.bench_hash[:8]} (2)",
        ]
        or len(set(labels([llm, llm]))) == 2
    )


def test_numbers_are_written_in_their_units():
    assert written(0.12345, "error") == "0.123"
    assert written(-0.001, "score") == "0.00"
    assert written(0.1234, "percent") == "12.3"
    assert written(0.00123, "dollars") == "0.0012"
    assert written(0.0, "dollars") == "0.00"
    assert written(None, "error") == "–"
    assert written(0.5, "error", signed=True) == "+0.500"
    assert [seconds(s) for s in (3e-7, 2e-5, 0.0123, 0.5, 2.25, 90.0)] == [
        "0.3 µs",
        "20 µs",
        "12 ms",
        "500 ms",
        "2.2 s",
        "1.5 min",
    ]


def test_long_names_keep_both_ends():
    assert critic_charts.short("rule") == "rule"
    cut = critic_charts.short("llm SmolLM2-135M-Instruct households-v1")
    assert len(cut) == 24
    assert cut.startswith("llm Smol")
    assert cut.endswith("seholds-v1")


def test_a_gap_stands_where_a_critic_abstained():
    look = critic_charts.Look("a", "a", critic_charts.styles_of({"a": True})["a"])
    picture = critic_charts.series(
        "grid share", "FTG", [0, 1, 2, 3], [0.0, 0.3, 0.6, 1.0], [(look, [0.1, None, 0.5, 0.6])]
    )
    assert picture.count('class="curve"') == 2
    assert picture.count('class="truth"') == 1


def test_entries_tell_what_their_critic_did(tmp_path):
    held_out = HeldOut(
        slots=120, error=0.012, low=0.01, high=0.014, bound=0.02, within=True, asked=500
    )
    usages = [
        CriticUsage(
            slots=1000, scored=300, student=600, abstained={"timeout": 60, "refused": 40},
            calls=250, prompt_tokens=9000, completion_tokens=1000, dollars=dollars,
            models=("smollm2",), held_out=held_out,
        )
        for dollars in (0.5, 1.0)
    ]  # fmt: skip
    for seed, usage in enumerate(usages):
        write_result(tmp_path / "runs", make_result("ippo", "llm", seed, critic_usage=usage))
    write_result(tmp_path / "runs", make_result("ippo", "rule"))
    unknown = CriticUsage(slots=10, scored=10, calls=10)
    write_result(tmp_path / "runs", make_result("ippo", "openai-http", critic_usage=unknown))
    free = CriticUsage(slots=10, scored=10)
    write_result(tmp_path / "runs", make_result("ippo", "random", critic_usage=free))
    build(tmp_path / "runs", tmp_path / "site")
    text = re.sub(r"&nbsp;", " ", (tmp_path / "site" / "index.html").read_text())
    assert "500 calls with 20,000 tokens, for $1.50. Of 2,000 slots" in text
    assert "60.0 % scored by its student" in text
    assert "<b>10.0 % abstained</b> (80 refused, 120 timeout)" in text
    assert "0.012 [0.010, 0.014] on 120 slots, bound 0.02" in text
    assert "10 calls with 0 tokens, at an unknown price." in text
    assert text.count("What the critic did in") == 3
    assert text.count("No model was asked.") == 1


def test_a_page_with_bad_runs_is_still_refused(tmp_path, records):
    write_record(tmp_path / "runs", records["rule"])
    path = write_result(tmp_path / "runs", make_result())
    path.write_text("[]")
    with pytest.raises(PeerWattError, match=re.escape(str(path))):
        build(tmp_path / "runs", tmp_path / "site")


def test_critics_beside_submitted_entries_are_not_read(tmp_path, records):
    write_record(tmp_path / "results", records["rule"])
    (tmp_path / "results" / "ledger.jsonl").write_text("")
    build(tmp_path / "results", tmp_path / "site")
    text = (tmp_path / "site" / "index.html").read_text()
    assert "No entry has been submitted yet" in text
    assert 'id="critics' not in text
