"""Writing and describing the shipped arrays."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.errors import PeerWattError
from peerwatt.market.units import QUANTA_PER_KWH

Arrays = Mapping[str, NDArray[Any]]


def write_npz(path: Path, arrays: Arrays) -> str:
    """Write `arrays` to `path` whole or not at all, and return the file's SHA-256.

    NumPy stamps the members of an `.npz` with 1980-01-01, so the same arrays give the same bytes
    (with the same zlib).
    """
    buffer = io.BytesIO()
    members: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **members)
    data = buffer.getvalue()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise PeerWattError(
            f"cannot write {path}: {error.strerror}; name a writable folder with --out."
        ) from error
    return hashlib.sha256(data).hexdigest()


def summary(arrays: Arrays) -> str:
    """Return what the tables hold: homes, days, energy in kWh, share of sunny days."""
    load, pv = (arrays[name] / QUANTA_PER_KWH for name in ("load", "pv"))
    lines = [
        f"home {home}: load {load[:, column].sum():,.0f} kWh, PV {pv[:, column].sum():,.0f} kWh"
        for column, home in enumerate(arrays["homes"])
    ]
    sunny = arrays["sunny"]
    lines.append(
        f"{len(arrays['homes'])} homes, {len(sunny)} days from {arrays['first_day']}: "
        f"load {load.sum():,.0f} kWh, PV {pv.sum():,.0f} kWh, sunny days {sunny.mean():.1%}"
    )
    return "\n".join(lines)
