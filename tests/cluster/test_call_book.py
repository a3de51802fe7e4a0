"""Calls are reserved and settled in the ledger, within the limits, whenever the process dies."""

import json
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.call_book import CallBook
from cluster.invariants import check
from cluster.ledger import InMemoryLedger, load
from cluster.proposing_events import AnswerUsed, CallRefused
from proposer.purse import CallId, CallPlan, OverLimit, Settlement, Usage
from trainer.trial import CommitId, ExperimentId

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PLAN = CallPlan(
    proposer="claude",
    model="m",
    purpose="propose",
    commit=CommitId("c" * 40),
    incumbent=ExperimentId("e0"),
    usd=1.0,
    tokens=1000,
)
PAID = Settlement(
    usage=Usage(input=100, cache_read=20, output=30),
    usd=0.25,
    seconds=2.0,
    reply=json.dumps({"experiments": []}),
    proposals=2,
)


class Desk:
    """A ledger and a folder that outlive every book over them."""

    def __init__(self, folder: Path) -> None:
        self.ledger = InMemoryLedger()
        self.folder = folder / "calls"

    def book(self, usd: float = 10.0, tokens: int = 0) -> CallBook:
        return CallBook(
            self.ledger,
            epoch=self.ledger.begin_epoch(),
            clock=lambda: NOW,
            directory=self.folder,
            most_usd=usd,
            most_tokens=tokens,
            state=load(self.ledger),
        )

    @property
    def state(self):
        state = load(self.ledger)
        check(state)
        return state

    @property
    def kinds(self) -> list[str]:
        return [type(recorded.event).__name__ for recorded in self.ledger.read(0)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_call_is_reserved_then_settled_with_its_reply_on_disk_first(desk: Desk) -> None:
    book = desk.book()
    call = book.reserve(PLAN)
    assert dict(desk.state.reserved) == {call: PLAN}
    book.settle(call, PAID)
    state = desk.state
    assert not state.reserved
    assert dict(state.replies) == {call: PLAN}
    account = state.accounts["claude"]
    assert (account.calls, account.usd, account.usage.total) == (1, 0.25, 150)
    kept = desk.folder / "c1.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(desk.folder.stat().st_mode) == 0o700
    assert json.loads(kept.read_text())["settlement"]["reply"] == PAID.reply


def test_what_is_reserved_counts_and_a_call_that_could_exceed_the_limit_is_refused(
    desk: Desk,
) -> None:
    book = desk.book(usd=2.5)
    first, _ = book.reserve(PLAN), book.reserve(PLAN)
    with pytest.raises(OverLimit, match=r"may cost \$1.00, more than is left of \$2.50"):
        book.reserve(PLAN)
    assert desk.state.refused == CallRefused(proposer="claude", usd=1.0, tokens=1000)
    book.settle(first, PAID)
    assert book.reserve(PLAN) == "c3", "what was not used is free again"
    with pytest.raises(OverLimit):
        book.reserve(PLAN)


def test_tokens_have_a_limit_of_their_own(desk: Desk) -> None:
    book = desk.book(usd=0.0, tokens=1100)
    book.settle(book.reserve(PLAN), PAID)
    with pytest.raises(OverLimit, match=r"1,000 tokens, more than is left of 1,100"):
        book.reserve(PLAN)


def test_threads_never_exceed_the_limit_together(desk: Desk) -> None:
    book = desk.book(usd=5.0)
    refused: list[str] = []

    def spend() -> None:
        for _ in range(4):
            try:
                book.reserve(PLAN)
            except OverLimit as problem:
                refused.append(str(problem))

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(desk.state.reserved) == 5
    assert len(refused) == 11


def test_a_reply_that_was_kept_before_death_is_settled_and_offered_once(desk: Desk) -> None:
    """The process dies between the file and the event."""
    first = desk.book()
    call = first.reserve(PLAN)
    first._settled = lambda *_, **__: None
    first.settle(call, PAID)
    assert desk.kinds == ["CallReserved"]
    second = desk.book()
    assert desk.kinds == ["CallReserved", "CallSettled"]
    assert desk.state.accounts["claude"].usd == 0.25
    (recorded,) = second.unused("claude")
    assert (recorded.call, recorded.plan, recorded.reply) == (call, PLAN, PAID.reply)
    assert second.unused("claude") == []
    assert desk.book().unused("somebody else") == []


def test_a_call_of_which_nothing_is_left_counts_as_what_was_reserved(desk: Desk) -> None:
    desk.book().reserve(PLAN)
    book = desk.book(usd=1.5)
    account = desk.state.accounts["claude"]
    assert (account.usd, account.usage.total) == (1.0, 1000)
    with pytest.raises(OverLimit):
        book.reserve(PLAN)


def test_a_reply_of_which_all_was_made_is_not_offered_again(desk: Desk) -> None:
    book = desk.book()
    book.settle(book.reserve(PLAN), PAID)
    used = AnswerUsed(calls=(CallId("c1"),))
    book._record("c1/used", used)
    assert not desk.state.replies
    assert desk.book().unused("claude") == []


def test_a_damaged_reply_is_paid_for_and_left_out(desk: Desk) -> None:
    book = desk.book()
    book.settle(book.reserve(PLAN), PAID)
    (desk.folder / "c1.json").write_text("{")
    assert desk.book().unused("claude") == []
