"""A study's ledger as a file: every event, what the queue holds, and the curves, line by line.

Knows the format, and tells a file that was cut off or changed from a whole one. Does not know where
the lines come from or go to: cluster.backup.ledger_transfer does.

    {"incumbent":"ledger","format":2,"schema":4,"study":"mar5","base_commit":"...","events":812,...}
    {"seq":1,"v":4,"id":"study","kind":"StudyStarted","at":"...","body":{...}}     one per event
    {"queue":{"epoch":3,"count":97,"waiting":[...],"leases":[...]}}
    {"call":"c12","plan":{...},"settlement":{...}}       one per call of which not all is used yet
    {"curve":"e1.1/1","points":{"0":"{...}"}}                                       one per attempt
    {"end":true,"sha256":"..."}                       of every byte before this line

The digest finds damage. It is no signature: whoever may write the file may write its digest, too.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from cluster.ledger.call_book import CallRecord
from cluster.ledger.codec import (
    SchemaError,
    decode_event,
    encode_draft,
    from_json,
    to_json,
)
from cluster.ledger.schema import SCHEMA_VERSION
from cluster.state.events import Draft, Recorded
from trainer.trial import CommitId, TrialSpec

T = TypeVar("T")

FORMAT = 2
"""1 held no calls."""
MOST_LINE = 64 * 1024 * 1024
"""Bytes of a line from which on it is none of ours: patches that people hand in may be long."""


class LedgerFileProblem(ValueError):
    """A file that is not a whole ledger; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of itself before anything else."""

    incumbent: str = "ledger"
    format: int = FORMAT
    schema: int = SCHEMA_VERSION
    study: str
    base_commit: CommitId
    events: int
    curves: int
    calls: int = 0
    exported_at: str
    version: str = ""
    """Of the program that wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A trial in the queue, as the queue orders it."""

    rank: float
    member: str
    spec: TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRecords:
    """What the queue knows besides the ledger, as far as it is needed to go on."""

    epoch: int = 0
    """Epochs go on from here: events are named for them."""
    count: int = 0
    """So do fencing tokens."""
    waiting: tuple[Waiting, ...] = ()
    leases: tuple[TrialSpec, ...] = ()
    """Trials that were on a slot. Whoever runs them has no part in what is made of this file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The curve of one attempt at a trial."""

    curve: str
    """TRIAL/ATTEMPT."""
    points: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is to be written, or was read."""

    header: Header
    events: Iterable[Recorded]
    queue: QueueRecords
    calls: Sequence[CallRecord]
    """What models were paid for, and what is to be made use of yet."""
    curves: Iterable[Curve]


@dataclass(frozen=True, slots=True, kw_only=True)
class _QueueLine:
    queue: QueueRecords


def lines(contents: Contents) -> Iterator[bytes]:
    """Yield the lines of a file, each with its line end."""
    digest = hashlib.sha256()
    for line in _lines(contents):
        digest.update(line)
        yield line
    yield _line({"end": True, "sha256": digest.hexdigest()})


def _lines(contents: Contents) -> Iterator[bytes]:
    yield _line(contents.header)
    for recorded in contents.events:
        draft = Draft(id=recorded.id, at=recorded.at, event=recorded.event)
        yield b'{"seq":%d,' % recorded.seq + encode_draft(draft)[1:] + b"\n"
    yield _line(_QueueLine(queue=contents.queue))
    for call in contents.calls:
        yield _line(call)
    for curve in contents.curves:
        yield _line(curve)


def _line(value: object) -> bytes:
    return to_json(value) + b"\n"


def read_header(file: IO[bytes]) -> Header:
    """Read the first line; raises LedgerFileProblem, SchemaError."""
    line = file.readline(MOST_LINE)
    try:
        facts: Any = json.loads(line)
        is_ours = facts.get("incumbent") == "ledger"
    except (ValueError, AttributeError):
        is_ours = False
    if not is_ours:
        raise LedgerFileProblem("it is not a ledger that `incumbent export-ledger` wrote")
    if int(facts.get("format", 0)) > FORMAT or int(facts.get("schema", 0)) > SCHEMA_VERSION:
        raise LedgerFileProblem(
            f"a newer Incumbent wrote it (format {facts.get('format')}, schema "
            f"{facts.get('schema')}): update Incumbent to read it"
        )
    return _parsed(Header, line, 1)


def check(file: IO[bytes]) -> Header:
    """Read a whole file, and raise LedgerFileProblem unless it is as it was written."""
    file.seek(0)
    header = read_header(file)
    file.seek(0)
    digest, last, count = hashlib.sha256(), b"", 0
    while line := file.readline(MOST_LINE):
        digest.update(last)
        last, count = line, count + 1
    try:
        end: Any = json.loads(last)
        found = str(end["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerFileProblem(
            f"it breaks off in or after line {count}: copy it again from where it was exported"
        ) from error
    if found != digest.hexdigest() or count != header.events + header.calls + header.curves + 3:
        raise LedgerFileProblem(
            "it was changed or damaged since it was exported (its digest differs): "
            "copy it again from where it was exported"
        )
    return header


def read(file: IO[bytes]) -> Contents:
    """Return what a file holds that was checked; the events are to be read before the curves.

    Raises LedgerFileProblem, here or while the contents are read.
    """
    file.seek(0)
    header = read_header(file)
    events = [_event(file.readline(MOST_LINE), seq) for seq in range(1, header.events + 1)]
    queue = _parsed(_QueueLine, file.readline(MOST_LINE), header.events + 2).queue
    first = header.events + 3
    calls = [
        _call(file.readline(MOST_LINE), number) for number in range(first, first + header.calls)
    ]
    first += header.calls
    curves = (
        _parsed(Curve, file.readline(MOST_LINE), number)
        for number in range(first, first + header.curves)
    )
    return Contents(header=header, events=events, queue=queue, calls=calls, curves=curves)


def _event(line: bytes, seq: int) -> Recorded:
    try:
        found = decode_event(seq, line)
        is_next = int(json.loads(line)["seq"]) == seq
    except (SchemaError, ValueError, KeyError, TypeError) as error:
        raise LedgerFileProblem(f"line {seq + 1}: {error}") from error
    if not is_next:
        raise LedgerFileProblem(f"line {seq + 1} is not event {seq}")
    return found


def _call(line: bytes, number: int) -> CallRecord:
    record = _parsed(CallRecord, line, number)
    if not re.fullmatch(r"c\d+", record.call):  # it is going to be the name of a file
        raise LedgerFileProblem(f"line {number}: {record.call!r} is no call")
    return record


def _parsed(kind: type[T], line: bytes, number: int) -> T:
    try:
        return from_json(kind, line)
    except SchemaError as error:
        raise LedgerFileProblem(f"line {number}: {error}") from error
