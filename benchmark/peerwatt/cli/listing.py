"""`peerwatt list`: what is installed, without importing any of it."""

from __future__ import annotations

import json
import sys

USAGE = """usage: peerwatt list [--json]

Show what is installed: tasks, algorithms, critics, mechanisms, sinks, and who brought them."""


def run(arguments: list[str]) -> None:
    """Print the registered plugins as tables, or as JSON."""
    from peerwatt.errors import PeerWattError
    from peerwatt.plugins.loader import PLUGIN_KINDS, registry

    if arguments in (["-h"], ["--help"]):
        print(USAGE)
        return
    if arguments not in ([], ["--json"]):
        raise PeerWattError(f"peerwatt list does not know {' '.join(arguments)!r}; try --json.")
    found = registry()
    if arguments == ["--json"]:
        content = {
            kind: [
                {
                    "name": name,
                    "summary": plugin.spec.summary,
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                }
                for name, plugin in sorted(found.reachable(kind).items())
            ]
            for kind in PLUGIN_KINDS
        }
        json.dump(content, sys.stdout, indent=2)
        print()
        return
    for kind in PLUGIN_KINDS:
        print(f"{kind}s")
        width = max(map(len, found.reachable(kind)), default=0)
        for name, plugin in sorted(found.reachable(kind).items()):
            owner = f"{plugin.distribution} {plugin.version}"
            print(f"  {name:<{width}}  {plugin.spec.summary}  [{owner}]")
