"""`entry.json`: what binds the runs of an entry, their files and their submitter together."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from peerwatt.runs.result import (
    DistributionName,
    FileName,
    Hash,
    PluginName,
    PluginRecord,
    Record,
    TaskName,
    Time,
    Version,
)

ENTRY_SCHEMA: Literal[1] = 1


def _readable(name: str) -> str:
    if not any(unicodedata.category(c).startswith("L") for c in name):
        raise ValueError("must have a letter")
    if any("FILLER" in unicodedata.name(c, "") for c in name):
        raise ValueError("must have no invisible letters")
    if re.search("MMM", "".join(unicodedata.category(c)[0] for c in name)):
        raise ValueError("must not pile up combining marks")
    return name


def _https(address: str) -> str:
    if len(address) > 300 or not _ADDRESS.fullmatch(address):
        raise ValueError("must be an https address such as https://example.org/code")
    return address


_ADDRESS = re.compile(
    r"https://[A-Za-z0-9]([A-Za-z0-9-]*\.)+[A-Za-z]{2,24}(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~%/+@#?=-]*)?"
)
PersonName = Annotated[str, Field(pattern=r"^[^\W_][\w .,'&()-]{0,79}$"), AfterValidator(_readable)]
Contact = Annotated[str, Field(pattern=r"^[A-Za-z0-9@][A-Za-z0-9@._+:/~-]{1,199}$")]
CodeUrl = Annotated[str, AfterValidator(_https)]
Licence = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]{0,63}$")]


def _moment(text: str) -> str:
    datetime.datetime.fromisoformat(text)
    return text


Moment = Annotated[Time, AfterValidator(_moment)]
"""A date and time that the calendar has."""


class TaskOfEntry(Record):
    """Which task was played, and whose it is."""

    name: TaskName
    content_hash: Hash
    distribution: DistributionName
    version: Version


class RunOfEntry(Record):
    """One seed and the SHA-256 of each file in its folder."""

    seed: int = Field(ge=0, le=2**31 - 1)
    files: dict[FileName, Hash]


class Submitter(Record):
    """Who answers for the entry."""

    name: PersonName
    contact: Contact = Field(description="mail address, handle or web address")


class Disclosure(Record):
    """What readers must know and no replay can find out."""

    tuned_on_test: bool = Field(description="choices were made by looking at test scenarios")
    external_data: bool = Field(description="trained on data beyond the task's own")
    llm_in_training: bool = Field(description="a language model took part in the training")


class EntryRecord(Record):
    """The whole of `entry.json`."""

    schema_version: Literal[1] = ENTRY_SCHEMA
    entry_id: Hash = Field(description="SHA-256 of the canonical JSON of everything else")
    result_schema: int = Field(description="schema_version of the results")
    metrics_version: int
    task: TaskOfEntry
    algorithm: PluginRecord
    critic: PluginRecord
    mechanism: PluginRecord
    budget: int = Field(ge=0, le=2**53)
    config_hash: Hash
    runs: list[RunOfEntry] = Field(min_length=1, max_length=64)
    submitter: Submitter
    code_url: CodeUrl | None
    licence: Licence = Field(description="SPDX name of the licence of policies and records")
    disclosure: Disclosure
    supersedes: Hash | None = Field(description="entry that this one corrects")
    created_utc: Moment


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class HeaderTask(_Part):
    """The task in a header."""

    name: TaskName
    content_hash: Hash
    distribution: DistributionName


class HeaderAlgorithm(_Part):
    """The algorithm in a header."""

    name: PluginName
    distribution: DistributionName
    version: Version


class HeaderSubmitter(_Part):
    """The submitter in a header."""

    name: PersonName
    contact: Contact


class Header(_Part):
    """The part of `entry.json` that no later schema may change, so that old entries can be told."""

    schema_version: int = Field(ge=1)
    entry_id: Hash
    result_schema: int = Field(ge=1)
    metrics_version: int = Field(ge=1)
    task: HeaderTask
    algorithm: HeaderAlgorithm
    submitter: HeaderSubmitter
    supersedes: Hash | None
    created_utc: Moment

    @property
    def folder(self) -> tuple[str, str, str, str]:
        """Names of the folders below the results root in which the entry lies."""
        algorithm = self.algorithm
        return self.task.name, algorithm.name, algorithm.version, self.entry_id[:16]

    @property
    def created(self) -> datetime.datetime:
        """When it was made, as it says itself."""
        return datetime.datetime.fromisoformat(self.created_utc)


def entry_id(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of `content` but its "entry_id"."""
    rest = {key: value for key, value in content.items() if key != "entry_id"}
    text = json.dumps(
        rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()
