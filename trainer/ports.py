"""What a worker needs from outside: work, and code. `cluster` implements both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from trainer.trial import CommitId, ExperimentId, SlotId, TrialOutcome, TrialSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The place where one trial runs, as a worker presents itself."""

    id: SlotId
    incarnation: str
    """Differs for every worker process: a new one on the same slot replaces the old one."""
    node: str
    device: str
    """What a person would call it: "NVIDIA GeForce RTX 4090" or "cpu"."""
    device_class: str
    gpu_uuids: tuple[str, ...] = ()
    note: str = ""
    """Why the slot takes no work, or what shares its card; empty when all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to run one trial for a while."""

    spec: TrialSpec
    token: int
    """Fencing token: a result with any other token is refused."""
    ttl_s: float
    """The lease is lost unless a heartbeat arrives within this many seconds."""


class NoWork(StrEnum):
    """Why there is no lease."""

    WAIT = "wait"  # nothing is ready: ask again
    STOP = "stop"  # the study is ending: leave the loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a running trial stands; lost without harm."""

    elapsed_s: float
    last_line: str = ""
    points: Mapping[str, float] = field(default_factory=dict)
    """Latest numbers from the log, e.g. step, loss, percent."""


class Heartbeat(StrEnum):
    """The queue's answer to a heartbeat."""

    GO_ON = "go_on"
    CANCEL = "cancel"  # somebody cancelled the trial: end it, report CANCELLED
    PRUNE = "prune"  # its curve is hopeless: end it, report PRUNED
    GIVE_BACK = "give_back"  # the study stops now: end it, report LOST
    GONE = "gone"  # the lease is no longer ours: end it, report nothing


class LeaseSource(Protocol):
    """Where a worker gets its work.

    Calls are idempotent from the worker's view: they may be repeated after a failure to connect.
    A method raises ConnectionError while the queue is away; the worker keeps its trial running and
    tries again until the lease is about to end, then ends the trial itself (self-fencing). So what
    is called while a trial runs is waited for only as long as the worker says: `patience_s`.
    """

    def hello(self, slot: Slot) -> None:
        """Announce the slot, on which nothing runs; again, once an answer may have been lost.

        Leases of earlier incarnations on it are lost at once; what this one was leased, and never
        heard of, is given back.
        """
        ...

    def lease(self, slot: Slot, wait_s: float) -> Lease | NoWork:
        """Return work, waiting at most `wait_s` seconds for it."""
        ...

    def reserve(self, slot: Slot, patience_s: float) -> TrialSpec | None:
        """Return the trial to prepare while another one runs; None if there is none for this slot.

        It is no lease: the trial stays where it is, `lease` hands it out if nothing more urgent has
        come and nobody idle has taken it. Ask again while its ttl lasts: the answer may change.
        """
        ...

    def heartbeat(
        self, slot: Slot, lease: Lease, progress: Progress, patience_s: float
    ) -> Heartbeat:
        """Extend the lease by its ttl and learn whether to go on."""
        ...

    def complete(self, slot: Slot, lease: Lease, outcome: TrialOutcome, patience_s: float) -> bool:
        """Commit the outcome; False if the lease was no longer ours and nothing was recorded."""
        ...


class CodeAway(ConnectionError):
    """A commit cannot be had for the time being, which says nothing against it."""


class CodeSource(Protocol):
    """Where a worker gets the commits it is told to run."""

    def fetch(self, commit: CommitId, *, is_ahead: bool = False) -> Path:
        """Return a local bare repository that holds `commit`; raise LookupError if none does.

        Raises CodeAway where it cannot be had now; with `is_ahead` soon, for a lease is to be kept
        meanwhile, and whoever asks again later finds it. May be called from several threads.
        """
        ...

    def lack(self) -> str:
        """Say why no commit can be had for the time being; empty if nothing is known against it."""
        ...

    def promoted(self) -> frozenset[ExperimentId]:
        """Return the experiments that are on the study's branch; raises CodeAway."""
        ...


class ResultSink(Protocol):
    """Where goes what trials leave beside their outcomes: logs, and what was kept of their output.

    Nothing here waits or raises: whatever is to be done is done beside the slot's loop.
    """

    def follow(self, run: TrialSpec) -> None:
        """Take note that a run has begun: its log (trainer.paths) grows, and is watched perhaps."""
        ...

    def left(self, trial: TrialSpec) -> None:
        """Take note that a trial has ended, before it is reported: what it left is in its place.

        From here on that is not lost, whatever becomes of this process.
        """
        ...

    def close(self) -> None:
        """End; what is not done by then is done by whoever comes next."""
        ...
