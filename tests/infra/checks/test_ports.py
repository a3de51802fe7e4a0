"""Which ports of a study are guarded by what, and a firewall for exactly these.

The tables are what a Ray that listens (`run --listen`, Ray 2.60) had open on a head and on a node.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.nodes.ray_ports import RayPorts
from infra.checks.doctor import Report
from infra.checks.listeners import JoinedStudy, Listener, subnet_of
from infra.checks.ports import Firewall, Guard, firewall, role_of
from tests.infra.checks.test_doctor import EVERYWHERE

HEAD = [
    Listener(process="gcs_server", pid=11, address="::", port=7700),
    Listener(process="monitor.py", pid=12, address=EVERYWHERE, port=43403),
    Listener(process="raylet", pid=13, address="::", port=12004),
    Listener(process="raylet", pid=13, address="::", port=12005),
    Listener(process="ray::RuntimeEnvAgent", pid=14, address="10.88.0.1", port=12000),
    Listener(process="ray::QueueActor", pid=15, address="::", port=12085),
    Listener(process="fleet", pid=16, address="::", port=12490),
    Listener(process="controller", pid=17, address="127.0.0.1", port=9187),
    Listener(process="redis", pid=18, address="/run/redis.sock"),
]
SUBNET = "10.88.0.0/24"
BLOCK = RayPorts(12000)


def rules(
    listeners: Sequence[Listener] = HEAD,
    subnet: str = SUBNET,
    table: str = "incumbent-head-mar5-12345678",
    ports: RayPorts | None = BLOCK,
) -> Firewall:
    found = firewall(listeners, subnet, table=table, ports=ports)
    assert found is not None
    return found


def test_all_ports_of_ray_ask_for_the_token_but_those_that_tell_numbers() -> None:
    guards = {(each.process, each.port): role_of(each).guard for each in HEAD}
    open_to_all = {process for (process, _), guard in guards.items() if guard is Guard.NOTHING}
    assert open_to_all == {"monitor.py", "controller"}
    assert guards["redis", 0] is Guard.MODE
    assert role_of(Listener(process="python", pid=1, address="::", port=1)).guard is Guard.UNKNOWN


def test_nodes_are_let_to_the_ports_that_they_need_and_nobody_to_the_rest() -> None:
    assert list(rules().nodes) == ["7700", "12004-12499"]
    assert list(rules().closed) == ["43403", "12000-12003"]


def test_a_ray_that_chose_its_ports_itself_is_told_by_what_is_open() -> None:
    assert list(rules(ports=None).nodes) == ["7700", "12004", "12005", "12085", "12490"]


def test_a_study_that_listens_to_nobody_needs_no_firewall() -> None:
    lonely = [each for each in HEAD if not each.is_reachable]
    assert firewall(lonely, SUBNET, table="t", ports=None) is None
    assert firewall(HEAD, "", table="t", ports=None) is None


def test_ufw_is_told_to_allow_before_it_is_told_to_deny_and_how_to_undo_both() -> None:
    allow = "allow proto tcp from 10.88.0.0/24 to any port 7700,12004:12499"
    deny = "deny proto tcp to any port 7700,12004:12499,43403,12000:12003"
    assert rules().ufw() == [f"sudo ufw {allow}", f"sudo ufw {deny}"]
    assert rules().ufw_undo() == [f"sudo ufw delete {allow}", f"sudo ufw delete {deny}"]


def test_a_rule_of_ufw_holds_fifteen_ports_at_most() -> None:
    many = [Listener(process="raylet", pid=1, address="::", port=2000 + n) for n in range(20)]
    allowed = [line.rpartition(" ")[2] for line in rules(many).ufw() if " allow " in line]
    sizes = [sum(2 if ":" in port else 1 for port in ports.split(",")) for ports in allowed]
    assert sizes == [15, 7]


def test_rules_for_addresses_of_six_and_of_four_differ_in_a_word() -> None:
    assert any("ip6 saddr fd00::/64" in line for line in rules(subnet="fd00::/64").nft())


def nft(commands: Sequence[str]) -> str:
    """Give commands to the kernel of a machine without a network; return all its rules then."""
    lines = "".join(line.split("'")[1] + "\n" for line in commands)
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", "nft --file - && nft list ruleset"],
        input=lines,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("nft") or os.geteuid() != 0, reason="needs nft and root")
def test_rules_of_two_studies_stand_beside_each_other_and_go_one_by_one() -> None:
    raylet = Listener(process="raylet", pid=1, address="::", port=12504)
    head, node = rules(), rules([raylet], table="incumbent-node-12", ports=RayPorts(12500))
    for_head, for_node = "{ 7700, 12004-12499 } accept", "12504-12999 accept"
    both = nft([*head.nft(), *node.nft(), *head.nft()])
    assert (both.count(for_head), both.count(for_node)) == (1, 1), both
    left = nft([*head.nft(), *node.nft(), *head.nft_undo()])
    assert (left.count(for_head), left.count(for_node)) == (0, 1), left


def test_the_subnet_is_that_of_the_address_that_is_listened_at() -> None:
    assert subnet_of("127.0.0.1") == "127.0.0.0/8"
    assert subnet_of("192.0.2.77") == ""


def test_what_a_joined_machine_opens_is_told_with_its_guards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("infra.checks.doctor.address_towards", lambda _host, _port: "10.88.0.2")
    monkeypatch.setattr("infra.checks.doctor.subnet_of", lambda _: SUBNET)
    listeners = [
        Listener(process="raylet", pid=21, address="::", port=15504),
        Listener(process="ray::RuntimeEnvAgent", pid=22, address="10.88.0.2", port=15500),
        Listener(process="driver", pid=23, address="::", port=15600),
    ]
    RayPorts(15500).keep_in(tmp_path)
    joined = JoinedStudy(
        head="10.88.0.1:7700", node="rig2", pid=20, directory=tmp_path, listeners=listeners
    )
    report = Report(checks={}, studies=[], advice=[], joined=[joined])
    text = "\n".join(report.lines())
    assert "joined to 10.88.0.1:7700 as rig2, process 20" in text
    assert "guard: token (Ray's node and objects)" in text
    [facts] = json.loads(json.dumps(report.facts()))["joined"]
    assert facts["firewall"]["ports_for_nodes"] == ["15504-15999"]
    assert facts["firewall"]["ports_for_nobody"] == ["15500-15503"]
    assert f"table inet incumbent-node-{tmp_path.name}" in facts["firewall"]["nft"][0]
    assert [each["guard"] for each in facts["listeners"]] == ["token"] * 3
