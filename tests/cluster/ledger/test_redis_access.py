"""Passwords, users and TLS of a Redis of one's own, and what is said of a mistake in them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from cluster.ledger import redis_url
from cluster.ledger.ledger import Emptied, LedgerAway
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_problems import COMMANDS, acl
from cluster.ledger.redis_store import RedisStore, WrongServer, check_server, connect, translated
from cluster.queue.redis_queue import RedisTrialQueue
from cluster.state import events as ev
from tests.cluster.redis_tls import TlsServer, certificates, tls
from tests.cluster.redis_user import PASSWORD, restricted

__all__ = ["certificates", "tls"]  # the fixtures

PAUSE = ev.Draft(id="a", at=datetime(2026, 3, 1, tzinfo=UTC), event=ev.PauseRequested())


def refused(url: str, kind: type[Exception] | tuple[type[Exception], ...] = WrongServer) -> str:
    """Return what is said of a server that cannot be used."""
    client = connect(url, patience_s=0.5, answer_s=2.0)
    with pytest.raises(kind) as problem:
        check_server(client, url)
    client.close()
    text = str(problem.value)
    assert PASSWORD not in text
    assert "\n" not in text
    return text


# --- passwords and users -------------------------------------------------------------------------


@pytest.fixture
def user_url(server_url: str) -> str:
    return restricted(server_url)


def test_a_user_with_the_documented_rights_is_let_in(user_url: str) -> None:
    client = connect(user_url)
    check_server(client, user_url)
    client.close()


def test_a_wrong_password_is_one_line_that_shows_none(user_url: str) -> None:
    said = refused(user_url.replace(PASSWORD, f"{PASSWORD}-not"))
    assert said.endswith("refuses the user or the password in [cluster] redis")
    assert "incumbent:***@" in said


def test_a_missing_password_is_asked_for(server_url: str) -> None:
    admin = connect(server_url)
    admin.execute_command("ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}")
    own = server_url.replace("unix://", f"unix://default:{PASSWORD}@")
    try:
        assert "asks for a password: write redis://USER:PASSWORD@HOST" in refused(server_url)
    finally:
        again = connect(own)
        again.execute_command("ACL", "SETUSER", "default", "nopass")
        again.close()
        admin.close()


@pytest.mark.parametrize(("command", "act"), [("hset", "mode"), ("xrange", "read")])
def test_a_right_that_is_missing_is_named(server_url: str, command: str, act: str) -> None:
    url = restricted(server_url, user=f"without-{command}")
    admin = connect(server_url)
    admin.execute_command("ACL", "SETUSER", f"without-{command}", f"-{command}")
    store = RedisStore(connect(url), "rights")
    with pytest.raises(WrongServer) as problem:
        RedisLedger(store).read(0) if act == "read" else store.run("mode", "", "open", "mode")
    said = str(problem.value)
    assert "does not let its user run" in said
    assert "docs/configuration.md has the whole ACL line" in said
    if act == "read":
        assert "give it +xrange" in said
    admin.execute_command("ACL", "DELUSER", f"without-{command}")
    admin.close()


def test_keys_that_are_out_of_reach_are_named(server_url: str) -> None:
    url = restricted(server_url, user="elsewhere")
    admin = connect(server_url)
    admin.execute_command("ACL", "SETUSER", "elsewhere", "resetkeys", "~other:*")
    with pytest.raises(WrongServer, match=r"keys incumbent:\*: give it ~incumbent:\*"):
        RedisLedger(RedisStore(connect(url), "rights")).read(0)
    admin.execute_command("ACL", "DELUSER", "elsewhere")
    admin.close()


def test_the_user_can_do_nothing_else(user_url: str) -> None:
    client = connect(user_url)
    for command in (["FLUSHALL"], ["CONFIG", "GET", "*"], ["KEYS", "*"], ["GET", "other"]):
        with pytest.raises(Exception, match=r"no permissions|No permissions"):
            client.execute_command(*command)
    client.close()


def test_the_docs_have_the_line_that_makes_the_user() -> None:
    page = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert f"ACL SETUSER {acl()}" in " ".join(page.read_text("utf-8").split())
    assert len(set(COMMANDS)) == len(COMMANDS)


def test_a_password_may_lie_in_a_file_of_its_own(server_url: str, tmp_path: Path) -> None:
    restricted(server_url)
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o600)
    url = server_url.replace("unix://", "unix://incumbent@") + f"?db=0&password_file={file}"
    client = connect(url)
    assert client.ping()
    client.close()
    file.chmod(0o644)
    with pytest.raises(WrongServer, match="can be read by others: chmod 600"):
        connect(url)
    file.unlink()
    with pytest.raises(WrongServer, match="cannot be read"):
        connect(url)


def test_a_server_that_would_throw_the_ledger_away_is_refused(server_url: str) -> None:
    admin = connect(server_url)
    admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "throws keys away when its memory is full (allkeys-lru)" in refused(server_url)
    finally:
        admin.config_set("maxmemory-policy", "noeviction")
        admin.close()


@pytest.mark.parametrize(
    ("spoil", "mend", "words"),
    [
        (["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"], "used memory > 'maxmemory'"),
        (["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"], "read only replica"),
        (
            ["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"],
            ["CONFIG SET replica-serve-stale-data yes", "REPLICAOF NO ONE"],
            "Link with MASTER is down",
        ),
        (
            ["CONFIG SET min-replicas-to-write 1"],
            ["CONFIG SET min-replicas-to-write 0"],
            "Not enough good replicas",
        ),
    ],
    ids=["full", "replica", "cut-off", "alone"],
)
def test_a_server_that_takes_no_writes_is_away(
    server_url: str, study_id: str, spoil: list[str], mend: list[str], words: str
) -> None:
    admin = connect(server_url)
    store = RedisStore(connect(server_url), study_id)
    ledger = RedisLedger(store)
    epoch = ledger.begin_epoch()
    for line in spoil:
        admin.execute_command(*line.split())
    try:
        with pytest.raises(LedgerAway, match=f"takes no writes: .*{words}"):
            ledger.append([PAUSE], epoch=epoch)
    finally:
        for line in mend:
            admin.execute_command(*line.split())
        admin.close()
    assert ledger.append([PAUSE], epoch=epoch) == 1
    store.client.close()


def test_a_replica_that_is_cut_off_is_away_to_who_reads_several_keys_at_once(
    server_url: str, study_id: str
) -> None:
    admin = connect(server_url)
    store = RedisStore(connect(server_url), study_id)
    admin.config_set("replica-serve-stale-data", "no")
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(LedgerAway, match="Link with MASTER is down"):
            RedisTrialQueue(store).depth()
        with pytest.raises(LedgerAway, match="Link with MASTER is down"):
            RedisTrialQueue(store).held()
    finally:
        admin.execute_command("REPLICAOF", "NO", "ONE")
        admin.config_set("replica-serve-stale-data", "yes")
        admin.close()
    store.client.close()


@pytest.mark.parametrize(
    "answer",
    [
        # As Redis 6.2 puts it, and redis-py hands it on.
        "Error running script (call to f_2a): @user_script:3: @user_script: 3: -MISCONF Errors",
        "Error running script (call to f_2a): @user_script:3: @user_script: 3: -OOM command not",
        "Command # 1 (ZCARD incumbent:{a}:ready) of pipeline caused error: BUSY Valkey is busy",
    ],
)
def test_why_a_server_takes_no_writes_may_stand_in_the_middle(answer: str) -> None:
    with pytest.raises(LedgerAway, match="takes no writes"), translated():
        raise ResponseError(answer)


def test_what_a_script_does_wrong_is_not_taken_for_an_outage() -> None:
    answer = "Error running script (call to f_2a): @user_script:3: attempt to index a nil value"
    with pytest.raises(ResponseError), translated():
        raise ResponseError(answer)


def test_a_ledger_that_was_lost_under_a_controller_is_told_from_a_takeover(
    server_url: str, study_id: str
) -> None:
    store = RedisStore(connect(server_url), study_id)
    ledger = RedisLedger(store)
    epoch = ledger.begin_epoch()
    store.client.delete(*store.keys)
    with pytest.raises(Emptied, match="`incumbent rebuild`"):
        ledger.append([], epoch=epoch)


# --- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("host:6379", "is not the URL of a server, e.g. redis://host:6379/0"),
        ("http://host", "is not the URL of a server"),
        ("redis://host:port", "is not the URL of a server"),
        ("redis://", "is not the URL of a server"),
        ("redis://u:p/w@host", "%2F"),
        ("redis://host/zero", "is not the URL of a server"),
        ("rediss://host?ssl_ca_cert=/ca.pem", "has the parameter 'ssl_ca_cert': only db,"),
        ("redis://host?password=x", "has the parameter 'password'"),
        ("redis://host?ssl_ca_certs=/ca.pem", "has ssl_ca_certs, but no TLS: write rediss://"),
        ("rediss://host?ssl_ca_certs=ca.pem", "give its whole path, beginning with /"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_with_the_cure(url: str, words: str) -> None:
    assert words in redis_url.problem(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://:pass@host:6379/3",
        "rediss://user:p%40ss@[::1]:6380/0?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
        "unix:///run/redis.sock?db=2",
        "unix://user:pass@/run/redis.sock",
        "redis://user@host?password_file=/run/secret",
    ],
)
def test_a_url_that_can_be_meant_is_taken(url: str) -> None:
    assert redis_url.problem(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:{0}@host",
        "redis://:{0}@host",
        "redis://user:a@{0}@host",
        "redis://user:a/{0}@host:1/0",
        "rediss://user:{0}@host?ssl_ca_certs=/a@b",
        "redis://host?password={0}&db=1",
    ],
)
def test_no_form_of_a_password_is_shown(url: str) -> None:
    assert "hush" not in redis_url.shown(url.format("hush"))


# --- TLS -----------------------------------------------------------------------------------------


def test_a_ledger_is_kept_over_tls(tls: TlsServer, study_id: str) -> None:
    for url in (
        tls.url(ssl_ca_certs="ca.pem"),
        tls.url(
            port=tls.strict, ssl_ca_certs="ca.pem", ssl_certfile="own.pem", ssl_keyfile="own.key"
        ),
    ):
        assert redis_url.problem(url) == ""
        client = connect(url)
        check_server(client, url)
        ledger = RedisLedger(RedisStore(client, study_id))
        assert ledger.append([], epoch=ledger.begin_epoch()) == 0
        client.close()


def test_each_mistake_of_tls_has_its_cure(tls: TlsServer) -> None:
    said = refused(tls.url())
    assert "nobody vouches for: add ?ssl_ca_certs=/PATH/OF/CA.pem" in said
    said = refused(tls.url(host="127.0.0.1", ssl_ca_certs="ca.pem"))
    assert "certificate for another host" in said
    # It depends on who is quicker whether its reason is heard, or only that it hangs up.
    said = refused(tls.url(port=tls.strict, ssl_ca_certs="ca.pem"), (WrongServer, LedgerAway))
    assert "asks for a certificate of ours: add ssl_certfile=/PATH" in said
    said = refused(tls.url(ssl_ca_certs="missing.pem"))
    assert f"names {tls.folder / 'missing.pem'} for ssl_ca_certs, which cannot be read" in said
    said = refused(tls.url(ssl_ca_certs="names"))
    assert "holds no certificate" in said
    said = refused(tls.url(port=tls.plain, ssl_ca_certs="ca.pem"), LedgerAway)
    assert "(so does a port without TLS: for that write redis://)" in said
    said = refused(f"redis://localhost:{tls.tls}", LedgerAway)
    assert "(so does a port with TLS: for that write rediss://)" in said


def test_another_server_knows_the_user_too(tls: TlsServer, study_id: str) -> None:
    admin = connect(f"redis://localhost:{tls.plain}")
    admin.execute_command("ACL", "SETUSER", *acl("incumbent", PASSWORD).split())
    url = tls.url(ssl_ca_certs="ca.pem").replace("//", f"//incumbent:{PASSWORD}@", 1)
    client = connect(url)
    check_server(client, url)
    ledger = RedisLedger(RedisStore(client, study_id))
    assert ledger.append([], epoch=ledger.begin_epoch()) == 0
    assert not ledger.wait(0, 0.01)
    for each in (client, admin):
        each.close()
    assert "refuses the user or the password" in refused(url.replace(PASSWORD, "wrong"))
