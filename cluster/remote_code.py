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
from typing import Any, TypeVar

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
ASK_AGAIN_S = 60.0


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
        self._coming: dict[str, Future[Any]] = {}
        self._ask_again_at = 0.0

    def fetch(self, commit: CommitId, *, is_ahead: bool = False) -> Path:
        """See CodeSource; raises GitError besides, of a commit that cannot be taken in."""
        if not self._repository.has(commit):
            patience_s = self._patience_s if self._repository.has_base() else WHOLE_S
            self._wait(
                f"commit {commit[:10]} is still on its way from the head",
                self._begin(commit, partial(self._bring, commit)),
                self._ahead_s if is_ahead else patience_s,
            )
        return self._repository.path

    def promoted(self) -> frozenset[ExperimentId]:
        """See CodeSource; a head that did not answer is not asked again for a while."""
        if time.monotonic() < self._ask_again_at:
            raise CodeAway("the head did not answer a moment ago")
        self._ask_again_at = time.monotonic() + ASK_AGAIN_S
        told = self._wait("the head does not answer", self._begin("", self._ask_promoted), AHEAD_S)
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

    def _begin(self, key: str, act: Callable[[], T]) -> "Future[T]":
        """Do something in a thread, unless one is at it already."""
        with self._lock:
            coming = self._coming.get(key)
            if coming is None:
                coming = self._coming[key] = Future()
                threading.Thread(target=self._work, args=(key, act), daemon=True).start()
            return coming

    def _work(self, key: str, act: Callable[[], object]) -> None:
        told, problem = None, None
        try:
            told = act()
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            problem = error
        with self._lock:
            coming = self._coming.pop(key)
        if problem is None:
            coming.set_result(told)
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
