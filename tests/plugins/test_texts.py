"""Plugins and their options as one text, and options of every type on all their ways."""

import json
import shlex
from dataclasses import dataclass, field
from typing import Literal

import pytest

from peerwatt.cli.options import Basics, parse, run_config
from peerwatt.errors import PeerWattError
from peerwatt.plugins import loader
from peerwatt.plugins.loader import Registered, build, find
from peerwatt.plugins.options import MOST_LEVELS, recorded_options
from peerwatt.plugins.specs import CriticSpec
from peerwatt.plugins.texts import from_text, parse_text
from peerwatt.runs.config import RunConfig, command_of, resolve
from peerwatt.runs.entries import effective_options


@dataclass(frozen=True)
class Typed:
    model: str = ""
    level: Literal["low", "high"] = "low"
    limit: int | None = None
    warmth: float | None = 0.0
    members: tuple[str, ...] = ("rule",)
    strict: bool = True
    key_env: str = field(default="", metadata={"operational": True})

    def score(self, slots):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def typed(monkeypatch):
    spec = CriticSpec(name="typed", factory=f"{__name__}:Typed", summary="x")
    found = Registered(spec, "acme", "1")
    monkeypatch.setitem(loader.registry().names["critic"], "typed", found)
    monkeypatch.setitem(loader.registry().qualified["critic"], "acme:typed", found)


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("rule", "rule", {}),
        ("peerwatt:rule", "peerwatt:rule", {}),
        ("llm:model=ollama/x:7b,api-base=http://h:1/v1", "llm", None),
        ("acme:llm:model=a=b", "acme:llm", {"model": "a=b"}),
        ("file:my_critic.py:mine:weight=1", "file:my_critic.py:mine", {"weight": "1"}),
        ('e: {"members": ["rule", "llm:model=x,prompt=y"], "on-cap": null}', "e", None),
        ("llm: model=x,", "llm", {"model": "x"}),
    ],
)
def test_a_text_is_a_name_and_options(text, name, options):
    expected = {
        "llm": {"model": "ollama/x:7b", "api_base": "http://h:1/v1"},
        "e": {"members": ["rule", "llm:model=x,prompt=y"], "on_cap": None},
    }
    assert parse_text("critic", text) == (name, expected[name] if options is None else options)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write NAME or NAME:option=value"),
        ("rule:", "write NAME or NAME:option=value"),
        (":model=x", "write NAME or NAME:option=value"),
        ("llm:model=x,y", "'y' is no option=value; write options that hold commas as JSON"),
        ("llm:{model: x}", "the options are no JSON object"),
        ("llm:model=x,model=y", "the option 'model' is told twice"),
        ("llm:a\x1b[31m", "unknown critic"),
    ],
)
def test_a_malformed_text_is_one_sentence(text, says):
    with pytest.raises(PeerWattError, match=says) as error:
        from_text("critic", text)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("typed", Typed()),
        ("typed:limit=5,warmth=0.5,level=high", Typed(limit=5, warmth=0.5, level="high")),
        ("typed:limit=None,warmth=None", Typed(warmth=None)),
        ("typed:model=None", Typed(model="None")),
        ("typed:members=random,strict=false", Typed(members=("random",), strict=False)),
        ('typed:{"members": ["a,b", "c"], "limit": null}', Typed(members=("a,b", "c"))),
        ("acme:typed:key-env=MY_KEY", Typed(key_env="MY_KEY")),
    ],
)
def test_options_get_their_types(text, expected):
    plugin, instance = from_text("critic", text)
    assert plugin.distribution == "acme"
    assert instance == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("typed:modle=x", "unknown option of critic 'typed' 'modle': did you mean 'model'"),
        ("typed:level=middle", "option level of critic 'typed': input should be 'low' or 'high'"),
        ("typed:limit=many", "option limit.* of critic 'typed'"),
        ("typd", "unknown critic 'typd': did you mean 'typed'"),
    ],
)
def test_a_wrong_option_is_one_sentence(text, says):
    with pytest.raises(PeerWattError, match=says):
        from_text("critic", text)


LINE = (
    "--task pilot-v1 --algorithm ippo --critic typed --critic.level high --critic.limit 5 "
    "--critic.warmth None --critic.members random llm:model=x,prompt=y --critic.no-strict "
    "--critic.key-env MY_KEY"
)


def resolved(line):
    basics, parsed = parse(Basics, shlex.split(line), "peerwatt run", "")
    return resolve(run_config(basics, parsed, 0))


def test_options_of_every_type_pass_the_command_line_the_record_and_back():
    run = resolved(LINE)
    members = ("random", "llm:model=x,prompt=y")
    assert run.critic == Typed("", "high", 5, None, members, False, "MY_KEY")
    recorded = json.loads(run.critic_record.model_dump_json())["options"]
    assert recorded == {
        "model": "", "level": "high", "limit": 5, "warmth": None, "members": list(members),
        "strict": False,
    }  # fmt: skip
    printed = command_of(run)
    assert "MY_KEY" not in printed and "key-env" not in printed
    again = resolved(printed.removeprefix("peerwatt run").replace("--seeds 1 --first-seed 0", ""))
    assert again.config_hash == run.config_hash


def test_operational_options_make_no_other_configuration():
    def hash_of(**options):
        options = tuple(options.items())
        config = RunConfig("pilot-v1", "ippo", critic="typed", critic_options=options)
        return resolve(config).config_hash

    assert hash_of(key_env="A") == hash_of(key_env="B") == hash_of()
    assert hash_of(limit=5) != hash_of()


SECRET = "openai-http:model=m,slots_per_call=1,cache=/home/me/my.sqlite,api_key_env=MY_KEY"


@pytest.mark.parametrize(
    ("critic", "name", "recorded"),
    [
        (
            "distilled:" + json.dumps({"teacher": SECRET}),
            "teacher",
            'openai-http:{"model": "m"}',
        ),
        ("distilled:teacher=rule", "teacher", "rule"),
        ("distilled:teacher=peerwatt:rule:{}", "teacher", "rule"),
        ("distilled:teacher=typed:strict=true", "teacher", "acme:typed"),
        ("distilled:teacher=acme:typed:limit=5", "teacher", 'acme:typed:{"limit": 5}'),
        (
            'ensemble:{"members": ["openai-http:share=0.5,model=m,cache=none", "constant"]}',
            "members",
            ('openai-http:{"model": "m", "share": 0.5}', "constant"),
        ),
        (
            'ensemble:{"members": ["distilled:teacher=openai-http:api-key-env=MY_KEY"]}',
            "members",
            ('distilled:{"teacher": "openai-http"}',),
        ),
    ],
)
def test_a_critic_within_another_is_recorded_without_what_is_operational(critic, name, recorded):
    plugin, instance = from_text("critic", critic)
    options = recorded_options(instance)
    assert options[name] == recorded
    # What is recorded makes the same critic, and is recorded alike.
    assert recorded_options(build("critic", plugin, options)) == options


def test_however_a_critic_within_another_is_written_it_is_one_configuration():
    def run_of(teacher):
        config = RunConfig(
            "pilot-v1", "ippo", critic="distilled", critic_options=(("teacher", teacher),)
        )
        return resolve(config)

    runs = [run_of(SECRET), run_of('openai-http:{"model": "m"}')]
    assert runs[0].config_hash == runs[1].config_hash
    assert run_of("openai-http:model=other").config_hash != runs[0].config_hash
    assert "MY_KEY" not in runs[0].critic_record.model_dump_json()
    assert "my.sqlite" not in runs[0].critic_record.model_dump_json()
    printed = command_of(runs[0])
    assert "MY_KEY" not in printed and "my.sqlite" not in printed
    again = resolved(printed.removeprefix("peerwatt run").replace("--seeds 1 --first-seed 0", ""))
    assert again.config_hash == runs[0].config_hash


def test_what_a_stranger_recorded_makes_no_plugin_of_theirs():
    members = ['acme:typed:{"wrong": 1}', "nobody:here:{}", "openai-http:model=m,cache=x"]
    effective = effective_options("critic", find("critic", "ensemble"), {"members": members})
    assert effective["members"] == [*members[:2], 'openai-http:{"model": "m"}']


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        ("distilled:teacher=" * MOST_LEVELS + "rule", "within more than 4 others"),
        ("distilled:teacher=" * 40_000 + "rule", "within more than 4 others"),
        ('constant:{"value": ' + "[" * 100_000 + "}", "nested too deep"),
        ("constant:value=2", "value"),
        ("distilled:", "write NAME or NAME:option=value"),
    ],
)
def test_critics_within_critics_without_end_are_one_sentence(teacher, says):
    with pytest.raises(PeerWattError, match=says) as error:
        effective_options("critic", find("critic", "distilled"), {"teacher": teacher})
    assert len(str(error.value)) < 500
