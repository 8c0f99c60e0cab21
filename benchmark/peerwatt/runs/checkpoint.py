"""Checkpoints: what a run has come to, in one file that is whole or not there.

The file is an `.npz` without pickles, followed by the SHA-256 of all that stands before it. Its
member `tree` is JSON; in it arrays and bytes are named by the member that holds them.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from peerwatt.errors import PeerWattError, shown, told

CHECKPOINT_FILE = "checkpoint.npz"
MAX_CHECKPOINT_BYTES = 2**31
"""A larger one is neither written nor read."""
CHECKPOINT_VERSION = 1
"""Raised when what the harness saves changes, so that older checkpoints are not gone on with."""
_DIGEST_BYTES = 64
_TREE = "tree"


def pack(state: Mapping[str, Any]) -> bytes:
    """Return `state` as bytes, the same for the same state.

    It may hold, nested in dicts (with keys that are texts) and lists: None, bool, int, float, str,
    bytes, and numpy arrays and scalars of any type but object. Tuples come back as lists.

    Raises:
        PeerWattError: it holds anything else; the sentence says where.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def keep(kind: str, array: np.ndarray[Any, Any]) -> dict[str, str]:
        name = str(len(arrays))
        arrays[name] = array
        return {kind: name}

    def tree_of(value: Any, place: str) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            if value.dtype.hasobject:
                raise _unfit(place, "an array of objects")
            if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
                raise _unfit(place, f"a {type(value).__name__}")  # a mask would be lost, say
            return keep("array" if isinstance(value, np.ndarray) else "scalar", np.asarray(value))
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, bytes):
            return keep("bytes", np.frombuffer(value, np.uint8))
        if isinstance(value, list | tuple):
            return [tree_of(item, f"{place}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise _unfit(place, f"the key {key!r}, which is no text")
            return {
                "dict": {key: tree_of(item, f"{place}[{key!r}]") for key, item in value.items()}
            }
        raise _unfit(place, f"a {type(value).__name__}")

    tree = json.dumps(tree_of(state, "state")).encode()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{_TREE: np.frombuffer(tree, np.uint8)}, **arrays)
    content = buffer.getvalue()
    return content + hashlib.sha256(content).hexdigest().encode()


def _unfit(place: str, what: str) -> PeerWattError:
    return PeerWattError(
        f"checkpoint: {shown(place, 100)} is or holds {shown(what, 100)}, which cannot be saved: "
        "keep to dicts, lists, numbers, texts, bytes and numpy arrays."
    )


def unpack(data: bytes) -> dict[str, Any]:
    """Return the state that `pack` made `data` of.

    Raises:
        PeerWattError: the bytes are damaged, or were made by something else.
    """
    content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise PeerWattError("the checkpoint is damaged: its SHA-256 is another than it states.")
    try:
        members = _members(content)
        state = _read(json.loads(members.pop(_TREE).tobytes()), members)
        if not isinstance(state, dict):
            raise TypeError("it holds no dict")
    except (Exception, MemoryError) as error:  # whatever a stranger has thought of
        reason = told(error)
        raise PeerWattError(f"the checkpoint is none that PeerWatt wrote: {reason}.") from None
    return state


def _members(content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of an archive that takes no more memory than it is long."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in found):
            raise ValueError("it is compressed")
        if sum(member.file_size for member in found) > len(content):
            raise ValueError("its members are longer than it is")
        return {
            member.filename.removesuffix(".npy"): np.lib.format.read_array(
                io.BytesIO(archive.read(member)), allow_pickle=False
            )
            for member in found
        }


def _read(value: Any, members: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Return what `value` tells; each member is used once."""
    if isinstance(value, list):
        return [_read(item, members) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {key: _read(item, members) for key, item in content.items()}
    array = members.pop(content)
    if kind == "bytes":
        return array.tobytes()
    return array[()] if kind == "scalar" else array
