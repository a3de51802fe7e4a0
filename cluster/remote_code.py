"""Brings commits from the head to a node, once for all of its slots.

Knows how long to go on asking. Does not know Ray, nor what is in a pack. A commit is fetched in a
thread of its own, which goes on when whoever wanted it has lost patience: who asks again later
finds it, or waits for the same thread.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning
from functools import partial
from pathlib import Path
from typing import TypeVar

from cluster.depot import Depot
from cluster.node_repository import NodeRepository
from trainer.git_command import GitError
from trainer.ports import CodeAway
from trainer.trial import CommitId, ExperimentId

T = TypeVar("T")
MOST_BEGINNINGS = 3
PATIENCE_S = 20.0
"""How long a trial that was leased waits for its code; a lease lasts longer than that."""
WHOLE_S = 3600.0
"""How long to wait for all of a repository; nobody has leased anything by then."""
AHEAD_S = 1.0
"""How long a running trial's next heartbeat may be held up by what is prepared for later."""
RETRY_S = 0.5


class RemoteCode:
    """trainer.ports.CodeSource on a node that does not hold the study's repository."""

    def __init__(
        self,
        depot: Depot,
        repository: NodeRepository,
        *,
        patience_s: float = PATIENCE_S,
        ahead_s: float = AHEAD_S,
    ) -> None:
        """`patience_s` bounds how long `fetch` takes, and how long the head may be silent.

        The first that a node fetches is all of the repository, for which it waits for longer.
        """
        self._depot = depot
        self._repository = repository
        self._patience_s = patience_s
        self._ahead_s = ahead_s
        self._lock = threading.Lock()
        self._coming: dict[CommitId, Future[None]] = {}

    def fetch(self, commit: CommitId, *, is_ahead: bool = False) -> Path:
        """See CodeSource; raises GitError besides, of a commit that cannot be taken in."""
        if not self._repository.has(commit):
            patience_s = self._patience_s if self._repository.has_base() else WHOLE_S
            try:
                self._begin(commit).result(self._ahead_s if is_ahead else patience_s)
            except StillRunning:
                raise CodeAway(f"commit {commit[:10]} is still on its way from the head") from None
        return self._repository.path

    def promoted(self) -> frozenset[ExperimentId]:
        """See CodeSource."""
        try:
            return frozenset(self._depot.promoted())
        except ConnectionError as error:
            raise CodeAway(f"the head does not answer: {error}") from error

    def _begin(self, commit: CommitId) -> Future[None]:
        with self._lock:
            coming = self._coming.get(commit)
            if coming is None:
                coming = self._coming[commit] = Future()
                threading.Thread(target=self._work, args=(commit, coming), daemon=True).start()
            return coming

    def _work(self, commit: CommitId, coming: Future[None]) -> None:
        try:
            self._bring(commit)
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            problem: BaseException | None = error
        else:
            problem = None
        with self._lock:
            del self._coming[commit]
        if problem is None:
            coming.set_result(None)
        else:
            coming.set_exception(problem)

    def _bring(self, commit: CommitId) -> None:
        repository = self._repository
        with repository.held():
            if repository.has(commit):  # another slot has brought it meanwhile
                return
            have = repository.newest()
            try:
                self._take(commit, have)
            except GitError:
                if not have:
                    raise
                self._take(commit, ())  # something that it rests on is not here after all
            repository.prune()

    def _take(self, commit: CommitId, have: tuple[CommitId, ...]) -> None:
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=self._repository.path) as scratch:
            pack = Path(scratch, "pack")
            if not any(self._receive(commit, have, pack) for _ in range(MOST_BEGINNINGS)):
                raise CodeAway(f"the head does not come to the end of commit {commit[:10]}")
            self._repository.take(commit, pack)

    def _receive(self, commit: CommitId, have: tuple[CommitId, ...], pack: Path) -> bool:
        """Write what the head sends to `pack`; say whether that is all of it."""
        parcel = self._ask(partial(self._depot.bundle, commit, have))
        if parcel is None:
            raise LookupError(f"the head has no commit {commit}")
        with pack.open("wb") as file:
            file.write(parcel.first)
            while (at := file.tell()) < parcel.size:
                part = self._ask(partial(self._depot.more, parcel.key, at))
                if not part:
                    return False  # nobody there remembers it: from the beginning
                file.write(part)
        return True

    def _ask(self, call: Callable[[], T]) -> T:
        """Ask the head until it answers; raises CodeAway if it is silent for too long."""
        give_up_at = time.monotonic() + self._patience_s
        while True:
            try:
                return call()
            except ConnectionError as error:
                if time.monotonic() >= give_up_at:
                    raise CodeAway(f"the head does not answer: {error}") from error
            time.sleep(RETRY_S)
