"""The report: what it says and leaves out, that it is safe, and that it is the same every time."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from leaderboard_factory import make_result, write_result

from peerwatt.errors import PeerWattError
from peerwatt.evaluation.statistics import bootstrap_iqm, iqm, optimality_gap, ranks
from peerwatt.runs import summary
from peerwatt.runs.config import RunConfig
from peerwatt.runs.plan import Plan
from peerwatt_leaderboard.report import comparisons, sections
from peerwatt_leaderboard.report.command import report

VOID = {"meta", "link", "input", "br", "img", "hr"}
OTHER = {"task": "other-v1", "content_hash": "5a" * 32}
CURVE = [(0, 0.1), (500_000, 0.4), (1_000_000, 0.5)]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Bootstrap with 200 resamples: what is tested is where intervals go, not how good they are."""

    def quick(statistic):
        return lambda *arguments, **_: statistic(*arguments, resamples=200)

    for module in (summary, sections):
        monkeypatch.setattr(module, "bootstrap_iqm", quick(bootstrap_iqm))
        monkeypatch.setattr(module, "ranks", quick(ranks))
    monkeypatch.setattr(comparisons, "optimality_gap", quick(optimality_gap))


class Page(HTMLParser):
    """Checks that elements are closed in order; collects them and the tables of each section."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.tables = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def entry(algorithm, cost, seeds=5, **more):
    """Runs whose welfare is (30 - 9 - cost) / 8, falling by 0.01 with each seed."""
    curve = CURVE if more.get("budget", 1) else CURVE[:1]
    return [
        make_result(algorithm, seed=seed, cost=[9.0, cost + 0.08 * seed], curve=curve, **more)
        for seed in range(seeds)
    ]


@pytest.fixture
def reported(tmp_path):
    """Write results, make a report, and return its folder."""

    def make(*results):
        for result in results:
            write_result(tmp_path / "runs", result)
        report(tmp_path / "runs", tmp_path / "report")
        return tmp_path / "report"

    return make


def rows_of(folder, table=0):
    return Page((folder / "report.html").read_text()).tables[table]


TWO_TASKS = [
    *entry("ippo", 15.0),
    *entry("zi-c", 17.0, budget=0),
    *entry("ippo", 14.6, **OTHER),
    *entry("zi-c", 18.0, budget=0, **OTHER),
]


def test_the_numbers_per_task_and_over_tasks(reported, capsys):
    folder = reported(*TWO_TASKS)
    page = Page((folder / "report.html").read_text())
    titles = [row[0] for row in page.tables]
    assert titles[0][:6] == ["Rank", "Entry", "Runs", "Budget", "Welfare", "Gap to optimum"]
    over, *_ = page.tables
    # Interquartile mean over the ten runs of both tasks.
    pooled = [(21 - cost - 0.08 * seed) / 8 for cost in (15.0, 14.6) for seed in range(5)]
    assert over[1][:4] == ["1", "ippo", "5 × 2", "1M"]
    assert over[1][4].startswith(f"{iqm(pooled):.3f} [")
    assert over[1][5].startswith(f"{1 - np.mean(pooled):.3f} [")
    assert over[2][:4] == ["2", "zi-c", "5 × 2", "scripted"]
    of_pilot = next(t for t in page.tables[1:] if t[0][0] == "Rank" and t[1][2] == "5")
    assert of_pilot[1][1] == "ippo"
    matrix = page.tables[1]
    assert [row[0] for row in matrix[1:]] == ["1 ippo", "2 zi-c"]
    assert matrix[1][2].startswith("1.00 [") and matrix[2][1].startswith("0.00 [")
    assert "20 runs\nreport: file://" in capsys.readouterr().out
    text = (folder / "report.html").read_text()
    for heading in (
        "Performance profiles",
        "Probability of improvement",
        "Sample efficiency",
        "Welfare against fairness",
        "Nothing: no run failed",
    ):
        assert heading in text


def test_profiles_count_runs_above_a_threshold(reported):
    folder = reported(*entry("ippo", 16.84))  # 0.52, 0.51, 0.50, 0.49, 0.48
    (grid,) = [t for t in Page((folder / "report.html").read_text()).tables if "τ = 0.5" in t[0]]
    shares = [cell.split(" ")[0] for cell in grid[1][1:]]
    assert shares[grid[0].index("τ = 0.4") - 1] == "100"
    assert shares[grid[0].index("τ = 0.5") - 1] == "40"
    assert shares[grid[0].index("τ = 0.6") - 1] == "0"


def numbers_of(folder, label):
    """Return all numbers that the tables of a report tell of an entry, but for its rank."""
    found = []
    for table in Page((folder / "report.html").read_text()).tables:
        if "Entry" not in table[0] or any(cell.startswith("1 ") for cell in table[0]):
            continue  # the matrix compares
        place = table[0].index("Entry")
        found += [row[place:] for row in table[1:] if row[place] == label]
    return found


def test_a_newcomer_changes_no_other_number(reported, tmp_path):
    folder = reported(*TWO_TASKS)
    before = {label: numbers_of(folder, label) for label in ("ippo", "zi-c")}
    chances = rows_of(folder, 1)
    better = [
        *entry("best", 14.0, options={"deep": True}),
        *entry("best", 14.0, options={"deep": True}, **OTHER),
        *entry("best", 14.0, options={"deep": True}, task="third-v1", content_hash="7b" * 32),
    ]
    reported(*better)
    for label in ("ippo", "zi-c"):
        after = numbers_of(folder, label)
        # What is on a front may leave it: that word is of all entries, and no number.
        for one, other in zip(before[label], after, strict=True):
            assert [re.sub(" (on the front|perhaps on it)", "", cell) for cell in one] == [
                re.sub(" (on the front|perhaps on it)", "", cell) for cell in other
            ]
    page = Page((folder / "report.html").read_text())
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", (folder / "report.html").read_text())
    assert titles[:2] == ["Over other-v1, pilot-v1 and third-v1", "Over other-v1 and pilot-v1"]
    assert [row[1] for row in page.tables[0][1:]] == ["best"]
    matrix = next(t for t in page.tables if t[0][1:] == ["1 best", "2 ippo", "3 zi-c"])
    assert matrix[2][3] == chances[1][2]  # ippo over zi-c, as before


def test_a_variant_changes_labels_and_no_number(reported):
    before = numbers_of(reported(*TWO_TASKS), "ippo")
    folder = reported(*entry("ippo", 15.1, options={"gamma": 0.5}))
    after = numbers_of(folder, "ippo gamma=unset")
    assert len(after) == 5  # four on that task as before, and the table of variants
    for row in after:
        assert row[1:] in [row[1:] for row in before] or row[-1] == "unset"


def test_over_tasks_needs_as_many_runs_on_each(reported):
    folder = reported(*TWO_TASKS, *entry("half", 15.0), *entry("half", 15.0, seeds=4, **OTHER))
    text = (folder / "report.html").read_text()
    assert [row[1] for row in rows_of(folder)[1:]] == ["ippo", "zi-c"]
    assert "half: has not as many runs on each task (4 on other-v1, 5 on pilot-v1)." in text
    assert "other-v1, half: lacks seed 4." in text
    assert "other-v1, half: 4 runs; an interval and a rank need 5." in text


def test_mechanisms_are_never_pooled(reported):
    folder = reported(*entry("ippo", 15.0), *entry("ippo", 15.0, mechanism="call-auction", **OTHER))
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", (folder / "report.html").read_text())
    assert titles == ["other-v1", "pilot-v1", "What is missing"]


def test_few_runs_have_no_interval_and_are_told(reported):
    folder = reported(*entry("ippo", 15.0, seeds=3), *entry("zi-c", 17.0, seeds=3, budget=0))
    text = (folder / "report.html").read_text()
    row = rows_of(folder)[1]
    assert row[0] == "–"
    assert row[4] == "0.740"
    assert "No entry has 5 runs, so there are no intervals and no ranks." in text
    assert "pilot-v1, ippo: 3 runs; an interval and a rank need 5." in text
    assert 'class="band"' not in text and 'class="whisker"' not in text
    assert "perhaps on it" not in text


def test_failures_are_told(reported, tmp_path):
    run = write_result(tmp_path / "runs", make_result()).parent
    work = run.with_name(".seed-001.work")
    work.mkdir()
    failure = {
        "text": "the disk <b>is</b> full | *now*\x1b[31m\nTraceback",
        "bad_input": False,
        "when": "",
    }
    (work / "failure.json").write_text(json.dumps(failure))
    shown = make_result().config_hash
    attempt = {"id": "0" * 32, "again": False, "config_hash": shown, "started": "", "begun": 1}
    (work / "attempt.json").write_text(json.dumps(attempt))
    run.with_name(".seed-002.work").mkdir()
    run.with_name(".seed-000.work").mkdir()
    (run.with_name(".seed-000.work") / "failure.json").write_text("[]")
    (run.with_name(".seed-003.work") / "deep" / ".seed-009.work").mkdir(parents=True)
    folder = reported(make_result().model_copy(update={"notes": ["the sink fell over"]}))
    text = (folder / "report.html").read_text()
    place = run.parent.relative_to(tmp_path / "runs").as_posix()
    failed = "the disk &lt;b&gt;is&lt;/b&gt; full | *now*?[31m"
    assert f"<li>pilot-v1 ippo seed 001 ({place}/seed-001) failed: {failed}</li>" in text
    assert f"{place}/seed-002 is not finished." in text
    assert f"{place}/seed-000 failed: failure.json cannot be read. It was begun again" in text
    assert "seed-009" not in text
    assert "pilot-v1, ippo: the sink fell over" in text
    told = (folder / "report.md").read_text()
    assert r"the disk &lt;b&gt;is&lt;/b&gt; full \| \*now\*?\[31m" in told


def test_what_was_planned_and_is_not_there_is_told(reported, tmp_path):
    write_result(tmp_path / "runs", make_result())
    configs = [RunConfig(task="pilot-v1", algorithm="zi-c", seed=seed) for seed in (0, 1)]
    Plan("night", tuple(configs)).save(tmp_path / "runs")
    text = (reported() / "report.html").read_text()
    assert "pilot-v1 zi-c: planned and not there: seeds 0, 1." in text


def test_a_plan_of_plugins_that_are_not_here_hides_no_other(reported, tmp_path):
    write_result(tmp_path / "runs", make_result())
    Plan("night", (RunConfig(task="pilot-v1", algorithm="zi-c"),)).save(tmp_path / "runs")
    mine = [RunConfig(task="pilot-v1", algorithm="mine", seed=seed) for seed in (0, 1)]
    plan = Plan("own", tuple(mine)).save(tmp_path / "runs")
    plan.write_text(plan.read_text().replace('"plugins": []', '"plugins": ["my_trader.py"]'))
    told = (reported() / "report.md").read_text()
    assert "pilot-v1 zi-c: planned and not there: seed 0." in told
    assert "Plan 'own' cannot be looked up (unknown algorithm 'mine'" in told
    assert "made with --plugin my_trader.py: give the report the same." in told
    assert "It holds pilot-v1 mine (2 runs)." in told


def test_undefined_welfare_is_left_out_and_told(reported):
    nothing = {"grid_cost": [8.0, 14.0], "oracle_cost": [8.0, 14.0], "cost": [8.0, 14.0]}
    runs = [make_result("ippo", seed=seed, **nothing) for seed in range(5)]
    folder = reported(*runs)
    text = (folder / "report.html").read_text()
    assert "ippo: the welfare of 5 of 5 runs is undefined" in text
    assert rows_of(folder)[1][4] == "–"


def test_the_front(reported):
    fair = {"ftg": [0.9, 0.9], "fbs": [0.8, 0.8], "fpp": [0.9, 0.9], "ftb": [0.5, 0.5]}
    less = {"ftg": [0.5, 0.5], "fbs": [0.8, 0.8], "fpp": [0.9, 0.9], "ftb": [0.5, 0.5]}
    folder = reported(
        *entry("rich", 14.0, metrics=less),
        *entry("fair", 16.0, metrics=fair),
        *entry("worse", 16.1, metrics=less | {"ftg": [0.6, 0.6]}),
        *entry("worst", 19.0, metrics=less),
        *entry("equal", 18.0, metrics=fair),
    )
    (grid,) = [
        t for t in Page((folder / "report.html").read_text()).tables if t[0][2] == "Mean saving %"
    ]
    place = grid[0].index("FTG")
    standing = {row[0]: row[place] for row in grid[1:]}
    assert standing["rich"].endswith("on the front")
    assert standing["fair"].endswith("on the front")
    # "fair" is better in both, but in welfare by less than the intervals.
    assert standing["worse"].endswith("perhaps on it")
    assert standing["worst"] == "0.50"
    assert standing["equal"] == "0.90"  # exactly as fair as "fair", and poorer


def test_variants_of_an_algorithm_look_different(reported):
    folder = reported(
        *entry("ippo", 15.0, options={"learning_rate": 0.1}),
        *entry("ippo", 16.0, options={"learning_rate": 0.2}),
    )
    svg = (folder / "figures" / "pilot-v1-welfare.svg").read_text()
    assert 'class="marker c0"' in svg and 'class="marker c1"' in svg
    head, one, other = rows_of(folder, 1)
    assert head == ["Entry", "Configuration", "Budget", "learning_rate"]
    assert one[0] == "ippo learning_rate=0.1" and one[2:] == ["1M", "0.1"]
    assert other[0] == "ippo learning_rate=0.2" and other[2:] == ["1M", "0.2"]
    assert "| Entry | Configuration | Budget |" in (folder / "report.md").read_text()


def test_the_same_results_give_the_same_bytes(reported, tmp_path):
    folder = reported(*TWO_TASKS)
    report(tmp_path / "runs", tmp_path / "again")
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(files) > 20
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_the_page_asks_for_nothing_and_runs_nothing(reported):
    folder = reported(*TWO_TASKS)
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for name in ("href", "src", "style"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/svg+xml"))
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{allowed}'" in text
    assert "url(" not in style and "@import" not in style
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    links = [a["href"] for tag, a in page.elements if tag == "a" and a["href"].startswith("#")]
    assert {link[1:] for link in links} <= set(identifiers)
    assert "prefers-color-scheme: dark" in style


def test_markdown_names_pictures_that_are_there_and_whole(reported):
    folder = reported(*TWO_TASKS)
    told = (folder / "report.md").read_text()
    named = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", told)
    assert sorted(named) == sorted(f"figures/{p.name}" for p in (folder / "figures").iterdir())
    for name in named:
        svg = ET.parse(folder / name).getroot()
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(svg.attrib["width"]) > 400
    for table in re.findall(r"(?:^\|.*\n)+", told, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "| 1 | ippo | 5 × 2 | 1M |" in told


def test_one_entry_without_curves(reported):
    folder = reported(make_result(metrics={}, budget=0))
    text = (folder / "report.html").read_text()
    assert "Sample efficiency" not in text and "Probability of improvement" not in text


def test_a_folder_of_something_else_is_not_replaced(reported, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.tex").write_text("ten years of work")
    with pytest.raises(PeerWattError, match=r"holds thesis\.tex, which is of no report"):
        reported(make_result())
    with pytest.raises(PeerWattError, match="holds the results themselves"):
        report(tmp_path / "runs", tmp_path)
    with pytest.raises(PeerWattError, match="no such folder"):
        report(tmp_path / "nowhere", tmp_path / "other")
