"""Servers that are not there, or too old, and ledgers of newer versions."""

import json
import os
import signal
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from cluster.ledger.schema import SCHEMA_VERSION
from cluster.state import events as ev
from infra.local.embedded_server import EmbeddedServer
from infra.local.study import opened
from tests.infra.researchers import researcher, studied, user
from tests.infra.study_factory import Study
from tests.infra.user import CONFIG, FAILURE, USAGE, User

__all__ = ["researcher", "studied", "user"]  # fixtures


def with_redis(user: User, url: str) -> None:
    user.write({"incumbent.toml": f'{CONFIG}[cluster]\nredis = "{url}"\n'})


def test_a_redis_that_is_not_there(researcher: User) -> None:
    with_redis(researcher, "redis://127.0.0.1:1/0")
    said = researcher.refused(FAILURE, "run")
    assert "redis://127.0.0.1:1/0 does not answer" in said


def test_a_study_is_still_found_after_its_configuration_named_a_redis_that_is_not_there(
    studied: User,
) -> None:
    with_redis(studied, "redis://127.0.0.1:1/0")
    studied.refused(FAILURE, "run")
    assert "1 submitted" in studied.done("status")


def test_a_redis_address_that_is_no_url(researcher: User) -> None:
    with_redis(researcher, "localhost:6379")
    said = researcher.refused(USAGE, "run")
    assert "[cluster] redis" in said
    assert "redis://host:6379/0" in said


def test_a_redis_with_the_study_of_another_machine_whose_repository_has_the_same_path(
    researcher: User, server_url: str
) -> None:
    with_redis(researcher, server_url)
    researcher.done("submit", "--set", "LR=0.3")
    with opened(researcher.home) as study:
        ours = study.state()
    state = researcher.folder.parent / "of another machine"
    other = replace(researcher, variables={**researcher.variables, "INCUMBENT_HOME": str(state)})
    for refs in other.git("for-each-ref", "--format=%(refname)", "refs/incumbent").split():
        other.git("update-ref", "-d", refs)  # its own clone has none
    for words in (("submit", "--set", "LR=0.4"), ("run", "--sandbox", "none")):
        said = other.refused(FAILURE, *words)
        assert f"holds a study mar5 of a repository at {researcher.folder}" in said
        assert "give [study] name another name" in said
    assert not list(state.glob("studies/*"))
    with opened(researcher.home) as study:
        assert study.state() == ours


class _OldRedis(socketserver.StreamRequestHandler):
    """Speaks as much of the protocol as it takes to say that it is Redis 5."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                self.rfile.readline()  # the word's length
                words.append(self.rfile.readline().strip().upper())
            if words[0] == b"INFO":
                text = b"# Server\r\nredis_version:5.0.0\r\n"
                self.wfile.write(b"$%d\r\n%s\r\n" % (len(text), text))
            else:
                self.wfile.write(b"+PONG\r\n" if words[0] == b"PING" else b"+OK\r\n")


@contextmanager
def old_redis() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OldRedis) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()


def test_a_redis_that_is_too_old(researcher: User) -> None:
    with old_redis() as url:
        with_redis(researcher, url)
        said = researcher.refused(FAILURE, "run")
    assert "is Redis 5.0.0" in said
    assert "needs 6.2 or newer" in said


def test_the_socket_of_a_server_that_was_killed(studied: User) -> None:
    server = EmbeddedServer(studied.home)
    client = server.ensure()
    os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
    client.close()
    assert server.socket.exists()
    facts = json.loads(studied.done("status", "--json"))
    assert facts["study"] == "mar5"
    assert facts["phase"] == "stopped"


def test_a_study_directory_of_a_newer_version(studied: User) -> None:
    path = studied.home.directory / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    said = studied.refused(FAILURE, "run")
    assert "was written by a newer Incumbent (schema 99" in said
    assert "update Incumbent" in said
    assert "newer Incumbent (schema 99" in studied.refused(FAILURE, "status")


@pytest.mark.parametrize("key", ["events", "snapshot"])
def test_a_ledger_of_a_newer_version(studied: User, key: str) -> None:
    payload = json.dumps({"v": SCHEMA_VERSION + 1, "what": "who knows"})
    with opened(studied.home) as study:
        if key == "events":
            study.client.xadd(study.store.key("events"), {"e": payload}, id="1000-0")
        else:
            study.client.set(study.store.key("snapshot"), payload)
    for verb in ("status", "run"):
        said = studied.refused(FAILURE, verb)
        assert f"was written by a newer Incumbent (schema {SCHEMA_VERSION + 1}" in said


def test_a_ledger_that_has_lost_what_was_between_two_events(studied: User) -> None:
    told = Study(slots=1)
    told.baseline(1.0)
    told.propose("what only e0 can be followed by")
    last = told.events[-1]
    with opened(studied.home) as study:
        study.ledger.append([ev.Draft(id="later", at=last.at, event=last.event)])
    for verb in ("status", "run"):
        said = studied.refused(FAILURE, verb)
        assert "e1 cannot follow 0 experiments" in said
        assert "`incumbent rebuild`" in said
