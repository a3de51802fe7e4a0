"""Shared by all tests: a private home, and a real server."""

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.embedded_server import EmbeddedServer
from infra.local.home import StudyHome

_FOR_TESTS = {"INCUMBENT_REDUCER_EXAMPLES"}
for _name in [name for name in os.environ if name.startswith("INCUMBENT_")]:
    if _name not in _FOR_TESTS:
        del os.environ[_name]


@pytest.fixture(scope="session")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> StudyHome:
    directory = tmp_path_factory.mktemp("server")
    home = StudyHome(name="tests", repository=directory, directory=directory / "study")
    home.create()
    return home


@pytest.fixture(scope="session")
def server_url(server_home: StudyHome) -> Iterator[str]:
    """A real Valkey server, one for the whole session."""
    server = EmbeddedServer(server_home)
    client = server.ensure()
    yield server.url
    client.shutdown(nosave=True)
    client.close()


@pytest.fixture
def study_id() -> str:
    """A name of its own for each test in the shared server."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def incumbent_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory and lock directory of the test's own."""
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("INCUMBENT_LOCK_DIR", str(tmp_path / "locks"))
    return tmp_path / "state"


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock on the wall nine hours ahead of UTC."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()
