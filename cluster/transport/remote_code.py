"""Brings commits from the head to a node, once for all of its slots.

Knows how long to go on asking. Does not know Ray, nor what is in a pack. A commit is fetched in a
thread of its own, which goes on when whoever wanted it has lost patience: who asks again later
finds it, or waits for the same thread. One that hangs holds up no other commit.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning
from functools import partial
from pathlib import Path
from typing import TypeVar

from cluster.transport.depot import Depot
from cluster.transport.errands import Errands
from cluster.transport.node_repository import NodeRepository
from cluster.transport.packer import Packing, Parcel
from trainer.git_command import GitError
from trainer.ports import CodeAway
from trainer.trial import CommitId, ExperimentId

T = TypeVar("T")
MOST_BEGINNINGS = 3
PATIENCE_S = 20.0
"""How long a trial that was leased waits for its code; a lease lasts longer than that."""
WHOLE_S = 3600.0
"""How long to wait for all of a repository; nobody has leased anything by then."""
PACKED_S = 900.0
"""How long the head may be at one pack: longer than it lets git be (cluster.transport.packer)."""
AHEAD_S = 1.0
"""How long a running trial's next heartbeat may be held up by what is prepared for later."""
RETRY_S = 0.5
SILENT_S = 5.0
"""How long the head may be silent before that is said: Ray starts an actor that died again."""
ASK_AGAIN_S = 60.0
LACK = "waits for the head's depot, which does not answer"


class RemoteCode:
    """trainer.ports.CodeSource on a node that does not hold the study's repository."""

    def __init__(
        self,
        depot: Depot,
        repository: NodeRepository,
        *,
        patience_s: float = PATIENCE_S,
        ahead_s: float = AHEAD_S,
        silent_s: float = SILENT_S,
    ) -> None:
        """`patience_s` bounds how long `fetch` takes, and how long the head may be silent.

        The first that a node fetches is all of the repository, for which it waits for longer.
        """
        self._depot = depot
        self._repository = repository
        self._patience_s = patience_s
        self._ahead_s = ahead_s
        self._silent_s = silent_s
        self._errands = Errands()
        self._missed: CommitId | None = None
        """What the head has been asked for, and not answered."""
        self._ask_again_at = 0.0

    def fetch(self, commit: CommitId, *, is_ahead: bool = False) -> Path:
        """See CodeSource; raises GitError besides, of a commit that cannot be taken in."""
        if not self._repository.has(commit):
            patience_s = self._patience_s if self._repository.has_base() else WHOLE_S
            self._wait(
                f"commit {commit[:10]} is still on its way from the head",
                self._errands.begin(commit, partial(self._bring, commit)),
                self._ahead_s if is_ahead else patience_s,
            )
        return self._repository.path

    def lack(self) -> str:
        """See CodeSource; what the head was asked for last it is asked for again meanwhile."""
        missed = self._missed
        if missed is None:
            return ""
        self._errands.begin(missed, partial(self._bring, missed))
        return LACK

    def promoted(self) -> frozenset[ExperimentId]:
        """See CodeSource; a head that did not answer is not asked again for a while."""
        if time.monotonic() < self._ask_again_at:
            raise CodeAway("the head did not answer a moment ago")
        self._ask_again_at = time.monotonic() + ASK_AGAIN_S
        asking = self._errands.begin("promoted", self._ask_promoted)
        told = self._wait("the head does not answer", asking, AHEAD_S)
        self._ask_again_at = 0.0
        return told

    def _ask_promoted(self) -> frozenset[ExperimentId]:
        try:
            return frozenset(self._depot.promoted())
        except ConnectionError as error:
            raise CodeAway(f"the head does not answer: {error}") from error

    @staticmethod
    def _wait(words: str, coming: "Future[T]", patience_s: float) -> T:
        try:
            return coming.result(patience_s)
        except StillRunning:
            raise CodeAway(words) from None

    def _bring(self, commit: CommitId) -> None:
        with self._repository.incoming(commit) as pack:
            if self._repository.has(commit):  # another slot has brought it meanwhile
                return
            have = self._repository.newest()
            try:
                self._take(commit, have, pack)
            except GitError:
                if not have:
                    raise
                self._take(commit, (), pack)  # something that it rests on is not here after all

    def _take(self, commit: CommitId, have: tuple[CommitId, ...], pack: Path) -> None:
        if not any(self._receive(commit, have, pack) for _ in range(MOST_BEGINNINGS)):
            raise CodeAway(f"the head does not come to the end of commit {commit[:10]}")
        with self._repository.held():
            self._repository.take(commit, pack)
            self._repository.prune()

    def _receive(self, commit: CommitId, have: tuple[CommitId, ...], pack: Path) -> bool:
        """Write what the head sends to `pack`; say whether that is all of it."""
        parcel = self._packed(commit, have)
        with pack.open("wb") as file:
            file.write(parcel.first)
            while (at := file.tell()) < parcel.size:
                part = self._ask(commit, partial(self._depot.more, parcel.key, at))
                if not part:
                    return False  # nobody there remembers it: from the beginning
                file.write(part)
        return True

    def _packed(self, commit: CommitId, have: tuple[CommitId, ...]) -> Parcel:
        """Ask for a pack until it is made."""
        give_up_at = time.monotonic() + PACKED_S
        ask = partial(self._depot.bundle, commit, have)
        while isinstance(parcel := self._ask(commit, ask), Packing):
            if time.monotonic() >= give_up_at:
                raise CodeAway(f"the head has been packing commit {commit[:10]} for too long")
        if parcel is None:
            raise LookupError(f"the head has no commit {commit}")
        return parcel

    def _ask(self, commit: CommitId, call: Callable[[], T]) -> T:
        """Ask the head until it answers; raises CodeAway if it is silent for too long."""
        began = time.monotonic()
        while True:
            try:
                told = call()
            except ConnectionError as error:
                silent_s = time.monotonic() - began
                if silent_s >= self._silent_s:
                    self._missed = commit
                if silent_s >= self._patience_s:
                    raise CodeAway(f"the head does not answer: {error}") from error
            else:
                self._missed = None
                return told
            time.sleep(RETRY_S)
