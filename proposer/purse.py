"""What calls of models cost, and the port through which they are paid: reserve, call, settle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from trainer.trial import CommitId, ExperimentId

CallId = NewType("CallId", str)
"""`c1`, `c2`, ... in the order of their reservations."""


def call_number(call: CallId) -> int:
    """Return the number in a call's id: 42 for c42."""
    return int(call[1:])


class OverLimit(RuntimeError):
    """A call may cost more than what is left of the study's limit; it must not be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call. The four kinds do not overlap; each has its own price."""

    input: int = 0
    """Neither read from the cache nor written to it."""
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    """Thinking included."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.input + self.cache_read + self.cache_write + self.output

    def plus(self, other: "Usage") -> "Usage":
        """Return what both calls used."""
        return Usage(
            input=self.input + other.input,
            cache_read=self.cache_read + other.cache_read,
            cache_write=self.cache_write + other.cache_write,
            output=self.output + other.output,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """A call that is about to be made."""

    proposer: str
    model: str
    purpose: str
    """In a word: propose, repair, fix, compose."""
    commit: CommitId
    """The commit that what it proposes will be patches on."""
    incumbent: ExperimentId
    usd: float
    """The most that it can cost; 0 where nothing is paid."""
    tokens: int
    """The most tokens that it can use."""
    task: str = ""
    """Key of the task that it is for; empty if it asks for ideas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a call ended."""

    usage: Usage
    usd: float
    seconds: float
    reply: str = ""
    """What came back, as JSON text of the proposer's own; empty if nothing of use did."""
    proposals: int = 0
    """How many proposals the reply holds."""
    problem: str = ""
    """Why there is no reply; empty if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedReply:
    """A reply that was paid and recorded, and of which no use was made before a crash."""

    call: CallId
    plan: CallPlan
    reply: str


class Purse(Protocol):
    """Pays for calls. May be used by several threads at once.

    A reservation is recorded before the call is made, and a reply before anything comes of it, so
    that neither a limit nor a reply is lost with the process. A call that was reserved and never
    settled counts as what was reserved. What has to be recorded waits for a ledger that is away.
    """

    def reserve(self, plan: CallPlan) -> CallId:
        """Record that a call is about to be made; raises OverLimit."""
        ...

    def settle(self, call: CallId, settlement: Settlement) -> None:
        """Record how it ended, its reply included."""
        ...

    def unused(self, proposer: str) -> Sequence[RecordedReply]:
        """Return replies to this proposer of which no experiment was made, the oldest first.

        Each is returned once in the life of a process.
        """
        ...
