"""`peerwatt schema`: the JSON Schema of a result."""

from __future__ import annotations

import json


def run(arguments: list[str]) -> None:
    """Print the JSON Schema of `result.json`."""
    from peerwatt.errors import PeerWattError
    from peerwatt.runs.result import RunResult

    if arguments in (["-h"], ["--help"]):
        print("usage: peerwatt schema\n\nPrint the JSON Schema of result.json.")
        return
    if arguments:
        raise PeerWattError(f"peerwatt schema takes no arguments, got {' '.join(arguments)!r}.")
    print(json.dumps(RunResult.model_json_schema(), indent=2))
