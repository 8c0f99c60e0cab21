"""Guards between a stranger's files and the parsers: look, measure and bound, then read.

Nothing here follows a link, unpickles or executes anything, and every refusal is one sentence that
names the file, the place in it and the mend.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from peerwatt.errors import PeerWattError
from peerwatt.runs.result import PluginName, TaskName, Version
from peerwatt.runs.store import MAX_RESULT_BYTES, METRICS_FILE, RESULT_FILE

ENTRY_FILE = "entry.json"
LEDGER_FILE = "ledger.jsonl"
README_FILE = "README.md"

MAX_POLICY_BYTES = 5_000_000
MAX_BYTES = {
    ENTRY_FILE: 100_000,
    RESULT_FILE: MAX_RESULT_BYTES,
    METRICS_FILE: 5_000_000,
    LEDGER_FILE: 5_000_000,
    README_FILE: 100_000,
}
"""Largest size of the files with fixed names; all others are policies."""
MAX_ENTRY_BYTES = 60_000_000
MAX_SEEDS = 64
MAX_POLICY_FILES = 8
MAX_NAMES = 10_000
"""Names that one folder may hold, so that none is listed without end."""

MAX_DEPTH = 20
MAX_NUMBER = 32
MAX_TEXT = 10_000
MAX_LINE = 20_000
MAX_LINES = 100_000
MAX_TENSOR_HEADER = 100_000

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Level:
    """What a folder of the layout may hold: names of folders and of files."""

    folders: str
    files: str
    what: str


def _pattern(name: Any) -> str:
    """Return the pattern of a type of names, without its anchors."""
    return str(TypeAdapter(name).json_schema()["pattern"])[1:-1]


_NOT_ON_WINDOWS = re.compile(
    r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?|.*\.", re.ASCII | re.IGNORECASE
)
_NOTHING = r"(?!)"
LAYOUT = (
    Level(_pattern(TaskName), r"README\.md|ledger\.jsonl", "folders of tasks"),
    Level(_pattern(PluginName), _NOTHING, "folders of algorithms"),
    Level(_pattern(Version), _NOTHING, "folders of versions"),
    Level(r"[0-9a-f]{16}", _NOTHING, "folders of entries"),
    Level(r"seed-[0-9]{3,10}", r"entry\.json", "entry.json and folders such as seed-000"),
    Level(
        _NOTHING,
        r"(result|[a-z0-9][a-z0-9_-]{0,39})\.json|metrics\.jsonl|[a-z0-9][a-z0-9_-]{0,39}\.safetensors",
        "result.json, metrics.jsonl, and the policy as .json and .safetensors",
    ),
)
"""Levels below a results root: root, task, algorithm, version, entry, seed."""
ENTRY_LEVEL = 4


def sentence(file: Path, place: str, problem: str, mend: str) -> str:
    """Return "file: place: problem; mend."."""
    where = f"{shown(str(file), 400)}: {place}: " if place else f"{shown(str(file), 400)}: "
    return f"{where}{problem}; {mend}."


def refuse(file: Path, place: str, problem: str, mend: str) -> NoReturn:
    """Raise the sentence "file: place: problem; mend."."""
    raise PeerWattError(sentence(file, place, problem, mend))


def shown(text: str, most: int = 60) -> str:
    """Return `text` such that it can do no harm on a terminal or a page, and is not long."""
    plain = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text[: most + 1])
    return plain if len(text) <= most else f"{plain[:most]}..."


def check_no_link(path: Path) -> None:
    """Refuse a path that leads through a link; of an absolute one, only its end is looked at.

    What lies above an absolute path belongs to whoever wrote the command line; a relative one may
    lead through a stranger's tree.
    """
    parts = [path] if path.is_absolute() else [path, *path.parents]
    for part in parts:
        if part.is_symlink():
            refuse(part, "", "is a link", "submit the files themselves")


def names_in(
    folder: Path, level: int, beside: Collection[str] = ()
) -> tuple[list[Path], dict[Path, int]]:
    """List a folder of the layout: its folders, and its files with their sizes.

    Names that are listed in `beside` are passed over.

    Raises:
        PeerWattError: it holds a name that does not belong there, or anything but plain files and
            folders, or a file that is too large.
    """
    folders: list[Path] = []
    files: dict[Path, int] = {}
    allowed = LAYOUT[level]
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            refuse(folder, "", "is no folder", "name the folder of an entry or of the results")
        with os.scandir(folder) as found:
            for item in found:
                if item.name in beside:
                    continue
                path = folder / item.name
                state = item.stat(follow_symlinks=False)
                _check_kind(path, state)
                is_folder = stat.S_ISDIR(state.st_mode)
                pattern = allowed.folders if is_folder else allowed.files
                if not re.fullmatch(pattern, item.name, re.ASCII):
                    refuse(path, "", f"does not belong here ({allowed.what})", "take it out")
                check_portable(path)
                if is_folder:
                    folders.append(path)
                else:
                    _check_size(path, state.st_size)
                    files[path] = state.st_size
                if len(folders) + len(files) > MAX_NAMES:
                    refuse(folder, "", f"holds more than {MAX_NAMES:,} names", "take some out")
    except OSError as error:
        refuse(folder, "", f"cannot be read ({error.strerror})", "check the path")
    return sorted(folders), dict(sorted(files.items()))


def check_portable(path: Path) -> None:
    """Refuse a name that Windows does."""
    if _NOT_ON_WINDOWS.fullmatch(path.name):
        refuse(path, "", "has a name that Windows refuses", "choose another one")


def files_of_entry(folder: Path) -> list[Path]:
    """List the files of the entry in `folder`, having checked names, kinds, sizes and numbers."""
    seeds, files = names_in(folder, ENTRY_LEVEL)
    if not files:
        refuse(folder, ENTRY_FILE, "is missing", "make entries with `peerwatt submit pack`")
    if not 1 <= len(seeds) <= MAX_SEEDS:
        refuse(folder, "", f"holds {len(seeds)} seeds", f"an entry has 1 to {MAX_SEEDS}")
    for seed in seeds:
        _, here = names_in(seed, ENTRY_LEVEL + 1)
        policies = [path for path in here if path.name not in MAX_BYTES]
        if seed / RESULT_FILE not in here:
            refuse(seed, RESULT_FILE, "is missing", "make entries with `peerwatt submit pack`")
        if not 1 <= len(policies) <= MAX_POLICY_FILES:
            problem = f"holds {len(policies)} files of the policy"
            refuse(seed, "", problem, f"save it in 1 to {MAX_POLICY_FILES}")
        files |= here
    total = sum(files.values())
    if total > MAX_ENTRY_BYTES:
        problem = f"{total:,} bytes are more than an entry may have ({MAX_ENTRY_BYTES:,})"
        refuse(folder, "", problem, "save smaller policies or fewer seeds")
    return list(files)


def read_bytes(path: Path) -> bytes:
    """Read a plain file once, following no link and waiting for no pipe."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            state = os.fstat(file.fileno())
            _check_kind(path, state)
            _check_size(path, state.st_size)
            raw = file.read(limit_of(path) + 1)
    except OSError as error:
        refuse(path, "", f"cannot be read ({error.strerror})", "submit a plain file")
    _check_size(path, len(raw))
    return raw


def limit_of(path: Path) -> int:
    """Return the largest size that a file of this name may have."""
    return MAX_BYTES.get(path.name, MAX_POLICY_BYTES)


def _check_kind(path: Path, state: os.stat_result) -> None:
    if stat.S_ISDIR(state.st_mode):
        return
    if stat.S_ISLNK(state.st_mode):
        refuse(path, "", "is a link", "submit the file itself")
    if not stat.S_ISREG(state.st_mode):
        refuse(path, "", "is neither a file nor a folder", "take it out")
    if state.st_nlink > 1:
        refuse(path, "", "is a hard link to another file", "submit a copy")


def _check_size(path: Path, size: int) -> None:
    if size > limit_of(path):
        problem = f"{size:,} bytes are more than it may have ({limit_of(path):,})"
        refuse(path, "", problem, "make it smaller")


# --- JSON ------------------------------------------------------------------------------------

_STRUCTURE = re.compile(r'["\[\]{}]')
_STRING = re.compile(r'(?:[^"\\]|\\.)*+"', re.DOTALL)
_HARMFUL = re.compile(
    # controls; marks that turn or hide text; line separators; halves of characters
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


class _Unwanted(ValueError):
    """What the guard found inside a JSON text."""


def parse_json(raw: bytes, file: Path, place: str = "") -> Any:
    """Parse guarded JSON: depth, numbers and texts are bounded, and no key is told twice.

    Raises:
        PeerWattError: it is not such JSON.
    """
    mend = "write plain JSON in UTF-8"
    try:
        text = raw.decode("utf-8")
        _check_depth(text)
        value = _DECODER.decode(text)
        _check_texts(value, place)
    except UnicodeDecodeError:
        refuse(file, place, "is no text in UTF-8", mend)
    except _Unwanted as error:
        refuse(file, place, str(error), mend)
    except ValueError as error:
        refuse(file, place, f"is no valid JSON ({shown(str(error), 120)})", mend)
    return value


def parse_object(raw: bytes, file: Path, place: str = "") -> dict[str, Any]:
    """Parse guarded JSON that must be an object."""
    value = parse_json(raw, file, place)
    if not isinstance(value, dict):
        refuse(file, place, f"must be a JSON object, not {type(value).__name__}", "write an object")
    return value


def parse_lines(raw: bytes, file: Path) -> list[dict[str, Any]]:
    """Parse guarded JSON objects, one a line."""
    lines = raw.split(b"\n")
    if lines.pop():
        refuse(file, f"line {len(lines) + 1}", "does not end", "end it with a line feed")
    if len(lines) > MAX_LINES:
        refuse(file, "", f"has more than {MAX_LINES:,} lines", "log less often")
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            problem = f"is longer than {MAX_LINE:,} bytes"
            refuse(file, f"line {number}", problem, "write shorter lines")
    return [parse_object(line, file, f"line {number}") for number, line in enumerate(lines, 1)]


def strictly(model: type[Model], raw: bytes, file: Path, mend: str) -> Model:
    """Validate guarded JSON strictly; the sentence names the first field that is wrong."""
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(shown(str(part), 40) for part in problem["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        text = shown(problem["msg"].removeprefix("Value error, "), 200)
        refuse(file, field, f"{text}{more}", mend)


def _check_depth(text: str) -> None:
    """Count brackets outside of strings, before a recursive parser meets them."""
    depth, place = 0, 0
    while found := _STRUCTURE.search(text, place):
        place = found.end()
        if found[0] == '"':
            end = _STRING.match(text, place)
            if end is None:
                raise _Unwanted("holds a text without an end")
            place = end.end()
        elif found[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _Unwanted(f"is nested more than {MAX_DEPTH} deep")
        else:
            depth -= 1


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise _Unwanted(f"tells the key '{shown(key)}' twice")
        content[key] = value
    return content


def _bounded(text: str) -> str:
    if len(text) > MAX_NUMBER:
        raise _Unwanted(f"holds a number of {len(text):,} characters")
    return text


def _no_constant(text: str) -> NoReturn:
    raise _Unwanted(f"holds {text}, which is no number of JSON (write null)")


def _finite(text: str) -> float:
    value = float(_bounded(text))
    if value in (float("inf"), float("-inf")):
        raise _Unwanted(f"holds the number {text}, which is too large")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_int=lambda text: int(_bounded(text)),
    parse_float=_finite,
    parse_constant=_no_constant,
)


def _check_texts(value: Any, place: str) -> None:
    """Refuse long texts, and characters that turn, hide or break text, in keys and values."""
    texts: Iterable[str] = ()
    if isinstance(value, str):
        texts = (value,)
    elif isinstance(value, dict):
        texts = value
        for key, item in value.items():
            _check_texts(item, key)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, place)
    for text in texts:
        if len(text) > MAX_TEXT:
            raise _Unwanted(f"holds a text of {len(text):,} characters ('{shown(text, 20)}')")
        if found := _HARMFUL.search(text):
            raise _Unwanted(f"holds the control character U+{ord(found[0]):04X}")


# --- safetensors -----------------------------------------------------------------------------

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


def check_safetensors(raw: bytes, file: Path) -> None:
    """Check the header of a safetensors file by hand: it must account for every byte.

    Raises:
        PeerWattError: it is none, or its header does not fit its data.
    """
    mend = "write it with safetensors.numpy.save_file"
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 10 or not 2 <= size <= min(len(raw) - 8, MAX_TENSOR_HEADER):
        refuse(file, "", "is no safetensors file", mend)
    header = parse_object(raw[8 : 8 + size], file, "header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        refuse(file, "__metadata__", "must map texts to texts", mend)
    spans = []
    for name, tensor in header.items():
        place = f"tensor '{shown(name)}'"
        if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
            refuse(file, place, "must have dtype, shape and data_offsets", mend)
        item, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
        if not isinstance(item, str) or item not in ITEM_BYTES:
            refuse(file, place, "has a dtype that is not allowed", f"use {', '.join(ITEM_BYTES)}")
        if not _naturals(shape) or len(shape) > 8 or 0 in shape:
            refuse(file, place, "must have a shape of at most 8 positive dimensions", mend)
        if not _naturals(offsets) or len(offsets) != 2:
            refuse(file, place, "must have two data_offsets", mend)
        if offsets[1] - offsets[0] != prod(shape) * ITEM_BYTES[item]:
            refuse(file, place, "has data_offsets that do not fit its shape", mend)
        spans.append(tuple(offsets))
    end = 0
    for begin, stop in sorted(spans):
        if begin != end:
            refuse(file, "header", "leaves gaps or lets tensors overlap", mend)
        end = stop
    if 8 + size + end != len(raw):
        problem = f"tells of {8 + size + end:,} bytes, and the file has {len(raw):,}"
        refuse(file, "header", problem, mend)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
