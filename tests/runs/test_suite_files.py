"""Suites: what they expand to, and one sentence for whatever is wrong in them."""

from pathlib import Path

import pytest

from peerwatt.errors import PeerWattError
from peerwatt.runs.config import resolve
from peerwatt.runs.suites import load_suite, suite_configs, suite_names

HEAD = "seeds = 2\nbudget = 100_000\n"
ENTRY = '[[entry]]\ntasks = ["pilot-v1"]\nalgorithms = ["ippo"]\n'


@pytest.fixture
def suite(tmp_path):
    def write(text):
        file = tmp_path / "my.toml"
        file.write_text(text)
        return str(file)

    return write


def test_the_suites_that_come_along():
    assert suite_names() == ["core", "full", "quick"]
    core = suite_configs("core")
    assert len(core) == 120 and len({config.task for config in core}) == 2
    assert {config.seed for config in core} == set(range(10))
    assert load_suite("full").budget == 5_000_000


def test_all_that_a_suite_can_say(suite):
    text = """
summary = "All of it."
seeds = 3
budget = 100_000
validations = 4

[shaping]
ftg = 0.5
role_aware = false

[[entry]]
tasks = ["pilot-v1"]
algorithms = ["ippo", "ippo:learning_rate=0.03,hidden=16", 'ippo:{"hidden": [8, 8]}']
critics = ["none", "random"]
mechanisms = ["cda", "call"]
seeds = 1
budget = 200_000

[[entry]]
tasks = ["pilot-v1"]
algorithms = ["zi-c"]
"""
    configs = suite_configs(suite(text))
    assert len(configs) == 3 * 2 * 2 * 1 + 3
    assert {config.budget for config in configs[:12]} == {200_000}
    assert all(c.validations == 4 and c.shaping.ftg == 0.5 for c in configs)
    assert not configs[0].shaping.role_aware
    options = {config.algorithm_options for config in configs[:12]}
    assert options == {(), (("learning_rate", 0.03), ("hidden", (16,))), (("hidden", (8, 8)),)}
    assert resolve(configs[4]).algorithm.learning_rate == 0.03
    fewer = suite_configs(suite(text), seeds=1, budget=50_000, first_seed=7)
    assert (
        len(fewer) == 13
        and {c.seed for c in fewer} == {7}
        and {c.budget for c in fewer} == {50_000}
    )


def test_a_card_counts_from_the_folder_of_the_suite(suite, tmp_path, monkeypatch):
    card = Path(__file__).parents[2] / "tasks/peerwatt_tasks/cards/pilot-v1.toml"
    text = card.read_text().replace("../data", str(card.parents[1] / "data"))
    (tmp_path / "card.toml").write_text(text)
    monkeypatch.chdir("/")
    (one, *_) = suite_configs(suite(HEAD + ENTRY.replace("pilot-v1", "card.toml")))
    assert one.task == str(tmp_path / "card.toml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (ENTRY, "seeds is missing: add seeds = 10; budget is missing: add budget = 2_000_000."),
        (HEAD, "entry is missing: add [[entry]]."),
        (HEAD + "[[entry]]\ntasks = ['pilot-v1']", "entry[0].algorithms is missing: add algor"),
        (
            "budgt = 3\nseeds = 0\n" + ENTRY,
            "; budgt: unknown key 'budgt': did you mean 'budget'?; budget is",
        ),
        ("budgt = 3\nseeds = 0\n" + ENTRY, "toml: seeds = 0: input should be greater"),
        (HEAD + "[shaping]\nftg = 'a'\n" + ENTRY, "shaping: ftg = 'a' must be a number."),
        ("seed = 3\n" + HEAD + ENTRY, "seed: unknown key 'seed': did you mean 'seeds'?"),
        (HEAD + ENTRY + "critic = ['rule']", "entry[0].critic: unknown key 'critic': did you mean"),
        (ENTRY.join(["seeds = 0\nbudget = 1\n", ""]), "seeds = 0: input should be greater"),
        (HEAD.replace("100_000", "'2M'") + ENTRY, "budget = '2M': input should be a valid integer"),
        (HEAD + ENTRY.replace("['ippo']", "[]").replace('["ippo"]', "[]"), "entry[0].algorithms"),
        (HEAD + ENTRY.replace("ippo", "ipo"), "entry[0].algorithms: unknown algorithm 'ipo': did"),
        (HEAD + ENTRY.replace("ippo", "ippo:learning_rat=1"), "did you mean 'learning_rate'?"),
        (HEAD + ENTRY.replace("ippo", "ippo:gamma=2"), "entry[0].algorithms: ippo: gamma 2.0 must"),
        (HEAD + ENTRY.replace("ippo", "ippo:gamma"), "unknown algorithm 'ippo:gamma': did"),
        (HEAD + ENTRY.replace("pilot", "pilt"), "entry[0].tasks: unknown task 'pilt-v1': did you"),
        (HEAD + ENTRY.replace("ippo", "zi-c") + "critics = ['rule']", "entry[0]: critic 'rule'"),
        (HEAD + "[shaping]\nftx = 1.0\n" + ENTRY, "shaping: unknown key 'ftx': did you mean 'ft"),
        (HEAD + "[shaping]\nftg = true\n" + ENTRY, "shaping: ftg = true must be a number."),
        (HEAD + "[shaping]\nwarm = 0.9\n" + ENTRY, "shaping: shaping.warm and shaping.ramp"),
        (HEAD + "entry = 3", "entry = 3: input should be a valid list"),
        ("seeds = ", "is not valid TOML"),
    ],
)
def test_every_error_names_suite_key_and_mend(suite, text, sentence):
    file = suite(text)
    with pytest.raises(PeerWattError) as caught:
        suite_configs(file)
    assert f"suite {file}" in str(caught.value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
