"""Compare critics, the local model among them: `make test-llm` ends with this table and its page.

python tests/llm/table.py FOLDER    # what is finished there is not done again
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from peerwatt_critics.local_model import MODEL, serving

PORT = 8135
"""Fixed, for the address of a model is part of what tells records apart."""


def peerwatt(*words: str | Path) -> None:
    """Show a command and run it."""
    line = ["peerwatt", *map(str, words)]
    print(f"$ {shlex.join(line)}", flush=True)
    subprocess.run([Path(sys.executable).with_name("peerwatt"), *line[1:]], check=True)


def main(folder: Path) -> None:
    """Measure the critics on the small suite, and build the page."""
    with serving(PORT) as address:
        asked = f"openai-http:model={MODEL},api_base={address},concurrency=1"
        critics = [
            "rule",
            "constant",
            "random",
            'ensemble:{"members": ["rule", "constant", "random"]}',
            f"{asked},prompt=households-v1",
            f"{asked},prompt=summary-v1",
        ]
        named = [word for critic in critics for word in ("--critic", critic)]
        peerwatt("critics", "bench", "--suite", "small-v1", *named, "--results", folder)
    peerwatt("leaderboard", "build", "--results", folder, "--out", folder / "site")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
