"""Where a study lets machines join it: at an address of this machine, and a port that is free."""

import json
import socket
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config import StudyConfig
from infra.cli.cmd_run import _warn_of_changes
from infra.cli.main import spelled_out
from infra.local.home import StudyHome, StudyProblem
from infra.local.settings import save_settings
from infra.processes.listening import FIRST_PORT, LAST_PORT, ListenProblem, join_words, placed
from tests.chaos.machines import Rack, obstacle
from tests.infra.user import CONFIG, TRAIN, USAGE, User, left_behind

OWN = "127.0.0.2"
"""Of this machine, and of no other: what a test may bind, though no study would be let to."""
OWN_ADDRESS = "from infra.processes.listening import _own_address; print(_own_address())"


@pytest.fixture
def loopback_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.processes.listening._is_useless", lambda _: False)


@pytest.fixture
def home(tmp_path: Path, loopback_will_do: None, monkeypatch: pytest.MonkeyPatch) -> StudyHome:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path / "state"))
    home = StudyHome.locate(tmp_path, "mar5")
    home.create()
    return home


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as held:
        held.bind((OWN, 0))
        held.listen()
        yield held.getsockname()[1]


def config(listen: str, address: str = "") -> StudyConfig:
    facts = tomllib.loads(f'{CONFIG}[cluster]\nlisten = "{listen}"\naddress = "{address}"\n')
    return StudyConfig.model_validate_json(json.dumps(facts))


def where(listen: str, home: StudyHome) -> tuple[str, int]:
    host, _, port = placed(config(listen), home).cluster.listen.rpartition(":")
    return host, int(port)


def test_nothing_listens_unless_it_is_asked_for(home: StudyHome) -> None:
    assert placed(config(""), home) == config("")


def test_a_port_is_found_for_an_address(home: StudyHome) -> None:
    host, port = where(OWN, home)
    assert host == OWN
    assert FIRST_PORT <= port <= LAST_PORT


def test_without_an_address_it_is_the_one_by_which_the_machine_reaches_the_world(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def towards(host: str) -> str:
        asked.append(host)
        return OWN

    monkeypatch.setattr("infra.processes.listening.address_towards", towards)
    assert where("auto", home)[0] == OWN
    assert asked == ["192.0.2.1"], "that is nobody's, and so the way there is the default route"


@pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there are machines")
def test_of_several_addresses_that_of_the_default_route_is_taken(tmp_path: Path) -> None:
    with Rack(tmp_path / "outputs") as rack:
        machine = rack.add("head")
        for line in (
            "link add lan type bridge",
            "address add 10.9.0.1/24 dev lan",
            "link set lan up",
        ):
            assert machine.run("ip", *line.split()).returncode == 0
        found = machine.run(sys.executable, "-Ic", OWN_ADDRESS)
        assert found.stdout == f"{machine.address}\n", found.stderr
        assert machine.run("ip", "route", "del", "default").returncode == 0
        found = machine.run(sys.executable, "-Ic", OWN_ADDRESS)
        assert found.stdout.strip() in {machine.address, "10.9.0.1"}, found.stderr


def test_a_port_at_which_machines_know_another_study_is_left_to_that(
    home: StudyHome, tmp_path: Path
) -> None:
    first = where(OWN, home)[1]
    other = StudyHome.locate(tmp_path, "other")
    other.create()
    save_settings(other, placed(config(f"{OWN}:{first}"), other))
    assert where(OWN, home)[1] > first
    assert where(OWN, other)[1] == first


def test_a_port_that_is_named_is_taken_or_refused(home: StudyHome, taken: int) -> None:
    assert where(f"{OWN}:17431", home) == (OWN, 17431)
    with pytest.raises(StudyProblem, match=f"port {taken} at {OWN} is taken: say --listen"):
        placed(config(f"{OWN}:{taken}"), home)


def test_a_study_keeps_its_port_for_machines_that_know_it(home: StudyHome, taken: int) -> None:
    save_settings(home, placed(config(f"{OWN}:17432"), home))
    assert where(OWN, home) == (OWN, 17432)
    save_settings(home, config(f"{OWN}:{taken}"))
    assert where(OWN, home)[1] != taken


@pytest.fixture
def left(home: StudyHome) -> Iterator[int]:
    """The port of a Ray of the study whose controller was killed."""
    with left_behind(home, OWN) as port:
        yield port


def test_a_study_whose_controller_was_killed_goes_on_with_the_ray_that_machines_joined(
    home: StudyHome, left: int
) -> None:
    save_settings(home, placed(config(f"{OWN}:{left}"), home))
    assert where(OWN, home) == (OWN, left)
    assert where(f"{OWN}:{left}", home) == (OWN, left)


def test_a_port_that_a_study_had_before_and_others_have_now_is_given_up(
    home: StudyHome, left: int
) -> None:
    save_settings(home, placed(config(f"{OWN}:{left}"), home))
    (home.directory / "ray.json").unlink()
    assert where(OWN, home)[1] != left


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        ("192.0.2.77", "no address of this machine"),
        (f"{OWN}:seven", "seven is no port"),
        (f"{OWN}:", "nothing is no port"),
        (f"{OWN}:70000", "70000 is no port"),
        ("no.such.host.invalid", "there is no host no.such.host.invalid"),
        ("fd00::1", "fd00::1 is an IPv6 address, and machines join by IPv4 alone"),
        ("[fd00::1]:7700", "is an IPv6 address, and machines join by IPv4 alone"),
        ("six.example", "six.example has addresses of IPv6 alone"),
    ],
)
def test_what_cannot_be_listened_at_is_said(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch, listen: str, reason: str
) -> None:
    if listen == "six.example":
        found = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 0, 0, 0))
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [found])
    with pytest.raises(ListenProblem, match=reason):
        placed(config(listen), home)


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0:7700"])
def test_an_address_that_others_cannot_come_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: str
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    with pytest.raises(ListenProblem, match="need an address to come to"):
        placed(config(listen), StudyHome.locate(tmp_path, "mar5"))


def test_a_machine_that_others_reach_by_six_alone_cannot_listen(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_route(_: str) -> str:
        raise OSError

    monkeypatch.setattr("infra.processes.listening.address_towards", no_route)
    monkeypatch.setattr("infra.processes.listening.outside_interfaces", lambda: {"eth0": "fd00::1"})
    with pytest.raises(StudyProblem, match="this machine has no IPv4 address that others"):
        placed(config("auto"), home)


def test_a_ray_that_is_joined_is_not_joined_by_others(home: StudyHome) -> None:
    with pytest.raises(ListenProblem, match="leave one of them out"):
        placed(config(OWN, address="10.0.0.5:6379"), home)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--listen=",), "--listen= names no address"),
        (("--listen", "10.77.0.1"), "if it is the address to listen at, say --listen=10.77.0.1"),
        (("--listen=127.0.0.1",), "--listen=127.0.0.1: other machines need an address"),
    ],
)
def test_an_option_that_cannot_be_meant_is_a_matter_of_usage(
    tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    user = User.at(tmp_path)
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    assert reason in user.refused(USAGE, "run", *words)
    assert not user.has_study()


def test_what_to_type_elsewhere_is_said_of_a_study_that_listens(home: StudyHome) -> None:
    assert join_words(home) == ""
    save_settings(home, config(""))
    assert join_words(home) == ""
    save_settings(home, config(f"{OWN}:7700"))
    assert f"incumbent join {OWN}:7700 " in join_words(home)
    assert str(home.ray_token) in join_words(home)


@pytest.mark.parametrize(
    ("before", "wanted", "said"),
    [
        ("", "10.0.0.5:7700", "lets no machine join: `incumbent stop`, then `incumbent run --li"),
        ("10.0.0.5:7700", "10.0.0.5:7701", "listens at 10.0.0.5:7700, and not at 10.0.0.5:7701"),
        ("10.0.0.5:7700", "10.0.0.5:7700", ""),
        ("10.0.0.5:7700", "", ""),
    ],
)
def test_a_study_that_runs_cannot_begin_to_listen(
    before: str, wanted: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _warn_of_changes(config(before), config(wanted))
    printed = capsys.readouterr().err
    assert said in printed
    assert "cluster" not in printed
    assert bool(printed) == bool(said)


def test_the_option_may_go_without_a_value() -> None:
    assert spelled_out(["run", "--listen", "."]) == ["run", "--listen=auto", "."]
    assert spelled_out(["run", "--listen=10.0.0.5"]) == ["run", "--listen=10.0.0.5"]
