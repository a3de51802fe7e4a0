"""The contract of cluster.ledger.ledger.Ledger, run over every implementation."""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest

from cluster.ledger.codec import SchemaError, decode_event, encode_draft
from cluster.ledger.ledger import Fenced, InMemoryLedger, Ledger, LedgerAway, load
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, WrongServer, check_server, connect
from cluster.ledger.schema import SCHEMA_VERSION
from cluster.state import events as ev
from cluster.state.state import StudyState
from tests.cluster.redis_user import restricted
from trainer.run_start import Start
from trainer.trial import CommitId, Ending, ExperimentId, SlotId, TrialId, TrialOutcome

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def draft(name: str, event: ev.Event | None = None) -> ev.Draft:
    return ev.Draft(id=name, at=NOW, event=event or ev.PauseRequested())


@pytest.fixture(params=["memory", "redis", "user"])
def ledger(request: pytest.FixtureRequest, server_url: str, study_id: str) -> Iterator[Ledger]:
    if request.param == "memory":
        yield InMemoryLedger()
        return
    client = connect(restricted(server_url) if request.param == "user" else server_url)
    yield RedisLedger(RedisStore(client, study_id))
    client.close()


def test_events_come_back_in_order_with_numbers_without_gaps(ledger: Ledger) -> None:
    assert ledger.append([draft("a"), draft("b")]) == 2
    assert ledger.append([draft("c", ev.StopRequested(now=True))]) == 3
    events = ledger.read(0)
    assert [(e.seq, e.id) for e in events] == [(1, "a"), (2, "b"), (3, "c")]
    assert events[2].event == ev.StopRequested(now=True)
    assert events[0].at == NOW
    assert [e.seq for e in ledger.read(1, limit=1)] == [2]


def test_appending_twice_under_one_id_records_one_event(ledger: Ledger) -> None:
    ledger.append([draft("a")])
    assert ledger.append([draft("a"), draft("b")]) == 2
    assert [e.id for e in ledger.read(0)] == ["a", "b"]


def test_an_empty_ledger_is_at_zero(ledger: Ledger) -> None:
    assert ledger.append([]) == 0
    assert ledger.read(0) == []
    assert not ledger.wait(0, 0.01)
    assert load(ledger) == StudyState()


def test_a_writer_of_an_earlier_epoch_is_fenced(ledger: Ledger) -> None:
    old = ledger.begin_epoch()
    new = ledger.begin_epoch()
    assert (old, new) == (1, 2)
    with pytest.raises(Fenced):
        ledger.append([draft("a")], epoch=old)
    assert ledger.read(0) == []
    assert ledger.append([draft("a")], epoch=new) == 1


def test_events_are_found_by_number(ledger: Ledger) -> None:
    ledger.append([draft("a"), draft("b"), draft("c")])
    assert [e.id for e in ledger.get([3, 1])] == ["c", "a"]
    with pytest.raises(KeyError):
        ledger.get([4])


def test_a_snapshot_spares_the_events_before_it(ledger: Ledger) -> None:
    started = ev.StudyStarted(
        study="s", base_commit=CommitId("1" * 40), metric="loss", goal="minimize"
    )
    opened = ev.SlotOpened(
        slot=SlotId("cpu-0"), incarnation="x", node="n", device="cpu", device_class="cpu"
    )
    ledger.append([draft("a", started), draft("b", opened)])
    state = load(ledger)
    ledger.save_snapshot(state)
    ledger.append([draft("c")])
    assert ledger.load_snapshot() == state
    assert load(ledger).is_paused
    assert load(ledger).slots == state.slots


def test_waiting_ends_when_there_is_an_event(ledger: Ledger) -> None:
    ledger.append([draft("a")])
    assert ledger.wait(0, 5.0)


def test_a_newer_schema_is_refused() -> None:
    payload = msgspec.json.decode(encode_draft(draft("a")))
    payload["v"] = SCHEMA_VERSION + 1
    with pytest.raises(SchemaError, match="newer Incumbent"):
        decode_event(1, msgspec.json.encode(payload))


def test_a_trial_of_an_earlier_version_is_read_as_one_of_which_nothing_more_is_known() -> None:
    outcome = TrialOutcome(ending=Ending.SCORED, value=0.5, metrics={"steps": 9.0})
    event = ev.TrialFinished(
        trial=TrialId("e1.1"), experiment=ExperimentId("e1"), attempt=1, outcome=outcome
    )
    payload = msgspec.json.decode(encode_draft(draft("a", event)))
    for name in ("conduct", "sandbox", "start", "cold_reason"):
        del payload["body"]["outcome"][name]
    assert decode_event(1, msgspec.json.encode(payload)).event == event


def test_how_a_trial_ran_comes_back_as_it_was() -> None:
    outcome = TrialOutcome(
        ending=Ending.SCORED, value=0.5, sandbox="none", start=Start.GATE, cold_reason="no script"
    )
    event = ev.TrialFinished(
        trial=TrialId("e1.1"), experiment=ExperimentId("e1"), attempt=1, outcome=outcome
    )
    found = decode_event(1, encode_draft(draft("a", event))).event
    assert found == event
    assert isinstance(found.outcome.start, Start)


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "NoSuchEvent"},
        {"at": "yesterday"},
        {"body": {"now": "perhaps"}},
        {"body": []},
        {"v": "one"},
    ],
)
def test_a_damaged_event_is_refused(damage: dict[str, object]) -> None:
    payload = msgspec.json.decode(encode_draft(draft("a", ev.StopRequested())))
    with pytest.raises(SchemaError):
        decode_event(1, msgspec.json.encode(payload | damage))


def test_a_server_that_is_not_there_is_away() -> None:
    client = connect("redis://127.0.0.1:1/0", patience_s=0.2)
    with pytest.raises(LedgerAway, match="does not answer"):
        check_server(client, "redis://127.0.0.1:1/0")


def test_a_password_is_not_shown() -> None:
    url = "redis://user:secret@127.0.0.1:1/0"
    with pytest.raises(LedgerAway) as problem:
        check_server(connect(url, patience_s=0.2), url)
    assert "secret" not in str(problem.value)
    assert "redis://user:***@127.0.0.1:1/0" in str(problem.value)


def test_a_server_that_is_too_old_is_refused() -> None:
    class OldServer:
        def info(self, section: str) -> dict[str, str]:
            return {"redis_version": "5.0.14"} if section == "server" else {}

    with pytest.raises(WrongServer, match=r"Redis 5\.0\.14; Incumbent needs 6\.2"):
        check_server(OldServer(), "redis://old")  # type: ignore[arg-type]


def test_a_real_server_is_new_enough(server_url: str) -> None:
    client = connect(server_url)
    check_server(client, server_url)
    client.close()
