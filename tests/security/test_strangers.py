"""A machine on the network without the study's token reads nothing, submits nothing, runs nothing.

The machines are namespaces (tests.chaos.machines): a head that listens, a node that has joined, and
the stranger's. Every port is asked everything, without a token and with a wrong one; with the right
one the same questions are answered, so that a refusal means something.
"""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from cluster.ledger.ledger import LedgerAway
from cluster.state.state import StudyState
from tests.chaos.machines import PREFIX, PROGRAM, ROOT, Machine, Rack, obstacle
from tests.chaos.study import Study
from tests.security.strangers import Finding, Port, table

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there are machines"),
]
HERE = Path(__file__).parents[2]
WRONG = "0" * 64
JOIN = """
import ray, sys
ray.init(address=sys.argv[1], logging_level="critical", log_to_driver=False)
print("IN", ray.nodes())
"""
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def is_let_in(place):
    try:
        socket.create_connection(place, 2).close()
    except OSError:
        return False
    return True
asked = [tuple(place) for place in json.load(sys.stdin)]
print(json.dumps(list(ThreadPoolExecutor(50).map(is_let_in, asked))))
"""
ABROAD = "10.99.0"


class Place:
    """A study of two machines, and a stranger."""

    def __init__(self, rack: Rack) -> None:
        self.head, self.node = rack.add("head"), rack.add("node1")
        self.stranger = rack.add("stranger")
        self.study = Study(head=self.head, experiments=100_000, slots=1, seconds=2.0, listens=True)
        self.study.create()
        self.study.start()
        self.wait(lambda state: state.judged >= 1)
        self.study.join(self.node)
        self.wait(lambda state: state.open_slots == 2)

    @property
    def token(self) -> str:
        """The study's token, which the stranger does not have."""
        path = self.study.outside(self.study.home.directory / "ray.token")
        return path.read_text().strip()

    def state(self) -> StudyState:
        with suppress(LedgerAway):
            return self.study.state()
        return StudyState()

    def wait(self, condition: Callable[[StudyState], bool], seconds: float = 150) -> None:
        deadline = time.monotonic() + seconds
        while not condition(self.state()):
            assert time.monotonic() < deadline, self.study.logs()
            time.sleep(0.2)

    def run_stranger(self, *words: str, stdin: str = "", **variables: str) -> tuple[int, str]:
        """Run Python on the stranger's machine; return its exit code and what it said."""
        done = self.stranger.run(
            sys.executable, *words, folder=HERE, stdin=stdin, variables=variables, timeout_s=280
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Rack(tmp_path_factory.mktemp("strangers")) as rack:
        made = Place(rack)
        yield made
        made.study.give_up()


def listening(machine: Machine) -> list[Port]:
    """Return all TCP ports on which a machine listens, those for itself alone included."""
    found = []
    for line in machine.run("ss", "-Hltnp").stdout.splitlines():
        owner = re.search(r'"([^"]+)"', line)
        port = int(line.split()[3].rpartition(":")[2])
        name = owner[1] if owner else "?"
        found.append(Port(machine=machine.name, address=machine.address, port=port, owner=name))
    return found


def test_nobody_without_the_token_gets_anything_from_any_port(place: Place) -> None:
    ports = [*listening(place.head), *listening(place.node)]
    tokens = {"none": "", "wrong": WRONG, "right": place.token}
    asked = json.dumps({"ports": [asdict(port) for port in ports], "tokens": tokens})
    code, said = place.run_stranger("-m", "tests.security.strangers", stdin=asked)
    assert code == 0, said
    findings = [Finding(**{**each, "port": Port(**each["port"])}) for each in json.loads(said)]
    print(table(findings))
    let_in = [each for each in findings if each.token != "right" and each.gave.endswith("answers")]
    assert not let_in, "\n".join(f"{each.port}: {[*each.calls, *each.pages]}" for each in let_in)
    # What is asked would be answered: else a refusal would mean nothing.
    owners = {each.port.owner.partition(":")[0] for each in findings if each.is_reached}
    assert owners >= {"gcs_server", "raylet", "ray"}
    reached = [each for each in findings if each.token == "right" and each.is_reached]
    assert [each.port for each in reached if not each.gave.endswith("answers")] == []
    assert not any(each.redis for each in findings)
    before = place.state().judged
    place.wait(lambda state: state.judged > before)  # all those calls have done it no harm


@pytest.mark.parametrize("token", ["", WRONG])
def test_a_stranger_cannot_join_rays_cluster(place: Place, token: str) -> None:
    variables = {"RAY_AUTH_MODE": "disabled"}
    if token:
        place.stranger.outside("token").write_text(token)
        variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(ROOT / "token")}
    code, said = place.run_stranger("-c", JOIN, place.study.reach, **variables)
    assert code != 0
    assert "IN" not in said.split()


def test_a_stranger_cannot_join_the_study(place: Place) -> None:
    place.stranger.outside("token").write_text(WRONG)
    done = place.stranger.run(
        str(PROGRAM), "join", place.study.reach, "--token-file", str(ROOT / "token")
    )
    assert done.returncode == 1
    assert "token" in done.stderr
    assert "Traceback" not in done.stderr
    assert set(place.state().nodes) <= {"head", "node1"}


@pytest.mark.skipif(not shutil.which("nft"), reason="there is no nft")
def test_behind_the_rules_of_doctor_a_study_goes_on_and_other_networks_reach_nothing(
    place: Place,
) -> None:
    abroad(place)
    firewalls = {each.name: firewall_of(each) for each in (place.head, place.node)}
    assert reached(place) >= {("head", "gcs_server"), ("head", "raylet"), ("node1", "raylet")}
    try:
        for machine in (place.head, place.node):
            type_in(machine, firewalls[machine.name]["nft"])
        assert not reached(place)
        left = place.node.run(str(PROGRAM), "leave", "--now")
        assert left.returncode == 0, left.stderr
        place.wait(lambda state: state.open_slots == 1)
        place.wait(lambda state: state.open_slots == 2)  # and joins again, from behind it
        before = len(trials_of(place.state(), "node1"))
        place.wait(lambda state: len(trials_of(state, "node1")) > before + 1)
    finally:
        for machine in (place.head, place.node):
            type_in(machine, firewalls[machine.name]["nft_undo"])
    assert reached(place)


def abroad(place: Place) -> None:
    """Give the stranger an address in another network, by which all its connections come."""
    there = f"{ABROAD}.9"
    type_in(place.stranger, [f"ip address add {there}/24 dev eth0"])
    type_in(place.stranger, [f"ip route replace {PREFIX}0/24 dev eth0 src {there}"])
    for machine in (place.head, place.node):
        type_in(machine, [f"ip route add {ABROAD}.0/24 dev eth0"])


def firewall_of(machine: Machine) -> dict[str, list[str]]:
    """Return the rules that doctor says on a machine."""
    said = json.loads(machine.run(str(PROGRAM), "doctor", "--json").stdout)
    [found] = said["studies"] or said["joined"]
    rules: dict[str, list[str]] = found["firewall"]
    return rules


def type_in(machine: Machine, lines: list[str]) -> None:
    """Do what is said, as root, who needs no sudo."""
    for line in lines:
        done = machine.run("sh", "-c", line.removeprefix("sudo "))
        assert done.returncode == 0, f"{line}: {done.stderr}"


def reached(place: Place) -> set[tuple[str, str]]:
    """Return whose ports, on which machine, the stranger can connect to."""
    ports = [port for each in (place.head, place.node) for port in listening(each)]
    asked = json.dumps([(port.address, port.port) for port in ports])
    code, said = place.run_stranger("-c", CONNECT, stdin=asked)
    assert code == 0, said
    let_in = json.loads(said)
    return {(port.machine, port.owner) for port, is_in in zip(ports, let_in, strict=True) if is_in}


def trials_of(state: StudyState, node: str) -> list[str]:
    """Return the trials that were started on a node."""
    found = [trial for each in state.experiments.values() for trial in each.trials]
    return [trial.id for trial in found if trial.slot.startswith(f"{node}/")]


def test_redis_listens_on_no_port(place: Place) -> None:
    assert place.head.find("valkey-server")
    assert not [port for port in listening(place.head) if "valkey" in port.owner]
