"""Which ports of a study are guarded by what, and a firewall for exactly these.

The tables are what a Ray that listens (`run --listen`, Ray 2.60) had open on a head and on a node.
"""

import json
import os
import shutil
import subprocess

import pytest

from infra.doctor import Report
from infra.listeners import JoinedStudy, Listener, subnet_of
from infra.ports import Guard, firewall, role_of
from tests.infra.test_doctor import EVERYWHERE

HEAD = [
    Listener(process="gcs_server", pid=11, address="::", port=7700),
    Listener(process="monitor.py", pid=12, address=EVERYWHERE, port=43403),
    Listener(process="raylet", pid=13, address="::", port=35091),
    Listener(process="raylet", pid=13, address="::", port=40539),
    Listener(process="ray::RuntimeEnvAgent", pid=14, address="10.88.0.1", port=34693),
    Listener(process="ray::QueueActor", pid=15, address="::", port=14885),
    Listener(process="fleet", pid=16, address="::", port=19490),
    Listener(process="controller", pid=17, address="127.0.0.1", port=9187),
    Listener(process="redis", pid=18, address="/run/redis.sock"),
]
SUBNET = "10.88.0.0/24"


def test_all_ports_of_ray_ask_for_the_token_but_those_that_tell_numbers() -> None:
    guards = {(each.process, each.port): role_of(each).guard for each in HEAD}
    open_to_all = {process for (process, _), guard in guards.items() if guard is Guard.NOTHING}
    assert open_to_all == {"monitor.py", "controller"}
    assert guards["redis", 0] is Guard.MODE
    assert role_of(Listener(process="python", pid=1, address="::", port=1)).guard is Guard.UNKNOWN


def test_nodes_are_let_to_the_ports_that_they_need_and_nobody_to_the_rest() -> None:
    found = firewall(HEAD, SUBNET)
    assert found is not None
    assert list(found.nodes) == ["7700", "35091", "40539", "10002-19999"]
    assert list(found.closed) == ["34693", "43403"]


def test_a_study_that_listens_to_nobody_needs_no_firewall() -> None:
    assert firewall([each for each in HEAD if not each.is_reachable], SUBNET) is None
    assert firewall(HEAD, "") is None


def test_ufw_is_told_to_allow_before_it_is_told_to_deny() -> None:
    found = firewall(HEAD, SUBNET)
    assert found is not None
    assert found.ufw() == [
        "sudo ufw allow proto tcp from 10.88.0.0/24 to any port 7700,35091,40539,10002:19999",
        "sudo ufw deny proto tcp to any port 7700,35091,40539,10002:19999,34693,43403",
    ]


def test_a_rule_of_ufw_holds_fifteen_ports_at_most() -> None:
    many = [Listener(process="raylet", pid=1, address="::", port=2000 + n) for n in range(20)]
    found = firewall(many, SUBNET)
    assert found is not None
    allowed = [line.rpartition(" ")[2] for line in found.ufw() if " allow " in line]
    sizes = [sum(2 if ":" in port else 1 for port in ports.split(",")) for ports in allowed]
    assert sizes == [15, 7]


def test_rules_for_addresses_of_six_and_of_four_differ_in_a_word() -> None:
    six = firewall(HEAD, "fd00::/64")
    assert six is not None
    assert any("ip6 saddr fd00::/64" in line for line in six.nft())


@pytest.mark.skipif(not shutil.which("nft") or os.geteuid() != 0, reason="needs nft and root")
def test_nft_takes_the_rules() -> None:
    found = firewall(HEAD, SUBNET)
    assert found is not None
    rules = "\n".join(line.split("'")[1] for line in found.nft())
    done = subprocess.run(
        ["nft", "--check", "--file", "-"], input=rules, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_subnet_is_that_of_the_address_that_is_listened_at() -> None:
    assert subnet_of("127.0.0.1") == "127.0.0.0/8"
    assert subnet_of("192.0.2.77") == ""


def test_what_a_joined_machine_opens_is_told_with_its_guards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infra.doctor.address_towards", lambda _host, _port: "10.88.0.2")
    monkeypatch.setattr("infra.doctor.subnet_of", lambda _: SUBNET)
    listeners = [
        Listener(process="raylet", pid=21, address="::", port=33333),
        Listener(process="ray::RuntimeEnvAgent", pid=22, address="10.88.0.2", port=33334),
        Listener(process="driver", pid=23, address="::", port=10005),
    ]
    joined = JoinedStudy(head="10.88.0.1:7700", node="rig2", pid=20, listeners=listeners)
    report = Report(checks={}, studies=[], advice=[], joined=[joined])
    text = "\n".join(report.lines())
    assert "joined to 10.88.0.1:7700 as rig2, process 20" in text
    assert "guard: token (Ray's node and objects)" in text
    [facts] = json.loads(json.dumps(report.facts()))["joined"]
    assert facts["firewall"]["ports_for_nodes"] == ["33333", "10002-19999"]
    assert facts["firewall"]["ports_for_nobody"] == ["33334"]
    assert [each["guard"] for each in facts["listeners"]] == ["token"] * 3
