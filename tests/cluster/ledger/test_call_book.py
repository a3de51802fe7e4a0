"""Paying for calls: limits that hold, and deaths of the controller before and after each append."""

import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.ledger.call_book import CallBook
from cluster.ledger.ledger import Fenced, InMemoryLedger, LedgerAway, load
from cluster.policy.proposal_planning import limit_reached
from cluster.policy.study_plan import StudyPlan
from cluster.state import events as ev
from cluster.state.invariants import check
from cluster.state.state import StudyState
from cluster.state.steps import OutOfOrder
from eval.judge import GreedyJudge
from proposer.purse import CallId, CallPlan, OverLimit, Settlement, Usage
from tests.cluster.world import METRIC
from trainer.trial import CommitId, ExperimentId

NOW = datetime(2026, 3, 1, tzinfo=UTC)
REPLY = Settlement(
    usage=Usage(input=100, cache_read=50, output=20),
    usd=0.25,
    seconds=3.0,
    reply='{"experiments": []}',
    proposals=2,
)


class Killed(BaseException):
    """The controller is gone, as by kill -9."""


class MortalLedger(InMemoryLedger):
    """Dies before or after its n-th append."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_at = 0
        self.dies_after = False
        self.appends = 0

    def append(self, drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        self.appends += 1
        is_last = self.appends == self.dies_at
        if is_last and not self.dies_after:
            raise Killed
        seq = super().append(drafts, epoch=epoch)
        if is_last:
            raise Killed
        return seq


class Desk:
    """A study's ledger and folder, over the lives of several controllers."""

    def __init__(self, folder: Path) -> None:
        self.ledger = MortalLedger()
        self.folder = folder / "calls"
        started = ev.StudyStarted(
            study="s", base_commit=CommitId("b"), metric="loss", goal="minimize"
        )
        self.ledger.append([ev.Draft(id="start", at=NOW, event=started)])

    def book(self, *, usd: float = 0.0, tokens: int = 0) -> CallBook:
        """Begin the life of a controller."""
        epoch = self.ledger.begin_epoch()
        started = ev.ControllerStarted(epoch=epoch, pid=1, node="n")
        self.ledger.append([ev.Draft(id=f"controller/{epoch}", at=NOW, event=started)])
        return CallBook(
            self.ledger,
            epoch=epoch,
            clock=lambda: NOW,
            directory=self.folder,
            most_usd=usd,
            most_tokens=tokens,
            state=self.state,
        )

    @property
    def state(self) -> StudyState:
        state = load(self.ledger)
        check(state)
        return state

    @property
    def spent(self) -> float:
        return sum(account.usd for account in self.state.accounts.values())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def plan_of(usd: float = 1.0, tokens: int = 1000, proposer: str = "claude") -> CallPlan:
    return CallPlan(
        proposer=proposer,
        model="m",
        purpose="propose",
        commit=CommitId("b"),
        incumbent=ExperimentId("e0"),
        usd=usd,
        tokens=tokens,
    )


def study_plan(usd: float = 0.0, tokens: int = 0) -> StudyPlan:
    return StudyPlan(
        metric=METRIC,
        judge=GreedyJudge(metric=METRIC),
        proposers=(),
        slots=1,
        most_usd=usd,
        most_tokens=tokens,
    )


def test_a_call_is_reserved_settled_and_accounted_for(desk: Desk) -> None:
    book = desk.book()
    call = book.reserve(plan_of())
    assert dict(desk.state.reserved) == {call: plan_of()}
    assert call == "c1"
    book.settle(call, REPLY)
    account = desk.state.accounts["claude"]
    assert (account.calls, account.usd, account.usage) == (1, 0.25, REPLY.usage)
    assert not desk.state.reserved
    assert dict(desk.state.replies) == {call: plan_of()}


def test_the_end_of_a_call_whose_beginning_was_lost_is_refused_and_says_what_to_do(
    desk: Desk,
) -> None:
    settled = ev.CallSettled(call=CallId("c7"), usd=0.25, usage=REPLY.usage, seconds=3.0)
    desk.ledger.append([ev.Draft(id="c7/settled", at=NOW, event=settled)])
    with pytest.raises(OutOfOrder, match=r"the end of call c7 .* `incumbent rebuild`"):
        load(desk.ledger)


def test_a_reply_lies_in_a_file_that_nobody_else_can_read(desk: Desk) -> None:
    book = desk.book()
    book.settle(book.reserve(plan_of()), REPLY)
    (kept,) = desk.folder.iterdir()
    assert (kept.name, kept.stat().st_mode & 0o777) == ("c1.json", 0o600)
    assert json.loads(kept.read_text())["settlement"]["reply"] == REPLY.reply
    assert desk.folder.stat().st_mode & 0o777 == 0o700


def test_the_reply_is_on_disk_before_the_event_that_settles_its_call(desk: Desk) -> None:
    book = desk.book()
    call = book.reserve(plan_of())
    desk.ledger.dies_at = desk.ledger.appends + 1
    with pytest.raises(Killed):
        book.settle(call, REPLY)
    assert (desk.folder / "c1.json").is_file()
    assert list(desk.state.reserved) == [call]


@pytest.mark.parametrize("dies_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("append", range(1, 6))
def test_no_death_pays_for_a_recorded_reply_twice_nor_loses_one(
    desk: Desk, append: int, dies_after: bool
) -> None:
    """Two calls are made of a life; the next life finds every reply that came back."""
    came_back: list[str] = []

    def live(book: CallBook) -> None:
        for _ in range(2):
            call = book.reserve(plan_of())
            came_back.append(call)
            book.settle(call, REPLY)

    first = desk.book()
    desk.ledger.dies_at = desk.ledger.appends + append
    desk.ledger.dies_after = dies_after
    made_all = append > 4
    if made_all:
        live(first)
    else:
        with pytest.raises(Killed):
            live(first)
    desk.ledger.dies_at = 0
    second = desk.book()
    found = [recorded.call for recorded in second.unused("claude")]
    state = desk.state
    assert found == came_back
    assert set(found) == set(state.replies)
    assert not state.reserved
    # A call that was reserved, and never made, counts as what was reserved: nobody knows.
    lost = state.calls - len(came_back)
    assert desk.spent == pytest.approx(0.25 * len(came_back) + 1.0 * lost)
    assert second.reserve(plan_of()) == f"c{state.calls + 1}"


def test_a_death_while_the_dead_are_settled_settles_each_once(desk: Desk) -> None:
    first = desk.book()
    kept, lost = first.reserve(plan_of()), first.reserve(plan_of())
    desk.ledger.dies_at = desk.ledger.appends + 1
    with pytest.raises(Killed):
        first.settle(kept, REPLY)
    desk.ledger.dies_at, desk.ledger.dies_after = desk.ledger.appends + 2, True
    with pytest.raises(Killed):
        desk.book()
    desk.ledger.dies_at = 0
    third = desk.book()
    assert [recorded.call for recorded in third.unused("claude")] == [kept]
    assert desk.state.accounts["claude"].usage.total == REPLY.usage.total + 1000
    settled = [r.event for r in desk.ledger.read(0) if isinstance(r.event, ev.CallSettled)]
    assert sorted((event.call, event.is_lost, event.usd) for event in settled) == [
        (kept, False, 0.25),
        (lost, True, 1.0),
    ]


def test_unused_replies_come_once_and_to_their_own_proposer(desk: Desk) -> None:
    first = desk.book()
    for name in ("claude", "other", "claude"):
        first.settle(first.reserve(plan_of(proposer=name)), REPLY)
    assert first.unused("claude") == []  # those of this life are in its proposers' hands
    second = desk.book()
    found = second.unused("claude")
    assert [(r.call, r.reply) for r in found] == [("c1", REPLY.reply), ("c3", REPLY.reply)]
    assert found[0].plan == plan_of()
    assert second.unused("claude") == []
    assert second.unused("somebody else") == []
    desk.ledger.append([ev.Draft(id="used", at=NOW, event=ev.AnswerUsed(calls=(found[0].call,)))])
    assert sorted(desk.state.replies) == ["c2", "c3"]
    assert [r.call for r in desk.book().unused("claude")] == ["c3"]


def test_a_limit_holds_over_calls_that_are_being_made_and_over_lives(desk: Desk) -> None:
    book = desk.book(usd=2.0)
    first = book.reserve(plan_of(usd=1.5))
    with pytest.raises(OverLimit, match=r"may cost \$1.00, more than is left of \$2.00"):
        book.reserve(plan_of(usd=1.0))
    assert desk.state.refused == ev.CallRefused(proposer="claude", usd=1.0, tokens=1000)
    book.settle(first, REPLY)
    second = book.reserve(plan_of(usd=1.75))  # exactly what is left
    del second  # its process dies: it counts as reserved
    with pytest.raises(OverLimit):
        desk.book(usd=2.0).reserve(plan_of(usd=0.01))


def test_tokens_have_a_limit_of_their_own(desk: Desk) -> None:
    book = desk.book(tokens=1500)
    book.settle(book.reserve(plan_of(tokens=1400)), REPLY)
    with pytest.raises(OverLimit, match=r"1,400 tokens, more than is left of 1,500"):
        book.reserve(plan_of(tokens=1400))
    assert book.reserve(plan_of(tokens=1330)) == "c2"


def test_a_refusal_ends_the_study_by_name_until_the_limit_is_raised(desk: Desk) -> None:
    book = desk.book(usd=2.0)
    book.settle(book.reserve(plan_of(usd=1.5)), REPLY)
    with pytest.raises(OverLimit):
        book.reserve(plan_of(usd=1.8))
    said = limit_reached(desk.state, study_plan(usd=2.0), NOW)
    assert said == "$0.25 of $2.00 were spent, and the next call may cost $1.80"
    assert not limit_reached(desk.state, study_plan(usd=3.0), NOW)


def test_a_refusal_for_what_is_set_aside_stands_until_that_is_settled(desk: Desk) -> None:
    """Else the one that was refused would be tried again at once, and again."""
    book = desk.book(usd=2.0)
    call = book.reserve(plan_of(usd=1.5))
    with pytest.raises(OverLimit):
        book.reserve(plan_of(usd=1.0))
    assert limit_reached(desk.state, study_plan(usd=2.0), NOW)
    book.settle(call, REPLY)
    assert not limit_reached(desk.state, study_plan(usd=2.0), NOW)


def test_threads_together_stay_within_the_limit(desk: Desk) -> None:
    book = desk.book(usd=10.0)
    refused: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            try:
                book.settle(book.reserve(plan_of(usd=1.0)), REPLY)
            except OverLimit:
                refused.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = desk.state
    assert state.calls == 40 - len(refused)
    assert desk.spent == pytest.approx(0.25 * state.calls)
    assert desk.spent <= 10.0


def test_threads_that_settle_nothing_reserve_no_more_than_the_limit(desk: Desk) -> None:
    book = desk.book(usd=5.0)
    refused: list[str] = []

    def spend() -> None:
        for _ in range(4):
            try:
                book.reserve(plan_of())
            except OverLimit as problem:
                refused.append(str(problem))

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(desk.state.reserved) == 5
    assert len(refused) == 11


def test_a_dead_controllers_thread_can_reserve_nothing(desk: Desk) -> None:
    old = desk.book()
    desk.book()
    with pytest.raises(Fenced):
        old.reserve(plan_of())


def failing(times: int, append: Callable[..., int]) -> Callable[..., int]:
    left = [times]

    def act(drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        left[0] -= 1
        if left[0] >= 0:
            raise LedgerAway("gone")
        return append(drafts, epoch=epoch)

    return act


def test_a_server_that_is_away_is_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.ledger.call_book._PAUSE_S", 0.0)
    book = desk.book()
    desk.ledger.append = failing(3, desk.ledger.append)  # type: ignore[method-assign]
    assert book.reserve(plan_of()) == "c1"
    assert desk.state.calls == 1


class Clock:
    """Stands in for the module `time`: who sleeps gets older by a minute at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _: float) -> None:
        self.now += 60.0


def reserved_events(desk: Desk) -> list[str]:
    return [r.event.call for r in desk.ledger.read(0) if isinstance(r.event, ev.CallReserved)]


def test_no_outage_is_so_long_that_a_call_is_made_without_its_reservation(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that was given up would have used a number up, which the next life gives again."""
    monkeypatch.setattr("cluster.ledger.call_book.time", Clock())
    book = desk.book()
    append = desk.ledger.append
    for _ in range(2):
        desk.ledger.append = failing(10, append)  # type: ignore[method-assign]
        call = book.reserve(plan_of())
        desk.ledger.append = failing(10, append)  # type: ignore[method-assign]
        book.settle(call, REPLY)
    desk.ledger.append = append  # type: ignore[method-assign]
    second = desk.book()
    second.settle(second.reserve(plan_of()), REPLY)
    assert reserved_events(desk) == ["c1", "c2", "c3"]
    assert desk.spent == 3 * REPLY.usd


def test_a_call_that_could_not_be_recorded_uses_no_number_up(desk: Desk) -> None:
    """Else the next life would give the next one a number for the second time."""
    book = desk.book()
    append = desk.ledger.append

    def refuse(drafts: Sequence[ev.Draft], *, epoch: int | None = None) -> int:
        raise RuntimeError("the server lets nobody in any more")

    desk.ledger.append = refuse  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        book.reserve(plan_of())
    desk.ledger.append = append  # type: ignore[method-assign]
    book.settle(book.reserve(plan_of()), REPLY)
    second = desk.book()
    second.settle(second.reserve(plan_of()), REPLY)
    assert reserved_events(desk) == ["c1", "c2"]
    assert desk.spent == 2 * REPLY.usd


def test_a_new_life_does_not_wait_for_a_server_that_nobody_would_revive(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.book().reserve(plan_of())

    def wait(_: float) -> None:
        raise AssertionError("it waits")

    monkeypatch.setattr("cluster.ledger.call_book.time.sleep", wait)
    state = desk.state
    desk.ledger.append = failing(1, desk.ledger.append)  # type: ignore[method-assign]
    with pytest.raises(LedgerAway):
        CallBook(
            desk.ledger,
            epoch=1,
            clock=lambda: NOW,
            directory=desk.folder,
            most_usd=0.0,
            most_tokens=0,
            state=state,
        )


def test_a_disk_that_takes_no_reply_costs_the_reply_and_not_the_account(desk: Desk) -> None:
    book = desk.book()
    call = book.reserve(plan_of())
    desk.folder.rmdir()
    desk.folder.write_text("in the way")
    book.settle(call, REPLY)
    assert desk.spent == 0.25
    desk.folder.unlink()
    assert desk.book().unused("claude") == []


@pytest.mark.parametrize("text", ['{"call": 7}', "{"])
def test_a_damaged_reply_is_paid_for_and_counts_as_none(desk: Desk, text: str) -> None:
    book = desk.book()
    book.settle(book.reserve(plan_of()), REPLY)
    (desk.folder / "c1.json").write_text(text)
    assert desk.book().unused("claude") == []
    assert desk.spent == 0.25


def test_a_reply_of_a_ledger_that_was_replaced_is_not_that_of_a_new_call(desk: Desk) -> None:
    first = desk.book()
    first.settle(first.reserve(plan_of()), REPLY)
    desk.ledger = Desk(desk.folder.parent).ledger  # as of before that call
    call = desk.book().reserve(plan_of())
    assert call == "c1"
    third = desk.book()  # the second has died while it was made
    assert third.unused("claude") == []
    assert desk.spent == plan_of().usd
