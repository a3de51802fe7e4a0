"""The worlds in which attempts are made, and who makes them there."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum

import pytest

from tests.security.runner import Runner, bare, confined
from tests.security.world import a_world
from trainer.environment import EnvironmentFailed

PLAIN_USER = 61184 + os.getpid() % 1024
"""Nobody's, and no other run's on this machine: an attempt that succeeds may kill all of a user."""


class Who(StrEnum):
    """Who runs the worker."""

    ROOT = "root"
    USER = "user"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sandbox" in metafunc.fixturenames:
        metafunc.parametrize("_confined", list(Who), indirect=True, scope="session")


@pytest.fixture(scope="session")
def _confined(request: pytest.FixtureRequest) -> Iterator[Runner]:
    own = os.geteuid()
    if request.param is Who.ROOT and own != 0:
        pytest.skip("only root can be root")
    uid = PLAIN_USER if request.param is Who.USER and own == 0 else own
    with a_world(uid) as world, ExitStack() as stack:
        try:
            runner = stack.enter_context(confined(world))
        except EnvironmentFailed as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        yield runner


@pytest.fixture(scope="session")
def _bare() -> Iterator[Runner]:
    with a_world(os.geteuid()) as world, bare(world) as runner:
        yield runner


@pytest.fixture
def sandbox(_confined: Runner) -> Iterator[Runner]:
    """Runs attempts in a sandbox, by a worker of root's or of a plain user's."""
    yield _confined
    _confined.clear()


@pytest.fixture
def no_sandbox(_bare: Runner) -> Iterator[Runner]:
    """Runs attempts without a sandbox, by a worker of whoever runs the tests."""
    yield _bare
    _bare.clear()
