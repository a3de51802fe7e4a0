"""A study out of its store, whole, and into an empty one.

Out: as of one moment, also of a study that runs. In: at one go, so that an import that is killed
has changed nothing; what ran when the file was written is then given back, and so runs again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster.backup.ledger_file import (
    Contents,
    Curve,
    Header,
    LedgerFileProblem,
    QueueRecords,
    Waiting,
)
from cluster.ledger.call_book import CallRecord
from cluster.ledger.codec import from_json, to_json
from cluster.ledger.ledger import ROLLED_BACK, Ledger, RolledBack
from cluster.ledger.progress import ProgressStore
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, translated
from cluster.queue.queue_events import lost_event
from cluster.queue.redis_queue import attempt_in, spec_of_lease
from cluster.state.events import Draft, Recorded
from cluster.state.state import StudyState
from cluster.state.transitions import apply
from trainer.trial import TrialSpec

PAGE = 1000
"""Events that are read or appended at a time."""
MOVED = "the study was taken to another server while it ran"

Show = Callable[[int, int], None]
"""Is told how many events of how many are done."""


class NotEmpty(RuntimeError):
    """There is a ledger already; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a store holds as of one moment."""

    seq: int
    queue: QueueRecords


# --- out -----------------------------------------------------------------------------------------


def moment(store: RedisStore) -> Moment:
    """Read what the queue holds and the number of the last event, which belong together."""
    pipeline = store.client.pipeline(transaction=True)
    pipeline.hmget(store.key("meta"), ["seq", "epoch", "count"])
    pipeline.zrange(store.key("ready"), 0, -1, withscores=True)
    pipeline.hgetall(store.key("specs"))
    pipeline.hgetall(store.key("leases"))
    with translated():
        meta, ready, specs, leases = pipeline.execute()
    seq, epoch, count = (int(number or 0) for number in meta)
    waiting = (_waiting(member, rank, specs) for member, rank in ready)
    leased = (spec_of_lease(payload) for payload in leases.values())
    return Moment(
        seq=seq,
        queue=QueueRecords(
            epoch=epoch,
            count=count,
            waiting=tuple(waiting),
            leases=tuple(sorted(leased, key=lambda spec: spec.trial)),
        ),
    )


def _waiting(member: bytes, rank: float, specs: dict[bytes, bytes]) -> Waiting:
    spec = from_json(TrialSpec, specs[attempt_in(member)])
    return Waiting(rank=rank, member=member.decode(), spec=spec)


def replayed(ledger: Ledger, seq: int) -> StudyState:
    """Return the state as of event `seq`; raises RolledBack where that is gone."""
    state = StudyState()
    for recorded in _events(ledger, seq, lambda _done, _all: None):
        state = apply(state, recorded)
    return state


def contents(
    store: RedisStore,
    at: Moment,
    state: StudyState,
    calls: Sequence[CallRecord],
    facts: dict[str, Any],
    show: Show,
) -> Contents:
    """Return what is to be written of a study as of a moment; `state` is the one of then."""
    progress = ProgressStore(store)
    curves = [
        Curve(curve=f"{trial.id}/{trial.attempt}", points=points)
        for experiment in state.experiments.values()
        for trial in experiment.all_trials
        if trial.started_at and (points := progress.stored(trial.id, trial.attempt))
    ]
    header = Header(
        study=state.study,
        base_commit=state.base_commit,
        events=at.seq,
        curves=len(curves),
        calls=len(calls),
        **facts,
    )
    events = _events(RedisLedger(store), at.seq, show)
    return Contents(header=header, events=events, queue=at.queue, calls=calls, curves=curves)


def _events(ledger: Ledger, last: int, show: Show) -> Iterator[Recorded]:
    done = 0
    while done < last:
        page = ledger.read(done, limit=min(PAGE, last - done))
        if not page:  # its server came back without its last second
            raise RolledBack(ROLLED_BACK)
        yield from page
        done = page[-1].seq
        show(done, last)


# --- in ------------------------------------------------------------------------------------------


def fold(events: Iterable[Recorded]) -> StudyState:
    """Return the state that events add up to; raises LedgerFileProblem if they do not."""
    state = StudyState()
    for recorded in events:
        try:
            state = apply(state, recorded)
        except (KeyError, RuntimeError, ValueError) as error:
            raise LedgerFileProblem(f"event {recorded.seq} cannot be: {error}") from error
    return state


def take_in(store: RedisStore, found: Contents, show: Show) -> int:
    """Make the study of a file that of an empty store; return how many trials were given back.

    That they were as of the moment of the file: what came since is no time of this study's.

    Raises NotEmpty.
    """
    staged = store.staging()
    then = datetime.fromisoformat(found.header.exported_at)
    drafts = [Draft(id=one.id, at=one.at, event=one.event) for one in found.events]
    lost = [lost_event(spec, MOVED, then, is_given_back=True) for spec in found.queue.leases]
    append(RedisLedger(staged), [*drafts, *lost], show)
    _put_back(staged, found.queue)
    progress = ProgressStore(store)
    for curve in found.curves:
        trial, _, attempt = curve.curve.rpartition("/")
        progress.restore(trial, int(attempt), curve.points)
    if not store.land(staged):
        raise NotEmpty(store.study)
    return len(lost)


def append(ledger: Ledger, drafts: list[Draft], show: Show) -> None:
    """Append many events, some at a time."""
    for start in range(0, len(drafts), PAGE):
        ledger.append(drafts[start : start + PAGE])
        show(min(start + PAGE, len(drafts)), len(drafts))


def _put_back(store: RedisStore, queue: QueueRecords) -> None:
    pipeline = store.client.pipeline(transaction=True)
    pipeline.hset(store.key("meta"), mapping={"epoch": queue.epoch, "count": queue.count})
    for one in queue.waiting:
        pipeline.hset(store.key("specs"), attempt_in(one.member.encode()), to_json(one.spec))
        pipeline.zadd(store.key("ready"), {one.member: one.rank})
    with translated():
        pipeline.execute()
