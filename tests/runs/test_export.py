"""Results as tables and files: the numbers of the leaderboard, in the formats of others."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import peerwatt
from peerwatt.cli.export import run as export_command
from peerwatt.errors import PeerWattError
from peerwatt.runs.entries import read_boards
from peerwatt.runs.export import export
from peerwatt.runs.result import CurvePoint
from peerwatt.runs.summary import MEASURES, rows_of
from peerwatt.runs.tables import COLUMNS, read_table

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))
from leaderboard_factory import make_result, write_result

SCORES = {"ftg": 0.5, "fbs": 0.25, "fpp": 0.75, "ftb": 0.125}


def curve(*points):
    return [CurvePoint(agent_steps=s, welfare=w, scores=SCORES) for s, w in points]


@pytest.fixture
def folder(tmp_path):
    """Two entries on two tasks, three seeds each; the learner has two validations."""
    runs = tmp_path / "runs"
    for task, content_hash in (("pilot-v1", "3f" * 32), ("other-v1", "5a" * 32)):
        where = {"task": task, "content_hash": content_hash}
        for seed in range(3):
            learner = make_result("ippo", "rule", seed, cost=[9.0, 17.0 + 0.1 * seed], **where)
            learner = learner.model_copy(
                update={"curve": curve((500_000, 0.25), (1_000_000, 0.5 + 0.01 * seed))}
            )
            write_result(runs, learner)
            trader = make_result("zi-c", seed=seed, budget=0, cost=[9.0, 18.0], **where)
            write_result(runs, trader.model_copy(update={"curve": curve((0, 0.3))}))
    return runs


def test_a_row_per_run_has_the_numbers_of_the_leaderboard(folder):
    table = peerwatt.load_results(folder)
    assert len(table) == 12
    assert list(table) == [column.name for column in COLUMNS["run"]]
    for board in read_boards(folder):
        for row in rows_of(board):
            mine = table[table.config_hash == row.entry.first.config_hash].sort_values("seed")
            assert list(mine.entry) == [row.entry.label] * 3
            for measure in MEASURES:
                told = [None if np.isnan(v) else v for v in mine[measure.key]]
                assert tuple(told) == row.summaries[measure.key].seeds  # equal, not close
            assert mine.volume_kwh.mean() == row.others["volume_kwh"]
    assert str(table.dtypes["welfare"]) == "float64"
    assert list(table.scripted.unique()) == [False, True]
    assert table.attrs["columns"]["worst_off"]["unit"] == "%"
    assert (folder / table.folder[0] / "result.json").is_file()


def test_a_row_per_episode_and_per_validation(folder):
    table = peerwatt.load_results(str(folder), level="episode")
    assert len(table) == 24
    one = table[(table.task == "pilot-v1") & (table.algorithm == "peerwatt:ippo")]
    one = one[one.seed == 0]
    assert list(one.cost) == [9.0, 17.0]
    assert list(one.welfare) == [0.5, 0.5]
    assert list(one.ftg) == [0.5, 1.0]
    assert np.isnan(one.ftb.iloc[0]) and one.ftb.iloc[1] == 0.4  # undefined in the first
    points = peerwatt.load_results(folder, level="curve")
    assert len(points) == 2 * (3 * 2 + 3)
    assert set(points.fpp) == {0.75}
    learner = points[(points.task == "pilot-v1") & ~points.scripted & (points.seed == 2)]
    assert list(zip(learner.agent_steps, learner.welfare, strict=True)) == [
        (500_000, 0.25),
        (1_000_000, 0.52),
    ]


def test_csv_json_and_parquet_tell_the_same(folder, tmp_path):
    pandas = pytest.importorskip("pandas")
    table = peerwatt.load_results(folder)
    for form in ("csv", "json", "parquet"):
        rows, notes = export(folder, form, tmp_path / "out" / f"x.{form}")
        assert (rows, notes) == (12, [])
    told = json.loads((tmp_path / "out" / "x.json").read_text())
    assert [column["name"] for column in told["columns"]] == list(table)
    read = csv.DictReader(io.StringIO((tmp_path / "out" / "x.csv").read_text()))
    for raw, line, (_, row) in zip(told["rows"], read, table.iterrows(), strict=True):
        assert raw["welfare"] == float(line["welfare"]) == row.welfare
        assert raw["gini"] == row.gini
        assert line["critic_calls"] == "" and raw["critic_calls"] is None
    again = pandas.read_parquet(tmp_path / "out" / "x.parquet")
    assert again.welfare.tolist() == table.welfare.tolist()
    assert again.attrs["columns"] == table.attrs["columns"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["x.csv", "x.json", "x.parquet"]


def test_export_says_what_it_wrote(folder, tmp_path, capsys):
    out = tmp_path / "x.csv"
    export_command([str(folder), "--format", "csv", "--out", str(out), "--level", "episode"])
    assert capsys.readouterr().out == f"{out}: 24 rows\n"
    with pytest.raises(PeerWattError, match="marl-eval has all its levels"):
        export_command([str(folder), "--format", "marl-eval", "--out", str(out), "--level", "run"])
    with pytest.raises(PeerWattError, match="is a folder; name a file with --out"):
        export(folder, "csv", tmp_path)
    with pytest.raises(PeerWattError, match="unknown level 'runs': did you mean 'run'"):
        read_table(folder, "runs")
    with pytest.raises(PeerWattError, match="no such folder"):
        peerwatt.load_results(tmp_path / "nowhere")


def test_a_disk_that_refuses_leaves_the_old_file(folder, tmp_path, monkeypatch):
    out = tmp_path / "out" / "x.csv"
    out.parent.mkdir()
    out.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(PeerWattError, match=r"x\.csv: No space left on device; name another"):
        export(folder, "csv", out)
    assert [path.name for path in out.parent.iterdir()] == ["x.csv"]
    assert out.read_text() == "old"


def test_text_of_strangers_is_no_formula(tmp_path):
    evil = make_result()
    evil = evil.model_copy(
        update={"environment": evil.environment.model_copy(update={"git_commit": "=cmd()"})}
    )
    write_result(tmp_path, evil)
    assert read_table(tmp_path).rows[0]["git_commit"] is None


def test_csv_and_json_need_no_pandas(folder, tmp_path, monkeypatch):
    for name in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    for form in ("csv", "json", "marl-eval"):
        export(folder, form, tmp_path / form)
    for call in (
        lambda: peerwatt.load_results(folder),
        lambda: export(folder, "parquet", tmp_path / "x"),
    ):
        with pytest.raises(PeerWattError, match=r"need the module 'pandas'.*peerwatt\[tables\]"):
            call()
    assert not (tmp_path / "x").exists()


def test_marl_eval(folder, tmp_path):
    """The structure of its README: a step holds step_count and lists, absolute metrics are last."""
    rows, notes = export(folder, "marl-eval", tmp_path / "raw.json")
    assert (rows, notes) == (12, [])
    raw = json.loads((tmp_path / "raw.json").read_text())
    assert list(raw) == ["peerwatt"]
    assert sorted(raw["peerwatt"]) == ["other-v1", "pilot-v1"]
    algorithms = raw["peerwatt"]["pilot-v1"]
    assert sorted(algorithms) == ["ippo + rule", "zi-c"]
    run = algorithms["ippo + rule"]["seed_2"]
    assert list(run) == ["step_0", "step_1", "absolute_metrics"]
    assert run["step_1"]["step_count"] == 1_000_000
    assert run["step_1"]["elapsed_time"] == 350.0
    assert run["step_0"]["elapsed_time"] == 175.0  # no clock: one speed
    assert run["step_1"]["welfare"] == [0.52]
    table = peerwatt.load_results(folder)
    row = table[(table.task == "pilot-v1") & (table.entry == "ippo + rule") & (table.seed == 2)]
    assert run["absolute_metrics"]["welfare"] == row.welfare.tolist()
    assert run["absolute_metrics"]["ftb"] == row.ftb.tolist()
    assert set(run["step_0"]) - {"step_count", "elapsed_time"} == set(run["absolute_metrics"])
    # A scripted trader is the same at every step.
    steps = [algorithms["zi-c"]["seed_0"][f"step_{k}"] for k in (0, 1)]
    assert [step["step_count"] for step in steps] == [500_000, 1_000_000]
    assert [step["welfare"] for step in steps] == [[0.3], [0.3]]


def test_marl_eval_reads_the_clock(folder, tmp_path):
    run = next(folder.glob("pilot-v1/ippo*/*/seed-000"))
    lines = [{"agent_steps": 400_000, "seconds": 10.0}, {"agent_steps": 1_000_000, "seconds": 16.0}]
    (run / "clock.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    export(folder, "marl-eval", tmp_path / "raw.json")
    raw = json.loads((tmp_path / "raw.json").read_text())
    seeds = raw["peerwatt"]["pilot-v1"]["ippo + rule"]
    assert [seeds["seed_0"][f"step_{k}"]["elapsed_time"] for k in (0, 1)] == [11.0, 16.0]
    (run / "clock.jsonl").write_text("[]\nnonsense")
    export(folder, "marl-eval", tmp_path / "raw.json")
    raw = json.loads((tmp_path / "raw.json").read_text())
    assert raw["peerwatt"]["pilot-v1"]["ippo + rule"]["seed_0"]["step_1"]["elapsed_time"] == 350.0


def test_marl_eval_is_told_what_it_cannot_compare(folder, tmp_path, capsys):
    extra = make_result("solo", seed=7, cost=[9.0, 16.0])
    points = [*curve((10, 0.1)), CurvePoint(agent_steps=20, welfare=0.2, scores={"ftg": None})]
    write_result(folder, extra.model_copy(update={"curve": points}))
    write_result(folder, make_result("blank", seed=0))
    export_command([str(folder), "--format", "marl-eval", "--out", str(tmp_path / "raw.json")])
    told = capsys.readouterr().err
    assert "pilot-v1, blank, seed 0: has no learning curve and was left out" in told
    assert "ftg: is undefined at some step of some run and was left out" in told
    assert "the algorithms are not the same on all tasks" in told
    assert "the seeds are not the same everywhere" in told
    raw = json.loads((tmp_path / "raw.json").read_text())
    assert list(raw["peerwatt"]["pilot-v1"]["solo"]["seed_7"]["absolute_metrics"]) == ["welfare"]


def test_marl_eval_without_curves(tmp_path):
    write_result(tmp_path / "runs", make_result())
    with pytest.raises(PeerWattError, match="no run has a learning curve"):
        export(tmp_path / "runs", "marl-eval", tmp_path / "raw.json")
    assert not (tmp_path / "raw.json").exists()


def test_the_documentation_names_every_column():
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text()
    intro, *levels = re.split(r"^### Level ", page, flags=re.MULTILINE)
    for section, (level, columns) in zip(levels, COLUMNS.items(), strict=True):
        assert section.startswith(f"`{level}`")
        for column in columns:
            assert f"`{column.name}`" in intro + section, column.name
