"""Makes attempts in several worlds at once, in each of them one after the other.

An attempt waits for the kernel more than it computes, and what happens in one world is no business
of another's. So each world has a thread that goes ahead of the tests, which then hear what came of
it. Knows the order; does not know what an attempt tries, nor when it is stopped.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import pytest

from tests.security.attempt import Attempt, Boundary
from tests.security.runner import Runner, bare, confined
from tests.security.world import a_world
from trainer.environment import EnvironmentFailed

PLAIN_USER = 61184 + os.getpid() % 1024
"""Nobody's, and no other run's on this machine: an attempt that succeeds may kill all of a user."""


class Place(StrEnum):
    """Where attempts are made, and by whose worker."""

    ROOT = "root"  # in the sandbox, by a worker of root's
    USER = "user"  # in the sandbox, by a worker of a plain user's
    BARE = "bare"  # without a sandbox, by a worker of whoever runs the tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attempt in one world, and what is to be so afterwards."""

    place: Place
    attempt: Attempt | Boundary
    check: Callable[[Runner, Attempt | Boundary], None]
    """Makes the attempt; raises AssertionError, or what pytest.skip raises."""

    def __str__(self) -> str:
        return f"{self.place}-{self.attempt.name}"


class Campaign:
    """Many cases, all begun at once; each is waited for by its test."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._worlds: dict[Place, _World] = {}
        self._results: dict[str, Future[None]] = {}
        for case in cases:
            world = self._worlds.setdefault(case.place, _World(case.place))
            self._results[_name(case)] = world.thread.submit(world.make, case)

    def result(self, case: Case) -> None:
        """Wait until the case was made; raises what its check raised."""
        self._results[_name(case)].result()

    def close(self) -> None:
        """Make no more attempts, and take the worlds down."""
        for world in self._worlds.values():
            world.thread.shutdown(wait=False, cancel_futures=True)
        for world in self._worlds.values():
            world.thread.shutdown()
            world.stack.close()


def _name(case: Case) -> str:
    return f"{case.check.__name__}-{case}"


@dataclass(slots=True)
class _World:
    """A world that is built when its first attempt is made, and the thread that makes them all."""

    place: Place
    stack: ExitStack = field(default_factory=ExitStack)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _runner: Runner | None = None

    def make(self, case: Case) -> None:
        if self._runner is None:
            self._runner = self.stack.enter_context(_runner(self.place))
        try:
            case.check(self._runner, case.attempt)
        finally:
            self._runner.clear()


@contextmanager
def _runner(place: Place) -> Iterator[Runner]:
    own = os.geteuid()
    if place is Place.ROOT and own != 0:
        pytest.skip("only root can be root")
    with (
        a_world(PLAIN_USER if place is Place.USER and own == 0 else own) as world,
        ExitStack() as stack,
    ):
        try:
            runner = stack.enter_context(bare(world) if place is Place.BARE else confined(world))
        except EnvironmentFailed as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        yield runner
