"""Broken distributions beside a good one: the good one works, each bad one is told with a reason.

Each is installed for real (module and dist-info on the path), in one heap, and looked at through
the command line.
"""

import json

import pytest
from distributions import HOOK, Site

IMPORT = "from peerwatt.plugins import AlgorithmSpec, hookimpl\n"
BROKEN = {
    # distribution: (source, what its reason must say)
    "bad-import": ("import not_there_at_all\n", ["cannot be imported", "'not_there_at_all'"]),
    "bad-syntax": ("def (:\n", ["cannot be imported", "SyntaxError"]),
    "bad-exit": ("import sys\nsys.exit(3)\n", ["cannot be imported", "SystemExit: 3"]),
    "bad-cancel": (
        "import asyncio\nraise asyncio.CancelledError('gone')\n",
        ["cannot be imported", "CancelledError: gone"],
    ),
    "bad-message": (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute\n",
        ["cannot be imported", "Mute: its message cannot be read"],
    ),
    "bad-escape": (
        "print('noise')\nraise ValueError('\\x1b]0;owned\\x07' + 'x' * 10**6)\n",
        ["cannot be imported", "ValueError: ?]0;owned?xxx"],
    ),
    "bad-empty": (
        IMPORT + "@hookimpl\ndef peerwatt_algorithms():\n    return []\n",
        ["registers nothing"],
    ),
    "bad-class": (
        IMPORT + "class Sly(AlgorithmSpec):\n    def problem(self):\n        return None\n"
        "@hookimpl\ndef peerwatt_algorithms():\n"
        "    return [Sly(name='Bad Name', factory='a:b', policy='a:b', summary='x')]\n",
        ["returns Sly(", "expected AlgorithmSpec"],
    ),
    "bad-signature": (
        IMPORT + "@hookimpl\ndef peerwatt_algorithms(registry):\n    return []\n",
        ["cannot be registered", "registry"],
    ),
    "bad-spelling": (
        IMPORT + "@hookimpl\ndef peerwatt_algoritms():\n    return []\n",
        ["no hook 'peerwatt_algoritms'", "did you mean 'peerwatt_algorithms'?"],
    ),
    "bad-registering": (
        "def __dir__():\n    raise RuntimeError('sprung')\n",
        ["cannot be registered", "RuntimeError: sprung", "bad_registering.py:2"],
    ),
    "bad-hook": (
        IMPORT + "@hookimpl\ndef peerwatt_algorithms():\n    raise KeyError('key')\n",
        ["hook peerwatt_algorithms fails", "KeyError: 'key'", "bad_hook.py:4"],
    ),
    "bad-hook-exit": (
        IMPORT + "@hookimpl\ndef peerwatt_algorithms():\n    raise SystemExit(0)\n",
        ["hook peerwatt_algorithms fails", "SystemExit: 0"],
    ),
    "bad-yield": (
        IMPORT + "@hookimpl\ndef peerwatt_algorithms():\n"
        "    yield AlgorithmSpec(name='half', factory='a:b', policy='a:b', summary='x')\n"
        "    raise OSError('cut off')\n",
        ["hook peerwatt_algorithms fails", "OSError: cut off"],
    ),
    "bad-return": (
        IMPORT + "@hookimpl\ndef peerwatt_algorithms():\n    return 3\n",
        ["peerwatt_algorithms returns 3, expected a list of AlgorithmSpec"],
    ),
    "bad-none": (
        IMPORT + "@hookimpl\ndef peerwatt_algorithms():\n    pass\n",
        ["peerwatt_algorithms returns None, expected a list of AlgorithmSpec"],
    ),
    "bad-spec": (
        IMPORT + "@hookimpl\ndef peerwatt_algorithms():\n    return ['trader']\n",
        ["returns 'trader', expected AlgorithmSpec"],
    ),
    "bad-wrapper": (
        IMPORT + "from pluggy import HookimplMarker\n"
        "@HookimplMarker('peerwatt')(wrapper=True)\n"
        "def peerwatt_algorithms():\n    yield\n    return []\n",
        ["peerwatt_algorithms must not be a wrapper"],
    ),
    "bad-nothing": ("answer = 42\n", ["implements no hook", "@peerwatt.plugins.hookimpl"]),
}
BROKEN_SPECS = {
    # distribution: (arguments of its only spec, what its reason must say)
    "too-new": ("'future', api='>=2,<3'", ["plugin api >=2,<3", "this PeerWatt has api 1"]),
    "bad-api": ("'future', api='two'", ["api 'two' is no version range"]),
    "bad-name": ("'Bad Name!'", ["algorithm 'Bad Name!': its name must be lower-case letters"]),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A good plugin, all the broken ones, and some that want the same names."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.install_template("good-trader", "algorithm")
    for name, (source, _) in BROKEN.items():
        site.install(name, source)
    for name, (arguments, _) in BROKEN_SPECS.items():
        site.install_specs(name, arguments)
    site.install_specs("twin-one", "'twin'", version="1.1")
    site.install_specs("twin-two", "'twin'", "'only-mine'", version="2.2")
    site.install_specs("usurper", "'ippo'", "'honest'", "'honest'")
    site.install_specs("hollow", "'hollow'")
    hollow = site.folder / "hollow.py"
    hollow.write_text(hollow.read_text().replace("good_trader", "nowhere"))
    return site


@pytest.fixture(scope="module")
def listed(site):
    """Return what `plugins list --json` says, by distribution."""
    done = site.peerwatt("plugins", "list", "--json")
    assert done.returncode == 0, done.stderr
    plugins = json.loads(done.stdout)["plugins"]
    return {plugin["distribution"]: plugin for plugin in plugins}


REASONS = {name: reason for name, (_, reason) in (BROKEN | BROKEN_SPECS).items()}


@pytest.mark.parametrize("name", REASONS)
def test_each_broken_one_is_named_with_its_reason(listed, name):
    plugin = listed[name]
    assert plugin["status"] == "failed"
    assert plugin["version"] == "1.0"
    for words in REASONS[name]:
        assert words in " ".join(plugin["problems"])


def test_the_good_one_is_as_if_alone(listed):
    plugin = listed["good-trader"]
    assert plugin == {
        "distribution": "good-trader",
        "version": "0.1.0",
        "entry_point": "hooks",
        "status": "ok",
        "hooks": ["peerwatt_algorithms"],
        "names": {"algorithm": ["good-trader"]},
        "problems": [],
    }


def test_list_shows_the_good_one_and_warns_of_each_broken_one_in_a_line(site):
    done = site.peerwatt("list")
    assert done.returncode == 0
    assert "good-trader" in done.stdout and "ippo" in done.stdout
    warnings = [line for line in done.stderr.splitlines() if line != "noise"]
    assert all(line.startswith("peerwatt: warning: plugin ") for line in warnings)
    for name in [*REASONS, "usurper"]:
        assert sum(f"plugin {name} 1.0 (hooks)" in line for line in warnings) == 1, name
    assert not any("good-trader" in line for line in warnings)


def test_the_good_one_runs_beside_them(site):
    words = "--task pilot-v1 --algorithm good-trader --budget 20k --seeds 1 --results runs"
    done = site.peerwatt("run", *words.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("good-trader") == 1
    assert len(list((site.folder / "runs").rglob("result.json"))) == 1


FIND = """
import sys
from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import find
for name in sys.argv[1:]:
    try:
        print(find("algorithm", name).distribution)
    except PeerWattError as error:
        print(error)
"""


def find(site, *names, **environment):
    """Look algorithms up; return for each who brings it, or the sentence of the refusal."""
    done = site.python(FIND, *names, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_asking_for_a_broken_one_tells_its_reason(site):
    done = site.peerwatt("run", "--task", "pilot-v1", "--algorithm", "future")
    assert done.returncode == 2
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("peerwatt: the algorithm 'future' cannot be had: ")
    assert "too-new 1.0" in sentence and "this PeerWatt has api 1" in sentence


def test_a_name_that_two_strangers_want_must_be_written_in_full(site, listed):
    sentence, *owners = find(site, "twin", "twin-one:twin", "twin-two:twin", "only-mine")
    assert owners == ["twin-one", "twin-two", "twin-two"]
    assert "twin-one and twin-two both register the algorithm 'twin'" in sentence
    assert "write 'twin-one:twin' or 'twin-two:twin'" in sentence
    for one, other in (("twin-one", "twin-two"), ("twin-two", "twin-one")):
        (problem,) = listed[one]["problems"]
        assert (
            problem == f"the algorithm 'twin' is not its own, {other} has one: write '{one}:twin'"
        )


def test_no_stranger_takes_a_name_of_peerwatt(site, listed):
    assert find(site, "ippo", "usurper:ippo", "honest") == ["peerwatt", "usurper", "usurper"]
    problems = " ".join(listed["usurper"]["problems"])
    assert "'ippo' is PeerWatt's own, so this one is to be had as 'usurper:ippo' only" in problems
    assert "registers the algorithm 'honest' twice" in problems
    assert listed["usurper"]["status"] == "warning"


def test_strict_plugins_stop_at_a_broken_one(site):
    done = site.peerwatt("--strict-plugins", "list")
    assert done.returncode == 2 and not done.stdout
    assert "bad-import" in done.stderr and "Traceback" not in done.stderr
    done = site.peerwatt("list", PEERWATT_STRICT_PLUGINS="1", PEERWATT_PLUGINS="good-trader")
    assert done.returncode == 0 and "good-trader" in done.stdout and not done.stderr


@pytest.mark.parametrize(
    ("flags", "environment"),
    [(["--no-plugins"], {}), ([], {"PEERWATT_PLUGINS": ""})],
    ids=["flag", "empty allow-list"],
)
def test_nothing_but_peerwatt_is_imported_when_told_so(site, flags, environment):
    script = (
        "import sys\nfrom peerwatt.cli.main import main\nmain()\n"
        "print('good_trader' in sys.modules, 'bad_exit' in sys.modules)"
    )
    done = site.python(script, *flags, "list", **environment)
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.splitlines()[-1] == "False False"
    assert "good-trader" not in done.stdout and "ippo" in done.stdout


def test_an_allow_list_and_a_deny_list(site):
    done = site.peerwatt("plugins", "list", "--json", PEERWATT_PLUGINS="Good_Trader, twin-one")
    status = {p["distribution"]: p["status"] for p in json.loads(done.stdout)["plugins"]}
    assert status.pop("peerwatt") == "ok"
    assert {name for name in status if status[name] == "ok"} == {"good-trader", "twin-one"}
    assert set(status.values()) == {"ok", "disabled"}

    denied = ",".join(name for name in status if name != "twin-two")
    owner, sentence = find(site, "twin", "good-trader", PEERWATT_DISABLE_PLUGINS=denied)
    assert owner == "twin-two"  # twin-one is gone, so the name is free
    assert "Disabled: bad-api, " in sentence and "good-trader" in sentence
    assert "broken" not in sentence


def test_the_table_fits_and_tells_every_problem(site):
    done = site.peerwatt("plugins", "list")
    assert done.returncode == 0 and done.stderr == "noise\n"  # what a plugin prints
    lines = done.stdout.splitlines()
    assert all(len(line) <= 100 for line in lines if line.startswith(" "))
    for name in REASONS:
        assert sum(line.startswith(f"{name} 1.0 (hooks): ") for line in lines) == 1


def test_check_imports_what_the_plugins_provide_and_fails(site, listed):
    assert listed["hollow"]["status"] == "ok"
    done = site.peerwatt(
        *("plugins", "list", "--check", "--json"), PEERWATT_PLUGINS="hollow,good-trader"
    )
    assert done.returncode == 1
    plugins = {plugin["distribution"]: plugin for plugin in json.loads(done.stdout)["plugins"]}
    assert (
        "'nowhere:GoodTrader' names a module that is not there" in plugins["hollow"]["problems"][0]
    )
    assert plugins["good-trader"]["status"] == "ok"


def test_the_doctor_tells_what_is_wrong_with_a_broken_distribution(site):
    done = site.peerwatt("plugins", "doctor", "bad-spelling")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "bad-spelling 1.0 (hooks): there is no hook 'peerwatt_algoritms': "
        "did you mean 'peerwatt_algorithms'?"
    ]


def test_listing_is_light(site):
    script = (
        "import sys\nfrom peerwatt.cli.main import main\nmain()\n"
        "heavy = {'torch', 'numba', 'litellm', 'scipy', 'matplotlib', 'pydantic', 'tyro'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = site.python(script, "plugins", "list")
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("entry_points.txt", b"[peerwatt]\nno equals sign\n"),
        ("entry_points.txt", b"\xff\xfe[peerwatt]\n"),
        ("METADATA", b""),
        ("METADATA", b"Metadata-Version: 2.1\nName: torn\n"),
        ("METADATA", b"Metadata-Version: 2.1\nName: torn\nVersion: 1 / 2\n"),
    ],
)
def test_broken_metadata_take_nothing_down(tmp_path, file, content):
    site = Site(tmp_path)
    site.install_specs("good", "'fine'")
    site.install_specs("torn", "'torn'")
    (site.folder / "torn-1.0.dist-info" / file).write_bytes(content)
    done = site.peerwatt("plugins", "list", "--json")
    assert done.returncode == 0, done.stderr
    plugins = json.loads(done.stdout)["plugins"]
    assert [p["names"] for p in plugins if p["distribution"] == "good"] == [{"algorithm": ["fine"]}]
    (torn,) = (p for p in plugins if p["status"] == "failed")
    assert "metadata" in torn["problems"][0] or "version '1 / 2'" in torn["problems"][0]
    assert find(site, "fine") == ["good"]
    assert site.peerwatt("--no-plugins", "list").returncode == 0


def test_a_plugin_cannot_change_what_is_loaded_after_it(tmp_path):
    site = Site(tmp_path)
    site.install("a-meddler", "import os\nos.environ['PEERWATT_PLUGINS'] = ''\n")
    site.install_specs("good", "'fine'")
    assert find(site, "fine") == ["good"]


def test_what_the_environment_names_but_is_not_there_is_told(tmp_path):
    done = Site(tmp_path).peerwatt("list", PEERWATT_PLUGINS="nobody-s")
    assert done.returncode == 0
    assert "PEERWATT_PLUGINS names 'nobody-s', which has no plugin" in done.stderr


def test_a_stranger_s_command_takes_no_word_of_peerwatt_s(tmp_path):
    site = Site(tmp_path)
    source = HOOK.format(specs="") + (
        "from peerwatt.plugins import CommandSpec\n@hookimpl\ndef peerwatt_commands():\n"
        "    names = ['leaderboard', 'leaderboard build', 'run', 'street light']\n"
        "    return [CommandSpec(name=n, factory='os:getcwd', summary='X.') for n in names]\n"
    )
    site.install("street", source)
    done = site.peerwatt("--help")
    told = [line.split("'")[1] for line in done.stderr.splitlines() if "cannot take" in line]
    assert sorted(told) == ["leaderboard", "run"]
    assert "'leaderboard build' is PeerWatt's own" in done.stderr
    assert "street light" in done.stdout and "leaderboard build  Build the" in done.stdout
