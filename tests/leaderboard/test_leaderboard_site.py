"""The page: what it says, that it is safe and loads nothing, and that it is whole or absent."""

import base64
import csv
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from leaderboard_factory import make_result, write_result

from peerwatt.errors import PeerWattError
from peerwatt_leaderboard import site
from peerwatt_leaderboard.command import build
from peerwatt_leaderboard.hooks import peerwatt_commands
from peerwatt_leaderboard.report.command import report

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """Collects the elements of a page and checks that they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.cells, self.cell = [], [], [], None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr" and "data-entry" in dict(attrs):
            self.cells.append([])
        if tag in ("td", "th") and self.cells:
            self.cells[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open) and self.cells and self.cells[-1]:
            self.cells[-1][-1] += data.strip()


@pytest.fixture
def built(tmp_path):
    """Build a page from results and return its text."""

    def make(*results):
        for result in results:
            write_result(tmp_path / "runs", result)
        build(tmp_path / "runs", tmp_path / "site")
        return (tmp_path / "site" / "index.html").read_text()

    return make


def community(algorithm, cost, critic="none", curve=None, budget=1_000_000):
    return [
        make_result(
            algorithm, critic, seed, cost=[9.0, cost + 0.01 * seed], curve=curve, budget=budget
        )
        for seed in range(5)
    ]


CURVE = [(0, 0.1), (500_000, 0.4), (1_000_000, 0.5)]


def test_the_table_shows_the_numbers(built, capsys):
    text = built(*[make_result(seed=seed) for seed in range(5)], *community("zi-c", 19.0, budget=0))
    row = Page(text).cells[0]
    assert row[:3] == ["1", "ippo", "none"]
    assert row[3] == "0.500all seeds equal"
    assert row[4:12] == ["0.62", "0.80", "0.85", "0.40", "13.3", "13.3", "0.0", "−13.3"]
    assert row[12:14] == ["5", "1M"]
    assert Page(text).cells[1][13] == "scripted"
    printed = capsys.readouterr().out
    assert "2 entries (10 runs) on 1 task\n" in printed
    assert "site/index.html" in printed


def test_ties_share_a_rank(built):
    text = built(*community("a", 15.0), *community("b", 15.0), *community("c", 18.0))
    assert [cells[0] for cells in Page(text).cells[:3]] == ["1=", "1=", "3"]
    assert "lead and cannot be told apart." in text


def test_undefined_values_are_dashes(built):
    metrics = {"ftg": [None, None], "fbs": [0.5, 0.5]}
    row = Page(built(make_result(metrics=metrics))).cells[0]
    assert row[0] == "–"
    assert row[3] == "0.500no interval"
    assert row[4:8] == ["–", "0.50", "–", "–"]


def test_few_seeds_are_shown_without_interval_and_rank(built):
    few = [make_result("hasty", seed=seed, cost=[9.0, 15.0], curve=CURVE) for seed in range(4)]
    text = built(*few, *community("a", 16.0), *community("b", 17.0))
    rows = Page(text).cells
    assert [cells[:2] for cells in rows[:3]] == [["1", "a"], ["2", "b"], ["–", "hasty"]]
    assert rows[2][3] == "0.750no interval"
    assert "not ranked: at least 5 seeds are needed" in text
    assert " leads the ranked entries." in text
    assert 'class="band"' not in text


@pytest.mark.parametrize("budget", [0, 1_000_000])
def test_pages_of_little(built, budget):
    text = built(
        make_result(budget=budget, metrics={}, cost=[10.0, 20.0], oracle_cost=[10.0, 20.0])
    )
    assert Page(text).cells[0][3] == "–"
    assert "undefined for every entry" in text
    assert "No learning curve has been recorded" in text


HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}&amp;"


def test_hostile_names_are_escaped(built, tmp_path):
    hostile = [
        make_result(
            seed=seed,
            options={HOSTILE: HOSTILE},
            command=HOSTILE,
            curve=CURVE,
        )
        for seed in (0, 1)
    ]
    for number, result in enumerate(hostile):
        path = tmp_path / "runs" / str(number) / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(result.model_dump_json())
    text = built()
    page = Page(text)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]
    assert "{{ 7*7 }}" in text  # shown, not evaluated
    names = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert names == {"runs", "site"}
    for path in (tmp_path / "site").rglob("*"):
        assert re.fullmatch(r"[a-z0-9.-]+", path.name)


def test_the_page_loads_nothing(built):
    text = built(*community("ippo", 15.0, "rule", CURVE), *community("zi-c", 18.0, budget=0))
    page = Page(text)
    for tag, attrs in page.elements:
        assert "src" not in attrs, tag
        assert "style" not in attrs, tag  # the content policy would drop it
        for key in ("href", "xlink:href"):
            if key in attrs:
                assert attrs[key].startswith(("#", "data/", "data:image/svg+xml,")), attrs
    assert not re.search(r"url\(|@import|https?://", text)


def test_the_policy_allows_exactly_the_own_style_and_script(built):
    text = built(make_result())
    page = Page(text)
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_addresses_on_the_page_exist(built, tmp_path):
    text = built(
        *community("ippo", 15.0, "rule", CURVE),
        *community("ippo", 15.5, "none", CURVE),
        *community("zi-c", 18.0, budget=0),
    )
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.elements:
        href = attrs.get("href", "")
        if href.startswith("#"):
            assert href[1:] in ids
        elif href.startswith("data/"):
            assert (tmp_path / "site" / href).is_file()
        if "data-entry" in attrs:
            assert attrs["data-entry"] in ids


def test_charts_show_bands_lines_and_both_anchors(built):
    text = built(*community("ippo", 15.0, "rule", CURVE), *community("zi-c", 18.0, budget=0))
    assert text.count('class="curve"') == 1
    assert text.count('class="reference"') == 1
    assert "zi-c (test)" in text  # no validation was recorded for it
    assert "optimum = 1" in text
    assert "grid-only = 0" in text
    assert text.count('class="point ') == 5 * 2  # five fairness measures, two entries


def test_a_scripted_trader_is_a_level_line_on_validation(built):
    text = built(
        *community("ippo", 15.0, "rule", CURVE),
        *community("zi-c", 18.0, curve=[(0, 0.25)], budget=0),
    )
    (line,) = re.findall(r'<line ([^>]*class="reference"[^>]*)>', text)
    heights = dict(re.findall(r'(y[12])="([\d.]+)"', line))
    assert heights["y1"] == heights["y2"]
    assert "zi-c (test)" not in text
    assert "level grey lines = scripted traders" in text


def test_a_learner_of_uncounted_steps_is_a_point_among_the_curves(built):
    uncounted = make_result("own-env", budget=1_000_000, agent_steps=0, curve=[(0, 0.4)])
    text = built(*community("ippo", 15.0, "rule", CURVE), uncounted)
    assert 'class="reference"' not in text
    assert text.count('class="curve"') == 2  # the one of a single point is only its marker
    assert [cells[13] for cells in Page(text).cells[:2]] == ["1M", "1M"]


def test_a_point_alone_is_no_learning_curve(built):
    assert "No learning curve has been recorded" in built(make_result(curve=[(0, 0.4)]))


def test_data_files(built, tmp_path):
    built(*community("ippo", 15.0, "rule"), *community("zi-c", 18.0, budget=0))
    data = tmp_path / "site" / "data"
    table = json.loads((data / "pilot-v1.json").read_text())
    assert table["task"]["name"] == "pilot-v1"
    first, second = table["entries"]
    assert (first["rank"], first["label"], first["seeds"]) == (1, "ippo + rule", [0, 1, 2, 3, 4])
    assert first["values"]["welfare"]["seeds"][0] == pytest.approx(6 / 8)
    with (data / "pilot-v1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["algorithm"] for row in rows] == ["ippo", "zi-c"]
    assert float(rows[0]["welfare"]) == first["values"]["welfare"]["estimate"]
    for entry in (first, second):
        for run in entry["runs"]:
            assert json.loads((data / run).read_text())["algorithm"]["name"] == entry["algorithm"]


def test_same_results_same_page(built, tmp_path):
    one = built(*community("ippo", 15.0, "rule", CURVE))
    build(tmp_path / "runs", tmp_path / "other")
    assert (tmp_path / "other" / "index.html").read_text() == one


def test_a_page_is_replaced_whole(built, tmp_path):
    built(make_result("old"))
    (tmp_path / "runs").rename(tmp_path / "before")
    text = built(make_result("new"))
    assert "old" not in [cells[1] for cells in Page(text).cells]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "runs", "site"]
    assert not list((tmp_path / "site" / "data").glob("*old*"))


def test_a_failure_leaves_the_old_page_and_nothing_else(built, tmp_path, monkeypatch):
    before = built(make_result())

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(site, "_write_data", fail)
    with pytest.raises(PeerWattError, match="cannot be written"):
        build(tmp_path / "runs", tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "site"]


def test_bad_results_write_nothing(tmp_path):
    path = write_result(tmp_path / "runs", make_result())
    path.write_text("[]")
    with pytest.raises(PeerWattError, match=re.escape(str(path))):
        build(tmp_path / "runs", tmp_path / "site")
    with pytest.raises(PeerWattError, match="no such folder"):
        build(tmp_path / "nowhere", tmp_path / "site")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_folder_of_something_else_is_not_replaced(built, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.tex").write_text("ten years of work")
    with pytest.raises(PeerWattError, match=r"holds thesis\.tex, which is of no page"):
        built(make_result())
    assert (tmp_path / "site" / "thesis.tex").exists()
    with pytest.raises(PeerWattError, match="holds the results themselves"):
        build(tmp_path / "runs", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(PeerWattError, match="is a file"):
        build(tmp_path / "runs", tmp_path / "file")


@pytest.mark.parametrize("name", ["CNAME", "data/notes.csv", "data/pilot-v1-ippo/thesis.tex"])
def test_what_was_put_beside_a_page_is_not_lost(built, tmp_path, name):
    before = built(make_result())
    (tmp_path / "site" / name).write_text("mine")
    with pytest.raises(PeerWattError, match=re.escape(f"holds {name}, ")):
        built(make_result("new"))
    assert (tmp_path / "site" / name).read_text() == "mine"
    assert (tmp_path / "site" / "index.html").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "site"]


def test_what_is_put_there_while_the_page_is_built_is_not_lost(built, tmp_path, monkeypatch):
    before = built(make_result())
    write_data = site._write_data

    def slowly(*arguments):
        (tmp_path / "site" / "thesis.tex").write_text("mine")
        write_data(*arguments)

    monkeypatch.setattr(site, "_write_data", slowly)
    with pytest.raises(PeerWattError, match=r"thesis\.tex"):
        built(make_result("new"))
    assert (tmp_path / "site" / "index.html").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "site"]


def test_a_link_to_a_page_stays_a_link(built, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "site").symlink_to(tmp_path / "real")
    built(make_result())
    assert "new" in built(make_result("new"))
    assert (tmp_path / "site").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real", "runs", "site"]


def test_the_hook_names_the_commands():
    commands = {spec.name: spec.load() for spec in peerwatt_commands()}
    assert commands == {"leaderboard build": build, "report": report}


def test_a_result_in_a_work_folder_is_none(tmp_path):
    path = write_result(tmp_path / "runs", make_result())
    path.parent.rename(path.parent.with_name(".seed-000.work"))
    with pytest.raises(PeerWattError, match="holds no result"):
        build(tmp_path / "runs", tmp_path / "site")
