"""litellm, kept to one request at a time, to one address, and to what it is good at."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from asking import KEY, ask, critic, needs_litellm
from fake_server import (
    FakeServer,
    bomb,
    broken_off,
    dropped,
    empty_choices,
    error,
    huge,
    redirect,
    replies,
)

from peerwatt.errors import PeerWattError
from peerwatt_critics import llm
from peerwatt_critics.calls.exchange import Request, TransportError
from peerwatt_critics.distilled import DistilledCritic
from peerwatt_critics.ensemble import EnsembleCritic
from peerwatt_critics.llm import PROVIDERS, LitellmTransport, LlmCritic
from peerwatt_critics.openai_http import HttpTransport, OpenaiHttpCritic

OPENAI_LIKE = sorted(set(PROVIDERS) - {"anthropic", "gemini", "ollama", "ollama_chat"})
SLOW = pytest.mark.slow
"""Of those that answer alike, one is asked in the fast tests."""
OTHERS = {
    "anthropic": "/v1/messages",
    "gemini": "/models/gemini-2.0-flash:generateContent",
    "ollama": "/api/generate",
    "ollama_chat": "/api/chat",
}
FAILING = [
    *("openai", "anthropic"),
    *(pytest.param(name, marks=SLOW) for name in ("mistral", "gemini", "ollama", "ollama_chat")),
]
FAULTS = {
    "closed": (dropped, "connection"),  # litellm's own client would try again
    "reset": (broken_off, "connection"),
    "10 MB": (huge, "too-large"),
    "bomb": (bomb, "too-large"),
    "500": (error(500), "http-500"),
    "429": (error(429), "http-429"),
    "401": (error(401), "http-401"),
    "no choice": (empty_choices, "no-choice"),
    "other model": (replies(model="cheaper"), "other-model"),
}
QUESTION = Request(
    (
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": '{"a": "temperature"}'},
    ),
    {
        "type": "object",
        "properties": {"ftg": {"type": "integer"}},
        "required": ["ftg"],
        "additionalProperties": False,
    },
    80,
)


def model(provider):
    # litellm knows by the name what a model of Gemini takes.
    return f"{provider}/{'gemini-2.0-flash' if provider == 'gemini' else 'fake'}"


def fixed(seen):
    return '{"ftg": 7}'


def complete(transport, question=QUESTION):
    """The reply to one request, or the error; the transport is closed."""

    async def once():
        try:
            return await transport.complete(question)
        except TransportError as failure:
            return failure
        finally:
            await transport.close()

    return asyncio.run(once())


def transport(provider, server, **options):
    base = server.url if provider in OPENAI_LIKE else server.origin
    options = {"model": model(provider), "api_base": base} | options
    return LitellmTransport(LlmCritic(**options), lambda text: text)


def outcome(reply):
    return reply.reason if isinstance(reply, TransportError) else reply.text


@needs_litellm
@pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")  # litellm's own
class TestProviders:
    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_sends_one_request_to_the_address(self, provider, monkeypatch):
        monkeypatch.setenv("FAKE_KEY", KEY)
        with FakeServer(answer=fixed) as server:
            reply = complete(transport(provider, server, api_key_env="FAKE_KEY"))
        (seen,) = server.seen
        assert seen.path == OTHERS.get(provider, "/v1/chat/completions")
        assert [name for name, value in seen.headers.items() if KEY in value] in (
            ["authorization"],
            ["x-api-key"],
            ["x-goog-api-key"],
        )
        assert (reply.text, reply.finish) == ('{"ftg": 7}', "stop")
        assert reply.model.split("/")[-1] == model(provider).split("/")[-1]
        assert (reply.prompt_tokens, reply.completion_tokens) == (100, 20)

    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_without_a_key_none_is_sent(self, provider, monkeypatch):
        for usual in PROVIDERS.values():
            if usual.key:
                monkeypatch.setenv(usual.key, KEY)
        with FakeServer(answer=fixed) as server:
            assert outcome(complete(transport(provider, server))) == '{"ftg": 7}'
        assert not {"authorization", "x-api-key", "x-goog-api-key"} & set(server.seen[0].headers)

    @pytest.mark.parametrize("provider", FAILING)
    @pytest.mark.parametrize("fault, expected", FAULTS.values(), ids=FAULTS.keys())
    def test_fails_at_once(self, provider, fault, expected):
        if provider.startswith("ollama") and expected == "no-choice":
            pytest.skip("ollama's protocol knows no choices")
        with FakeServer([fault], answer=fixed) as server:
            assert outcome(complete(transport(provider, server))) == expected
        assert len(server.seen) == 1

    @pytest.mark.parametrize("provider", FAILING)
    @pytest.mark.parametrize("status", [301, 307])
    def test_does_not_follow_a_redirect(self, provider, status):
        with FakeServer() as other, FakeServer() as server:
            server.script = [redirect(other.url, status)]
            assert outcome(complete(transport(provider, server))) == "redirect"
        assert other.seen == []
        assert len(server.seen) == 1

    @pytest.mark.parametrize("provider", ["openai", *OTHERS])
    def test_tells_that_a_reply_was_cut_short(self, provider):
        with FakeServer([replies(finish="length")], answer=fixed) as server:
            assert complete(transport(provider, server)).finish == "length"

    @pytest.mark.parametrize("provider, finish", [("anthropic", "refusal"), ("gemini", "SAFETY")])
    def test_tells_that_a_model_declined(self, provider, finish):
        with FakeServer([replies(finish=finish)], answer=fixed) as server:
            assert complete(transport(provider, server)).refusal

    @pytest.mark.parametrize("provider", OTHERS)
    def test_scores_as_the_rule_does(self, provider, tmp_path):
        with FakeServer() as server:
            asking = critic("llm", server.origin, model=model(provider), rationale=True)
            asked = ask(asking, tmp_path)
        assert asked.scored == [True] * 3
        assert asked.usage.calls == len(server.seen) == 3

    def test_usage_that_is_not_told_is_not_made_up(self):
        def silent(exchange):
            body = exchange.completion('{"ftg": 7}')
            del body["prompt_eval_count"], body["eval_count"]
            exchange.send(200, body)

        with FakeServer([silent]) as server:
            reply = complete(transport("ollama_chat", server))
        assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == (
            '{"ftg": 7}',
            None,
            None,
        )

    def test_a_client_that_goes_its_own_way_reaches_nobody(self, monkeypatch):
        """litellm's client for cohere ignores what it is told to send with."""
        monkeypatch.setitem(PROVIDERS, "cohere", llm.Provider())
        with FakeServer(answer=fixed) as server:
            failure = complete(transport("cohere", server))
        assert (failure.reason, failure.fatal) == ("unguarded", True)
        assert "use --critic openai-http" in str(failure)
        assert server.seen == []


@needs_litellm
class TestOptions:
    def test_says_what_openai_http_says(self):
        options = {"temperature": 0.25, "model_seed": 3}
        with FakeServer(answer=fixed) as server:
            complete(transport("openai", server, **options))
            critic = OpenaiHttpCritic(model="fake", api_base=server.url, **options)
            complete(HttpTransport(critic, lambda text: text))
        first, second = server.seen
        assert first.json == second.json
        assert first.json["response_format"]["json_schema"]["schema"] == QUESTION.schema
        assert first.json["response_format"]["json_schema"]["strict"] is True

    @pytest.mark.parametrize("wanted", ["json-object", "none"])
    def test_a_weaker_format_is_sent(self, wanted):
        with FakeServer(answer=fixed) as server:
            complete(transport("openai", server, response_format=wanted))
            critic = OpenaiHttpCritic(model="fake", api_base=server.url, response_format=wanted)
            complete(HttpTransport(critic, lambda text: text))
        for seen in server.seen:
            expected = {"type": "json_object"} if wanted == "json-object" else None
            assert seen.json.get("response_format") == expected

    @pytest.mark.parametrize(
        "model, dropped",
        [
            ("openai/fake", ()),
            ("openai/o3-mini", ("temperature",)),
            ("anthropic/fake", ("model_seed",)),
            ("mistral/fake", ()),
            ("gemini/gemini-2.0-flash", ()),
            ("gemini/fake", ("response_format",)),
            ("ollama/fake", ()),
        ],
    )
    def test_what_a_model_does_not_take_is_left_out_and_told(self, model, dropped):
        with FakeServer(answer=fixed) as server:
            sending = transport(model.split("/")[0], server, model=model, model_seed=3)
            assert outcome(complete(sending)) == '{"ftg": 7}'
        assert sending.dropped == dropped

    def test_the_prices_of_a_provider_hold_at_its_own_address_only(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)

        def prices(**options):
            return LitellmTransport(LlmCritic(**options), lambda text: text).prices()

        known = prices(model="openai/gpt-4o-mini")
        assert 0 < known.prompt < known.completion < 1e-4
        assert prices(model="anthropic/claude-sonnet-4-5").prompt > 0
        assert prices(model="openai/gpt-4o-mini", api_base="http://127.0.0.1:1/v1") is None
        assert prices(model="openai/no-such-model") is None
        assert prices(model="ollama/llama2") is None  # listed with a price of 0

    def test_records_the_address_that_it_uses(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.example/v1")
        monkeypatch.setenv("OPENAI_API_BASE", "http://elsewhere.example/v1")
        sending = LitellmTransport(LlmCritic(model="openai/gpt-4o-mini"), lambda text: text)
        assert sending.identity == {
            "client": "llm",
            "api_base": "https://api.openai.com/v1",
            "model": "openai/gpt-4o-mini",
        }

    @pytest.mark.parametrize(
        "model, words",
        [
            ("gpt-4o", "names no provider"),
            ("bedrock/x", "names no provider"),
            ("openai/", "names no provider"),
            ("hosted_vllm/x", "has no usual address; name the server's"),
            ("", "critic.model is empty"),
        ],
    )
    def test_what_cannot_be_asked_is_refused(self, model, words, tmp_path):
        with pytest.raises(PeerWattError, match=words):
            ask(LlmCritic(model=model), tmp_path)


def test_openai_itself_gets_its_own_words(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    sending = HttpTransport(OpenaiHttpCritic(model="gpt-5-mini"), lambda text: text)
    sent = []

    async def send(request):
        sent.append(request)
        return {"model": "gpt-5-mini-2026-01-01", "choices": [{"message": {"content": "{}"}}]}

    monkeypatch.setattr(sending._guard, "send", send)
    reply = complete(sending)
    (request,) = sent
    assert str(request.url) == "https://api.openai.com/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    body = json.loads(request.content)
    assert body["max_completion_tokens"] == 80
    assert "max_tokens" not in body
    assert (reply.text, reply.model) == ("{}", "gpt-5-mini-2026-01-01")


UNSET = r"OPENAI_API_KEY is not set; export it, or name another variable by"


class TestCheck:
    """What would fail every run is told before the first, without a client's import."""

    @pytest.fixture(autouse=True)
    def no_litellm(self, monkeypatch):
        def imported():
            raise AssertionError("litellm is imported")

        monkeypatch.setattr(llm, "fenced_litellm", imported)
        for provider in PROVIDERS.values():
            monkeypatch.delenv(provider.key or "NONE", raising=False)

    @pytest.mark.parametrize(
        "client, options, words",
        [
            ("openai-http", {"model": "gpt-5"}, UNSET),
            ("openai-http", {}, "critic.model is empty"),
            ("openai-http", {"model": "x", "api_key_env": "NOT_THERE"}, "no such environment"),
            (
                "openai-http",
                {"model": "x", "api_base": "http://127.0.0.1:1/v1", "max_dollars": 1.0},
                "the price of x is not known",
            ),
            ("llm", {"model": "openai/gpt-5"}, UNSET),
            ("llm", {"model": "anthropic/x"}, "ANTHROPIC_API_KEY is not set"),
            ("llm", {"model": "gpt-5"}, "names no provider"),
            ("llm", {}, "critic.model is empty"),
        ],
    )
    def test_tells_what_is_missing(self, client, options, words):
        if client == "llm":
            pytest.importorskip("litellm")
        critic = {"openai-http": OpenaiHttpCritic, "llm": LlmCritic}[client](**options)
        with pytest.raises(PeerWattError, match=words):
            critic.check()

    @needs_litellm
    def test_is_content_with_a_model_that_needs_no_key(self):
        LlmCritic(model="ollama/llama3.1").check()
        OpenaiHttpCritic(model="x", api_base="http://127.0.0.1:1/v1").check()

    def test_leaves_no_file(self, tmp_path):
        file = tmp_path / "cache.sqlite"
        OpenaiHttpCritic(model="x", api_base="http://127.0.0.1:1/v1", cache=str(file)).check()
        assert not file.exists()

    @pytest.mark.parametrize(
        "critic, words",
        [
            (
                DistilledCritic(teacher="openai-http"),
                "teacher 'openai-http': model is empty.*; write --critic.teacher "
                "openai-http:model=NAME.$",
            ),
            (
                EnsembleCritic(members=("rule", "openai-http:model=x")),
                "member 'openai-http': OPENAI_API_KEY is not set; .* by api_key_env; write "
                "--critic.members openai-http:api_key_env=VALUE.$",
            ),
        ],
    )
    def test_names_the_place_in_a_critic_made_of_others(self, critic, words, tmp_path):
        with pytest.raises(PeerWattError, match=words):
            critic.check()
        with pytest.raises(PeerWattError, match=words):
            ask(critic, tmp_path)

    def test_options_of_a_teacher_are_told_as_they_are_written_there(self):
        with pytest.raises(
            PeerWattError,
            match=r"^teacher 'openai-http': every must .* --critic\.teacher openai-http",
        ):
            DistilledCritic(teacher="openai-http:model=x,every=0").contents()


class TestMissing:
    @pytest.fixture(autouse=True)
    def key(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def test_httpx(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "httpx", None)
        monkeypatch.delitem(sys.modules, "peerwatt_critics.calls.guard", raising=False)
        with pytest.raises(PeerWattError, match=r"needs httpx.* pip install 'peerwatt\[http\]'\.$"):
            ask(OpenaiHttpCritic(model="x"), tmp_path)

    def test_litellm(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "litellm", None)
        with pytest.raises(
            PeerWattError, match=r"needs litellm.* pip install 'peerwatt\[llm\]'\.$"
        ):
            ask(LlmCritic(model="openai/x"), tmp_path)
        with pytest.raises(PeerWattError, match="needs litellm"):
            LlmCritic(model="openai/x").check()


def python(script, *arguments, **run):
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, **run
    )


@pytest.mark.parametrize("command", [[], ["list"], ["plugins", "list"]])
def test_no_client_is_loaded_before_it_is_used(command):
    script = """
import sys
import peerwatt
if sys.argv[1:]:
    from peerwatt.cli.main import main
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
loaded = {"litellm", "httpx", "openai", "aiohttp"} & set(sys.modules)
assert not loaded, loaded
"""
    done = python(script, *command)
    assert done.returncode == 0, done.stderr


HOSTILE = """
import json, sys
contacts = []

def note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        contacts.append(["connect", *arguments[1][:2]])
    elif event.startswith("socket.get") and event.endswith("info"):
        contacts.append(["look up", arguments[0], arguments[1]])
    elif event.startswith("socket.gethostby"):
        contacts.append(["look up", arguments[0], None])

sys.addaudithook(note)
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from asking import ask, critic
from peerwatt_critics.calls import backoff

backoff.FIRST = 0.001
origin, results = sys.argv[2:]
for number, model in enumerate(json.loads(sys.stdin.read())):
    client, _, name = model.partition(":")
    base = origin + ("/v1" if name in ("fake", "openai/fake") else "")
    folder = Path(f"run-{number}")
    folder.mkdir()
    asking = critic(client, base, model=name, api_key_env="FAKE_KEY", timeout=30.0, concurrency=2)
    asked = ask(asking, folder, count=4)
    print(asked.scored.count(True), asked.usage.calls, file=open(results, "a"))
print(json.dumps(contacts), file=open(results, "a"))
"""


@pytest.mark.parametrize(
    "models",
    [
        ["openai-http:fake"],
        pytest.param(
            ["llm:openai/fake", "llm:ollama/fake", "llm:anthropic/fake"],
            marks=[needs_litellm, SLOW],
        ),
    ],
    ids=["openai-http", "llm"],
)
def test_nothing_else_is_contacted_whatever_the_environment_says(models, tmp_path):
    faults = [None, dropped, error(500), None, huge]
    with FakeServer() as other, FakeServer(lambda number: faults[number % 5]) as server:
        elsewhere = {
            name: other.url
            for name in [
                "OPENAI_BASE_URL",
                "OPENAI_API_BASE",
                "ANTHROPIC_BASE_URL",
                "ANTHROPIC_API_BASE",
                "OLLAMA_API_BASE",
                "OLLAMA_HOST",
                "LITELLM_MODEL_COST_MAP_URL",
                "LITELLM_PROXY_API_BASE",
                "HTTP_PROXY",
                "HTTPS_PROXY",
                "ALL_PROXY",
                "http_proxy",
                "https_proxy",
                "all_proxy",
            ]
        }
        planted = "planted-key-0123456789"
        (tmp_path / ".env").write_text(
            f"OPENAI_API_KEY={planted}\nOPENAI_BASE_URL={other.url}\nLITELLM_LOG=DEBUG\n"
            f"ANTHROPIC_API_KEY={planted}\nHTTP_PROXY={other.url}\nFAKE_KEY={planted}\n"
        )
        done = python(
            HOSTILE,
            str(Path(__file__).parent),
            server.origin,
            "results.txt",
            input=json.dumps(models),
            cwd=tmp_path,
            env=os.environ
            | elsewhere
            | {
                "FAKE_KEY": KEY,
                "LITELLM_LOG": "DEBUG",
                "OPENAI_LOG": "debug",
                "OPENAI_API_KEY": planted,
                "OPENAI_ADMIN_KEY": planted,
                "ANTHROPIC_AUTH_TOKEN": planted,
                "OPENAI_ORG_ID": "my-organisation",
                "OPENAI_CUSTOM_HEADERS": f"Authorization: Bearer {planted}\nX-Extra: {planted}",
                "LITELLM_ROUTE_ALL_CHAT_OPENAI_TO_RESPONSES": "true",
            },
        )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    *counts, contacts = (tmp_path / "results.txt").read_text().splitlines()
    assert other.seen == []
    contacts = {tuple(contact) for contact in json.loads(contacts)}
    assert contacts <= {
        ("connect", "127.0.0.1", server.port),
        ("look up", "127.0.0.1", server.port),
    }
    assert sum(int(line.split()[1]) for line in counts) == len(server.seen)
    assert all(int(line.split()[0]) >= 2 for line in counts)
    for seen in server.seen:
        said = json.dumps(dict(seen.headers)) + seen.body.decode()
        assert planted not in said
        assert "my-organisation" not in said
        assert said.count(json.dumps(KEY)[1:-1]) == 1
