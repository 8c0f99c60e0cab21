"""Entries to tamper with: the files of one, and its hashes made true again."""

from __future__ import annotations

import hashlib
import json
import shutil
from inspect import signature
from pathlib import Path

from pydantic import ValidationError

from peerwatt.runs.result import RunResult, configuration_hash
from peerwatt.submissions.entry import entry_id


class Workshop:
    """One entry in a results root of its own."""

    def __init__(self, packed: Path, root: Path):
        self.root = root
        parts = packed.parts[-4:]
        self.folder = root.joinpath(*parts)
        shutil.copytree(packed, self.folder)

    @property
    def entry(self) -> Path:
        return self.folder / "entry.json"

    def seed(self, number: int) -> Path:
        return self.folder / f"seed-{number:03d}"

    def result(self, number: int = 0) -> Path:
        return self.seed(number) / "result.json"

    def edit(self, file: Path, change) -> None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    def replace(self, file: Path, old: str, new: str) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    def edit_all(self, change) -> None:
        """Change entry.json and every result alike."""
        self.edit(self.entry, change)
        for seed in self.seeds():
            self.edit(seed / "result.json", change)

    def seeds(self) -> list[Path]:
        return sorted(self.folder.glob("seed-*"))

    def _reconfigure(self) -> None:
        """Make the hashes of the configuration true again; the last seed tells the entry's."""
        told = [configure(seed / "result.json") for seed in self.seeds()]
        if all(told):
            self.edit(self.entry, lambda content: content.update(config_hash=told[-1]))

    def seal(self, configuration: bool = True) -> None:
        """Make all hashes true again, and move the folder to where it belongs."""
        if configuration:
            self._reconfigure()
        content = json.loads(self.entry.read_text())
        files = {}
        for seed in self.seeds():
            result = seed / "result.json"
            others = {f.name: _digest(f) for f in sorted(seed.iterdir()) if f != result}
            try:
                record = json.loads(result.read_text())
                if record["files"] != others:
                    record["files"] = others
                    result.write_text(json.dumps(record))
            except (ValueError, TypeError, RecursionError):
                pass
            files[int(seed.name[5:])] = others | {"result.json": _digest(result)}
        content["runs"] = [{"seed": n, "files": files[n]} for n in sorted(files)]
        self.write_entry(content)

    def seal_entry(self) -> None:
        """Make only the id of entry.json true again."""
        self.write_entry(json.loads(self.entry.read_text()))

    def write_entry(self, content) -> None:
        content["entry_id"] = entry_id(content)
        self.entry.write_text(json.dumps(content))
        task, algorithm = content["task"]["name"], content["algorithm"]
        parts = (task, algorithm["name"], algorithm["version"], content["entry_id"][:16])
        target = self.root.joinpath(*parts)
        if target != self.folder and ".." not in "".join(parts) and "/" not in "".join(parts):
            target.parent.mkdir(parents=True, exist_ok=True)
            self.folder.rename(target)
            self.folder = target


def configure(file: Path) -> str | None:
    """Make the hash of the configuration in a result true again, and return it."""
    try:
        result = RunResult.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    names = signature(configuration_hash).parameters
    told = configuration_hash(**{name: getattr(result, name) for name in names})
    if told != result.config_hash:
        record = json.loads(file.read_text())
        file.write_text(json.dumps(record | {"config_hash": told}))
    return told


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
