"""The ports of a Ray that others reach: chosen once, the same ever after, nobody else's."""

import socket
from pathlib import Path

import pytest

from cluster.nodes.ray_cluster import PrivateRay
from cluster.nodes.ray_ports import FIRST, LAST, SIZE, RayPorts
from infra.local.home import StudyHome, StudyProblem
from infra.local.node_home import NodeHome, NodeStatus, Standing
from infra.local.port_blocks import reserve
from infra.processes.listening import ray_of
from infra.processes.node_process import NodeProcess
from tests.infra.user import left_behind


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path / "state"))
    return tmp_path


def study(state: Path, name: str) -> StudyHome:
    home = StudyHome.locate(state, name)
    home.create()
    return home


def of(home: StudyHome, listens_at: int = 0) -> tuple[RayPorts, str]:
    told = reserve(home.directory, ray_of(home), listens_at=listens_at)
    found = RayPorts.kept_in(home.directory)
    assert found is not None
    return found, told


def few(monkeypatch: pytest.MonkeyPatch, many: int) -> list[RayPorts]:
    """Have so many blocks and no more."""
    monkeypatch.setattr("infra.local.port_blocks.LAST", FIRST + many * SIZE - 1)
    return [RayPorts(FIRST + n * SIZE) for n in range(many)]


def test_a_study_has_the_same_ports_ever_after(state: Path) -> None:
    home = study(state, "mar5")
    first, told = of(home)
    assert FIRST <= first.first <= first.last <= LAST
    assert told == ""
    assert {of(home) for _ in range(5)} == {(first, "")}


def test_studies_and_memberships_of_a_machine_have_different_ports(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = few(monkeypatch, 3)
    found = [of(study(state, name))[0] for name in ("one", "two")]
    node = NodeHome.locate("127.0.0.1:9")
    node.create()
    with node.held():
        node.write_status(NodeStatus(head=node.head, node="a", pid=1, standing=Standing.JOINED))
    NodeProcess(node, node="a", slots=0)._reserve_ports()
    of_node = RayPorts.kept_in(node.directory)
    assert {*found, of_node} == set(blocks)
    assert of(study(state, "late"))[0] in blocks, "rather than to have none"


def test_who_finds_its_ports_taken_has_others_and_says_so(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = study(state, "mar5")
    few(monkeypatch, 2)
    before, _ = of(home)
    with socket.create_server(("127.0.0.1", before.fixed[-1])):
        after, told = of(home)
        assert after != before
        assert told == (
            f"ports of Ray among {before.first}-{before.last} are taken: from now on it has "
            f"{after.first}-{after.last}; `incumbent doctor` prints a firewall's new rules"
        )
        assert of(home) == (after, "")


def test_a_ray_that_was_left_behind_keeps_its_ports(state: Path) -> None:
    home = study(state, "mar5")
    before, _ = of(home)
    with left_behind(home, "127.0.0.1", before.fixed[-1]):
        assert of(home) == (before, "")
    with socket.create_server(("127.0.0.1", before.fixed[-1])):
        assert of(home)[0] != before


def test_a_port_at_which_the_study_listens_is_not_given_twice(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = study(state, "mar5")
    low, high = few(monkeypatch, 2)
    assert of(home, listens_at=low.first + 100)[0] == high
    after, told = of(home, listens_at=high.last)
    assert after == low
    assert told


def test_a_machine_without_ports_to_spare_says_so(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = study(state, "mar5")
    (only,) = few(monkeypatch, 1)
    with (
        socket.create_server(("127.0.0.1", only.first)),
        pytest.raises(StudyProblem, match="needs 500 ports in a row"),
    ):
        reserve(home.directory, ray_of(home))
    assert RayPorts.kept_in(home.directory) is None


def test_ray_is_told_each_port_once() -> None:
    block = RayPorts(12000)
    named = dict(option.split("=") for option in block.options())
    low, high = int(named.pop("--min-worker-port")), int(named.pop("--max-worker-port"))
    assert sorted(map(int, named.values())) == list(block.fixed)
    assert (low, high) == (block.fixed.stop, block.last)
    assert [*block.agents, *block.for_nodes] == list(range(block.first, block.last + 1))


def test_a_ray_of_this_machine_alone_is_told_none(state: Path) -> None:
    home = study(state, "mar5")
    of(home)

    def options(**where: str) -> str:
        folders = {"runtime": home.runtime(), "directory": home.directory, "empty": home.empty}
        return " ".join(PrivateRay(**folders, **where)._command())

    assert "--node-manager-port" not in options()
    assert "--node-manager-port" in options(listen="10.0.0.5:7700")
    assert "--node-manager-port" in options(head="10.0.0.5:7700 1-2")
