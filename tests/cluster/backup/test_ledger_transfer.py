"""A study out of its store and into another: nothing is missing, and damage is seen."""

import hashlib
import io
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from cluster.backup import ledger_file, ledger_transfer
from cluster.backup.ledger_file import LedgerFileProblem
from cluster.backup.ledger_transfer import MOVED, NotEmpty
from cluster.ledger.call_book import CallRecord
from cluster.ledger.ledger import InMemoryLedger, RolledBack, load
from cluster.ledger.progress import ProgressStore
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from cluster.state.experiment import Kind
from cluster.state.invariants import check
from proposer.purse import CallId, CallPlan, Settlement, Usage
from tests.cluster.redis_user import restricted
from tests.trainer.trials import cpu_slot
from trainer.ports import Heartbeat, Progress
from trainer.trial import (
    CommitId,
    Ending,
    ExperimentId,
    TrialId,
    TrialOutcome,
    TrialSpec,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLOT = cpu_slot()
PLAN = CallPlan(
    proposer="claude",
    model="m",
    purpose="propose",
    commit=CommitId("0" * 40),
    incumbent=ExperimentId("e0"),
    usd=0.5,
    tokens=100,
)
FACTS = {"exported_at": "2026-03-01T12:00:00+00:00"}


def quiet(_done: int, _of: int) -> None:
    pass


class Server:
    """Studies on one server, each with its stores."""

    def __init__(self, url: str) -> None:
        self.client = connect(url)
        self.store = RedisStore(self.client, f"test-{uuid.uuid4().hex[:12]}")
        self.ledger = RedisLedger(self.store)
        self.queue = RedisTrialQueue(self.store)
        self.progress = ProgressStore(self.store)
        self.calls: list[CallRecord] = []

    def spec(self, number: int, trial: int = 1) -> TrialSpec:
        return TrialSpec(
            trial=TrialId(f"e{number}.{trial}"),
            experiment=ExperimentId(f"e{number}"),
            attempt=1,
            commit=CommitId(f"{number:040x}"),
            seed=1,
            budget_s=10.0,
            timeout_s=20.0,
        )

    def propose(self, number: int) -> None:
        self.tell(
            ev.ExperimentProposed(
                experiment=ExperimentId(f"e{number}"),
                kind=Kind.PROPOSAL if number else Kind.BASELINE,
                commit=CommitId(f"{number:040x}"),
                tree=f"{number:040x}",
                base=ExperimentId("e0"),
                base_commit=CommitId("0" * 40),
                lines=3,
                proposer="tuner",
                hypothesis=f"LR 1 -> {number}\u2028é",
            )
        )

    def tell(self, event: ev.Event) -> None:
        self.ledger.append([ev.Draft(id=uuid.uuid4().hex, at=NOW, event=event)])

    def begin(self) -> "Server":
        """Have one trial finished, one on a slot, and two wait."""
        started = ev.StudyStarted(
            study="mar5", base_commit=CommitId("0" * 40), metric="loss", goal="minimize"
        )
        self.tell(started)
        self.epoch = self.ledger.begin_epoch()
        for number in range(4):
            self.propose(number)
            self.queue.put(self.spec(number), priority=number == 3, now=NOW, epoch=self.epoch)
        first = self.queue.lease(SLOT, now=NOW, ttl_s=30)
        assert first is not None
        self.progress.record(first.spec, Progress(elapsed_s=1.0, points={"loss": 2.0}))
        self.queue.complete(SLOT, first, TrialOutcome(ending=Ending.SCORED, value=1.5), now=NOW)
        running = self.queue.lease(SLOT, now=NOW, ttl_s=30)
        assert running is not None
        self.running = running
        return self

    def exported(self) -> bytes:
        at = ledger_transfer.moment(self.store)
        state = ledger_transfer.replayed(self.ledger, at.seq)
        found = ledger_transfer.contents(self.store, at, state, self.calls, FACTS, quiet)
        return b"".join(ledger_file.lines(found))

    def imports(self, data: bytes) -> int:
        file = io.BytesIO(data)
        ledger_file.check(file)
        return ledger_transfer.take_in(self.store, ledger_file.read(file), quiet)


@pytest.fixture
def old(server_url: str) -> Iterator[Server]:
    made = Server(server_url).begin()
    yield made
    made.client.close()


@pytest.fixture
def new(server_url: str) -> Iterator[Server]:
    """Somewhere else, as a user who may do no more than is needed."""
    made = Server(restricted(server_url))
    yield made
    check(load(made.ledger))
    made.client.close()


def test_every_event_comes_back_with_its_id_time_and_number(old: Server, new: Server) -> None:
    before = old.ledger.read(0)
    assert new.imports(old.exported()) == 1
    assert new.ledger.read(0)[: len(before)] == before
    assert old.ledger.read(0) == before


def test_what_was_on_a_slot_is_given_back_and_its_old_worker_has_no_part_in_it(
    old: Server, new: Server
) -> None:
    new.imports(old.exported())
    [lost] = new.ledger.read(len(old.ledger.read(0)))
    assert isinstance(lost.event, ev.TrialLost)
    assert (lost.event.trial, lost.event.reason, lost.event.is_given_back) == ("e0.1", MOVED, True)
    assert new.queue.held() == []
    done = TrialOutcome(ending=Ending.SCORED, value=0.1)
    assert not new.queue.complete(SLOT, old.running, done, now=NOW)
    assert new.queue.extend(SLOT, old.running, now=NOW, ttl_s=30) is Heartbeat.GONE


def test_what_lies_between_export_and_import_is_no_time_of_the_study(
    old: Server, new: Server
) -> None:
    begun = load(old.ledger)
    new.imports(old.exported())
    moved = load(new.ledger)
    assert moved.heard_at == begun.heard_at == NOW
    assert moved.slot_seconds == begun.slot_seconds


def test_the_queue_goes_on_where_it_was(old: Server, new: Server) -> None:
    new.imports(old.exported())
    tokens = []
    for expected in ("e1.1", "e2.1"):
        lease = new.queue.lease(SLOT, now=NOW + timedelta(hours=1), ttl_s=30)
        assert lease is not None
        assert lease.spec == old.spec(int(expected[1]))
        tokens.append(lease.token)
    assert min(tokens) > old.running.token
    assert new.ledger.begin_epoch() == old.epoch + 1


def test_curves_come_along(old: Server, new: Server) -> None:
    new.imports(old.exported())
    points = new.progress.curve(TrialId("e3.1"), 1)
    assert [point.points for point in points] == [{"loss": 2.0}]


def test_replies_come_along(old: Server) -> None:
    old.calls = [reply("c1"), reply("c12")]
    file = io.BytesIO(old.exported())
    assert ledger_file.check(file).calls == 2
    found = ledger_file.read(file)
    assert found.calls == old.calls
    assert [curve.curve for curve in found.curves] == ["e3.1/1"]


@pytest.mark.parametrize("name", ["../c1", "c1/../../x", "c", ""])
def test_a_call_that_would_be_another_file_is_refused(old: Server, name: str) -> None:
    old.calls = [reply(name)]
    with pytest.raises(LedgerFileProblem, match="is no call"):
        ledger_file.read(io.BytesIO(old.exported()))


def reply(name: str) -> CallRecord:
    settlement = Settlement(usage=Usage(output=5), usd=0.1, seconds=1.0, reply="{}", proposals=1)
    return CallRecord(call=CallId(name), plan=PLAN, settlement=settlement)


def test_a_file_of_the_first_format_is_read(old: Server, new: Server) -> None:
    *lines, _ = old.exported().splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"format":2', b'"format":1').replace(b',"calls":0', b"")
    assert b"calls" not in lines[0]
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    new.imports(b"".join(lines) + json.dumps({"end": True, "sha256": digest}).encode() + b"\n")
    assert new.ledger.read(0)[0] == old.ledger.read(0)[0]


def test_a_second_import_exports_as_the_first(old: Server, new: Server, server_url: str) -> None:
    new.imports(old.exported())
    again = Server(server_url)
    data = new.exported()
    assert again.imports(data) == 0
    assert again.exported() == data
    again.client.close()


def test_nothing_is_put_where_there_is_something(old: Server) -> None:
    data, before = old.exported(), old.ledger.read(0)
    with pytest.raises(NotEmpty):
        old.imports(data)
    assert old.ledger.read(0) == before
    assert len(old.queue.held()) == 1


def test_an_import_that_was_killed_leaves_nothing_in_the_way(old: Server, new: Server) -> None:
    staged = new.store.staging()
    draft = ev.Draft(id="half", at=NOW, event=ev.PauseRequested())
    RedisLedger(staged).append([draft])
    assert new.ledger.read(0) == []
    new.imports(old.exported())
    assert new.ledger.read(0)[0].id != "half"


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_end(data: bytes) -> bytes:
    return b"".join(data.splitlines(keepends=True)[:-1])


def without_line(data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join([*lines[:5], *lines[6:]])


def better(data: bytes) -> bytes:
    assert b'"value":1.5' in data
    return data.replace(b'"value":1.5', b'"value":0.5')


def longer(data: bytes) -> bytes:
    return data + b"{}\n"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "breaks off in or after line"),
        (without_end, "breaks off in or after line"),
        (without_line, "its digest differs"),
        (better, "its digest differs"),
        (longer, "breaks off"),
        (lambda _: b"", "is not a ledger"),
        (lambda _: b"[]\n", "is not a ledger"),
        (lambda data: data.replace(b'"schema":', b'"schema":9'), "a newer Incumbent wrote it"),
    ],
)
def test_damage_is_seen_before_anything_is_changed(  # type: ignore[no-untyped-def]
    old: Server, new: Server, damage, words: str
) -> None:
    with pytest.raises(LedgerFileProblem, match=words):
        new.imports(damage(old.exported()))
    assert new.ledger.read(0) == []


def test_events_that_cannot_be_are_refused_whatever_the_digest_says(old: Server) -> None:
    events = old.ledger.read(0)
    with pytest.raises(LedgerFileProblem, match="event 5 cannot be"):
        ledger_transfer.fold([*events[:2], events[4]])


def test_a_copy_ends_where_the_events_do_that_a_server_came_back_with() -> None:
    ledger = InMemoryLedger()
    ledger.append([ev.Draft(id="a", at=NOW, event=ev.PauseRequested())])
    assert ledger_transfer.replayed(ledger, 1).seq == 1
    with pytest.raises(RolledBack):
        ledger_transfer.replayed(ledger, 2)
