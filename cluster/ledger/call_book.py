"""Pays for calls of models: see proposer.purse.Purse for the contract.

Knows the limits, the ledger and the folder in which replies are kept. A reply is on disk before the
event that settles its call, so that a settled call always has one; a call of a dead process that
left a reply is settled by it, and one that left none counts as what was reserved for it.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cluster.ledger.codec import SchemaError, from_json, to_json
from cluster.ledger.ledger import Ledger, LedgerAway
from cluster.state.events import Draft, Event
from cluster.state.proposing_events import CallRefused, CallReserved, CallSettled
from cluster.state.state import StudyState
from proposer.purse import (
    CallId,
    CallPlan,
    OverLimit,
    RecordedReply,
    Settlement,
    Usage,
    call_number,
)

log = logging.getLogger("incumbent")

_PAUSE_S = 0.5
_MOST_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """What is kept of a call, as `calls/c12.json`."""

    call: CallId
    plan: CallPlan
    settlement: Settlement


class Replies:
    """The folder in which replies are kept, each as a whole or not at all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, call: CallId) -> CallRecord | None:
        """Return what is kept of a call; None if that is nothing, or of no use."""
        try:
            with self._path(call).open("rb") as file:
                return from_json(CallRecord, file.read(_MOST_BYTES))
        except (OSError, SchemaError):
            return None

    def write(self, record: CallRecord) -> None:
        """Keep what came of a call; raises OSError."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._path(record.call)
        temporary = path.with_suffix(".part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(to_json(record))
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)

    def forget(self, call: CallId) -> None:
        """Remove what is kept of a call."""
        self._path(call).unlink(missing_ok=True)

    def unused(self, state: StudyState) -> list[CallRecord]:
        """Return what was paid for and of which not all was made, as of a state; by age."""
        calls = sorted({*state.replies, *state.reserved}, key=call_number)
        return [record for call in calls if (record := self.read(call)) is not None]

    def _path(self, call: CallId) -> Path:
        return self._directory / f"{call}.json"


class CallBook:
    """Implements proposer.purse.Purse over the ledger. Thread safe."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        epoch: int,
        clock: Callable[[], datetime],
        directory: Path,
        most_usd: float,
        most_tokens: int,
        state: StudyState,
    ) -> None:
        """`state` is that of the ledger; calls of an earlier process are settled first."""
        self._ledger = ledger
        self._epoch = epoch
        self._now = clock
        self._replies = Replies(directory)
        self._most_usd = most_usd
        self._most_tokens = most_tokens
        self._lock = threading.Lock()
        self._calls = state.calls
        self._refusals = 0
        self._usd = sum(account.usd for account in state.accounts.values())
        self._tokens = sum(account.usage.total for account in state.accounts.values())
        self._reserved: dict[CallId, CallPlan] = dict(state.reserved)
        self._unused = dict(state.replies)
        directory.mkdir(mode=0o700, exist_ok=True)
        for call in tuple(self._reserved):
            self._settle_after_death(call)

    def reserve(self, plan: CallPlan) -> CallId:
        """See Purse."""
        with self._lock:
            if problem := self._over_limit(plan):
                self._refusals += 1
                event = CallRefused(proposer=plan.proposer, usd=plan.usd, tokens=plan.tokens)
                self._record(f"refused/{self._epoch}/{self._refusals}", event)
                raise OverLimit(problem)
            # A number is used up by what is recorded alone: the next life counts from there.
            call = CallId(f"c{self._calls + 1}")
            self._replies.forget(call)  # of a ledger that went on from here, and was replaced
            self._record(f"{call}/reserved", CallReserved(call=call, plan=plan))
            self._calls += 1
            self._reserved[call] = plan
            return call

    def _over_limit(self, plan: CallPlan) -> str:
        usd = self._usd + sum(each.usd for each in self._reserved.values()) + plan.usd
        tokens = self._tokens + sum(each.tokens for each in self._reserved.values()) + plan.tokens
        if self._most_usd and usd > self._most_usd:
            return f"a call may cost ${plan.usd:.2f}, more than is left of ${self._most_usd:.2f}"
        if self._most_tokens and tokens > self._most_tokens:
            most = f"{self._most_tokens:,}"
            return f"a call may use {plan.tokens:,} tokens, more than is left of {most}"
        return ""

    def settle(self, call: CallId, settlement: Settlement) -> None:
        """See Purse."""
        with self._lock:
            record = CallRecord(call=call, plan=self._reserved[call], settlement=settlement)
            try:
                self._replies.write(record)
            except OSError as error:
                # A full disk costs what a crash might need; what was paid is settled all the same.
                log.warning("the reply to call %s could not be kept: %s", call, error)
            self._record(f"{call}/settled", _settled(call, settlement))
            self._account_for(call, settlement)

    def unused(self, proposer: str) -> Sequence[RecordedReply]:
        """See Purse."""
        with self._lock:
            mine = [call for call, plan in self._unused.items() if plan.proposer == proposer]
            found = []
            for call in sorted(mine, key=call_number):
                plan = self._unused.pop(call)
                record = self._replies.read(call)
                if record is not None:
                    reply = record.settlement.reply
                    found.append(RecordedReply(call=call, plan=plan, reply=reply))
            return found

    def _account_for(self, call: CallId, settlement: Settlement) -> None:
        del self._reserved[call]
        self._usd += settlement.usd
        self._tokens += settlement.usage.total

    def _settle_after_death(self, call: CallId) -> None:
        """Settle a call of a dead process; nobody would revive a server that was waited for."""
        record, plan = self._replies.read(call), self._reserved[call]
        settlement = record.settlement if record is not None else _unknown(plan)
        self._append(f"{call}/settled", _settled(call, settlement, is_lost=record is None))
        self._account_for(call, settlement)
        if settlement.proposals:
            self._unused[call] = plan

    def _record(self, name: str, event: Event) -> None:
        """Append an event; a server that is away is waited for, for as long as it takes.

        A call that was given up for that would be one of which the ledger knows all or nothing. It
        is the controller that gives up in the end, and its process with it.
        """
        is_away = False
        while True:
            try:
                self._append(name, event)
            except LedgerAway as error:
                if not is_away:
                    log.warning("%s: %s waits for it", error, name)
                is_away = True
                time.sleep(_PAUSE_S)
            else:
                return

    def _append(self, name: str, event: Event) -> None:
        draft = Draft(id=name, at=self._now(), event=event)
        self._ledger.append([draft], epoch=self._epoch)


def _settled(call: CallId, settlement: Settlement, *, is_lost: bool = False) -> CallSettled:
    return CallSettled(
        call=call,
        usd=settlement.usd,
        usage=settlement.usage,
        seconds=settlement.seconds,
        proposals=settlement.proposals,
        problem=settlement.problem,
        is_lost=is_lost,
    )


def _unknown(plan: CallPlan) -> Settlement:
    """Return how a call counts of which nothing is left: as what was reserved for it."""
    return Settlement(
        usage=Usage(output=plan.tokens),
        usd=plan.usd,
        seconds=0.0,
        problem="the controller died while it was made",
    )
