"""The pytest plugin: one test per law, for the plugin that a test's marker names.

It is loaded into every pytest session where PeerWatt is installed, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from peerwatt.testing.frame import Subject

MARKER = (
    "peerwatt(kind, name, options=None, budget=None, plugin_file=None): hold the plugin called "
    "`name` to the laws of its kind; the test takes the fixture `peerwatt_check` and calls it."
)
FIXTURE = "peerwatt_check"
_subjects = pytest.StashKey[dict[tuple[str, str], "Subject"]]()


def _marked(
    kind: str,
    name: str,
    options: dict[str, Any] | None = None,
    budget: int | None = None,
    plugin_file: str | None = None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        "options": options,
        "budget": budget,
        "plugin_file": plugin_file,
    }


def _arguments(item: Any) -> dict[str, Any]:
    """Return the arguments of the marker of a test."""
    marker = item.get_closest_marker("peerwatt")
    if marker is None:
        raise pytest.UsageError(
            f"{item.nodeid}: {FIXTURE} needs the marker @pytest.mark.peerwatt(kind, name)."
        )
    try:
        return _marked(*marker.args, **marker.kwargs)
    except TypeError as error:
        raise pytest.UsageError(f"{item.nodeid}: wrong marker ({error}); it is {MARKER}") from None


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)
    config.stash[_subjects] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each law."""
    if FIXTURE not in metafunc.fixturenames:
        return
    from peerwatt.errors import PeerWattError
    from peerwatt.testing.frame import suite

    kind = _arguments(metafunc.definition)["kind"]
    try:
        checks = suite(kind)
    except PeerWattError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {error}") from None
    metafunc.parametrize(FIXTURE, checks, indirect=True, ids=[check.name for check in checks])


@pytest.fixture
def peerwatt_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Return the function that holds the plugin to one law."""
    from peerwatt.errors import PeerWattError
    from peerwatt.testing.frame import run_check

    def check() -> None:
        try:
            examined = _subject(request)
        except PeerWattError as error:
            pytest.fail(str(error), pytrace=False)
        finding = run_check(request.param, examined)
        if finding.problem is not None:
            pytest.fail(finding.problem, pytrace=False)
        if finding.skipped is not None:
            pytest.skip(finding.skipped)

    return check


def _subject(request: pytest.FixtureRequest) -> Subject:
    """Return the plugin of a test; all laws of one test function share it."""
    from peerwatt.testing.frame import subject

    subjects = request.config.stash[_subjects]
    function = (str(request.path), request.function.__qualname__)
    if function not in subjects:
        arguments = _arguments(request.node)
        file = arguments.pop("plugin_file")
        if file is not None:
            _use_file(str(request.path.parent / file))
        subjects[function] = subject(**arguments)
    return subjects[function]


def _use_file(path: str) -> None:
    """Let PeerWatt load the plugin at `path` too, here and in the processes that it starts."""
    import os

    from peerwatt.plugins.loader import FILES, registry

    files = [file for file in os.environ.get(FILES, "").split(os.pathsep) if file]
    if path not in files:
        os.environ[FILES] = os.pathsep.join([*files, path])
        registry.cache_clear()
