"""Machines that join a running study, work for it, are refused, are drained, and leave."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.state.experiment import Status
from cluster.state.node_state import NodeStatus
from tests.chaos.machines import PROGRAM, ROOT, Command, Machine, Rack, obstacle
from tests.chaos.study import Study

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "there are machines"),
]
JOINED_S = 30.0
"""How soon the slots of a machine that needs no preparation take trials."""
TOKEN = ROOT / "home" / "token"
SLOW = "test ! -e /mnt/home/broken && { test ! -e /mnt/home/slow || sleep 300; }"
SETUP = f"setup = '''sh -c \"{SLOW}\"'''\n"
KEEP = "[keep]\ndisk_gb = 0.001\n"
"""More than the trials here leave, and less than what is put beside them."""
MANY = 100_000


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with Rack(tmp_path_factory.mktemp("rack")) as made:
        yield made


@pytest.fixture(scope="module")
def study(rack: Rack) -> Iterator[Study]:
    """A study without end on a machine that others may join."""
    study = Study(head=rack.add("head"), experiments=MANY, listens=True, slots=1)
    study.create()
    config = study.outside(ROOT / "research" / "incumbent.toml")
    config.write_text(config.read_text().replace("[trial]\n", f"{KEEP}[trial]\n{SETUP}"))
    study.start()
    wait(lambda: study.outside(study.home.directory / "ray.token").exists(), "a token")
    wait(lambda: study.state().open_slots, "a slot of the head")
    yield study
    study.give_up()
    study.incumbent("stop", "--now")


def wait(condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


def join(study: Study, node: Machine, *words: str) -> Command:
    """Have a machine join with the study's token."""
    token = study.outside(study.home.directory / "ray.token").read_text()
    node.outside("home/token").write_text(token)
    node.outside("home/token").chmod(0o600)
    return node.start(str(PROGRAM), "join", study.reach, "--token-file", str(TOKEN), *words)


def trials_of(study: Study, node: str) -> list[str]:
    """Return the trials that were started on a node."""
    state = study.state()
    found = [trial for e in state.experiments.values() for trial in e.trials]
    return [trial.id for trial in found if trial.slot.startswith(f"{node}/")]


def test_a_machine_that_joins_works_within_seconds_and_leaves_when_it_has_finished(
    study: Study, rack: Rack
) -> None:
    node = rack.add("rig")
    began = time.monotonic()
    joined = join(study, node, "--slots", "2")
    wait(lambda: len(trials_of(study, "rig")) >= 4, "trials on the node")
    assert time.monotonic() - began < JOINED_S + 30  # what is beyond is this machine's load
    slots = study.state().slots.values()
    assert {slot.slot for slot in slots if slot.node == "rig"} == {"rig/cpu-0", "rig/cpu-1"}
    assert not study.outside(Path("/mnt/state/nodes")).exists()
    node.run(str(PROGRAM), "leave", timeout_s=60)
    wait(lambda: joined.process.poll() is not None, "the node to leave")
    assert joined.wait(0) == 0
    state = study.state()
    assert state.nodes["rig"].status is NodeStatus.LEFT
    assert not any(slot.is_open for slot in state.slots.values() if slot.node == "rig")
    assert not any(e.losses for e in state.experiments.values()), "to leave is to finish what runs"
    assert not node.find("python"), node.processes()


def test_a_machine_works_for_two_studies_of_one_name_and_leaves_one(
    study: Study, rack: Rack
) -> None:
    """Both are called the same, in repositories at the same path: so are their ids."""
    other = Study(head=rack.add("head2"), experiments=MANY, listens=True, slots=1)
    other.create()
    other.start()
    wait(lambda: other.outside(other.home.directory / "ray.token").exists(), "a token")
    wait(lambda: other.state().open_slots, "a slot of the other head")
    node = rack.add("shared")
    for each, slots in ((study, "1"), (other, "2")):  # what the first leaves is one
        join(each, node, "--slots", slots)
        wait(lambda each=each: trials_of(each, "shared"), "a trial on the node")
    wait(lambda: len(open_slots(study)) + len(open_slots(other)) == 2, "both slots")
    assert open_slots(study).isdisjoint(open_slots(other))
    joined = json.loads(node.run(str(PROGRAM), "ls", "--json").stdout)["joined"]
    assert {each["head"] for each in joined} == {study.reach, other.reach}
    assert node.run(str(PROGRAM), "leave", timeout_s=60).returncode == 2, "which of them?"
    left = node.run(str(PROGRAM), "leave", study.reach, timeout_s=60)
    assert left.returncode == 0, left.stderr
    before = len(trials_of(other, "shared"))
    wait(lambda: len(trials_of(other, "shared")) > before + 2, "more of the other's trials")
    lost = [e.id for e in other.state().experiments.values() if e.losses]
    assert not lost, "what one study ends is its own"
    node.run(str(PROGRAM), "leave", timeout_s=60)
    other.give_up()
    other.incumbent("stop", "--now")
    assert not node.processes()


def open_slots(study: Study) -> set[str]:
    """Return the slots of the machine that two studies share which this one has."""
    slots = study.state().slots.values()
    return {slot.slot for slot in slots if slot.node == "shared" and slot.is_open and not slot.note}


def test_who_has_another_token_is_refused_and_does_not_keep_it(study: Study, rack: Rack) -> None:
    node = rack.add("stranger")
    node.outside("home/token").write_text("0" * 64)
    done = node.run(str(PROGRAM), "join", study.reach, "--token-file", str(TOKEN), timeout_s=60)
    assert done.returncode == 1
    assert f"the study at {study.reach} does not take this token" in done.stderr
    assert not list(node.outside("state/nodes").glob("*/ray.token"))
    assert "stranger" not in study.state().nodes


def test_a_machine_that_cannot_be_made_ready_is_refused_on_both_sides(
    study: Study, rack: Rack
) -> None:
    node = rack.add("broken")
    node.outside("home/broken").write_text("")
    joined = join(study, node)
    assert joined.wait(60) == 1
    assert "error: " in joined.output
    assert "test ! -e" in joined.output
    wait(lambda: "broken" in study.state().nodes, "word of the refusal")
    known = study.state().nodes["broken"]
    assert known.status is NodeStatus.REFUSED
    assert "test ! -e" in known.reason
    assert not trials_of(study, "broken")
    assert not node.find("ray"), "nothing of it is left"


def test_a_second_machine_of_a_name_is_told_to_take_another_and_one_is_drained_by_name(
    study: Study, rack: Rack
) -> None:
    first, second = rack.add("first"), rack.add("second")
    joined = join(study, first, "--name", "twin", "--detach", "--json")
    assert joined.wait(90) == 0, joined.output
    assert json.loads(joined.output)["standing"] == "joined"
    wait(lambda: "starting Ray" not in refused(study, second), "word before minutes are spent")
    wait(lambda: f"twin@{second.address}" in study.state().nodes, "word of the refusal")
    wait(lambda: trials_of(study, "twin"), "a trial of the first")
    assert "twin" in study.incumbent("nodes")
    study.incumbent("drain", "twin")
    wait(lambda: not first.find("infra.processes.node_process"), "the drained node to go")
    assert study.state().nodes["twin"].status is NodeStatus.LEFT
    (reports,) = first.outside("state/nodes").glob("*/reports.jsonl")
    kinds = [json.loads(line)["kind"] for line in reports.read_text().splitlines()]
    assert kinds[-3:] == ["joined", "leaving", "left"]


def refused(study: Study, node: Machine) -> str:
    """Join under a name that is taken; return what was said."""
    late = join(study, node, "--name", "twin")
    assert late.wait(90) == 1, late.output
    assert "has a node twin already" in late.output
    assert "--name" in late.output
    return late.output


def test_a_node_process_that_was_killed_leaves_nothing_and_its_machine_joins_again(
    study: Study, rack: Rack
) -> None:
    node = rack.add("killed")
    join(study, node)
    wait(lambda: trials_of(study, "killed"), "a trial on the node")
    (keeper,) = node.find("infra.processes.node_process import main")
    node.signal(keeper.pid)
    wait(lambda: not node.processes(), "the rest to go")
    node.power_off()  # and before anybody misses it
    node.boot()
    joined = join(study, node)
    before = len(trials_of(study, "killed"))
    wait(lambda: len(trials_of(study, "killed")) > before, "a trial after that")
    assert joined.process.poll() is None, joined.output
    node.run(str(PROGRAM), "leave", "--now", timeout_s=60)


def test_who_joins_makes_room_of_what_earlier_studies_left(study: Study, rack: Rack) -> None:
    node = rack.add("attic")
    join_and_leave(study, node)
    (own,) = node.outside("state/nodes").glob("*/study-*")
    left = own.with_name("study-0123456789")
    (left / "out").mkdir(parents=True)
    (left / "out" / "model").write_bytes(b"x" * 2_000_000)
    join_and_leave(study, node)
    assert not left.exists()
    assert own.exists()
    said = own.with_name("reports.jsonl").read_text()
    assert "removed what an earlier study left, see [keep] disk_gb" in said


def join_and_leave(study: Study, node: Machine) -> None:
    before = len(trials_of(study, node.name))
    joined = join(study, node)
    wait(lambda: len(trials_of(study, node.name)) > before, "a trial on the node")
    node.run(str(PROGRAM), "leave", timeout_s=60)
    wait(lambda: joined.process.poll() is not None, "the node to leave")


def test_who_leaves_while_the_machine_is_made_ready_does_not_wait_for_that(
    study: Study, rack: Rack
) -> None:
    node = rack.add("slow")
    node.outside("home/slow").write_text("")
    joined = join(study, node)
    wait(lambda: node.find("sleep 300"), "the set-up")
    node.run(str(PROGRAM), "leave", timeout_s=60)
    assert joined.wait(10) == 0, joined.output
    assert not node.processes()


def test_nodes_stay_with_a_study_whose_controller_was_killed(study: Study, rack: Rack) -> None:
    node = rack.add("loyal")
    joined = join(study, node)
    wait(lambda: trials_of(study, "loyal"), "a trial on the node")
    epoch = study.state().epoch
    (controller,) = study.head.find("infra.processes.controller_main")
    study.head.signal(controller.pid)
    wait(lambda: study.state().epoch > epoch, "another controller")
    before = len(trials_of(study, "loyal"))
    wait(lambda: len(trials_of(study, "loyal")) > before + 2, "more trials")
    assert joined.output.count("has joined") == 1
    node.run(str(PROGRAM), "leave", "--now", timeout_s=60)


def test_a_machine_leaves_a_study_whose_controller_does_nothing(study: Study, rack: Rack) -> None:
    node = rack.add("free")
    joined = join(study, node)
    wait(lambda: trials_of(study, "free"), "a trial on the node")
    (controller,) = study.head.find("infra.processes.controller_main")
    study.head.signal(controller.pid, "STOP")
    try:
        left = node.run(str(PROGRAM), "leave", timeout_s=60)
        assert left.returncode == 0, left.stderr
        assert "finishing what runs" in left.stderr
        assert joined.wait(10) == 0, joined.output
    finally:
        study.head.signal(controller.pid, "CONT")
    wait(lambda: study.state().nodes["free"].status is NodeStatus.LEFT, "word that it has left")
    assert not any(e.losses for e in study.state().experiments.values())
    assert not list(node.outside("state/nodes").glob("*/study-*/unsent/*")), "all is handed in"


def test_a_machine_whose_cable_was_cut_leaves_all_the_same(study: Study, rack: Rack) -> None:
    node = rack.add("alone")
    joined = join(study, node)
    wait(lambda: trials_of(study, "alone"), "a trial on the node")
    node.cut()
    try:
        left = node.run(str(PROGRAM), "leave", timeout_s=110)
        assert left.returncode == 0, left.stderr
        assert joined.wait(10) == 0, joined.output
        assert not node.find("ray"), node.processes()
    finally:
        node.heal()


def opened(machine: Machine) -> tuple[object, set[int]]:
    """Return the rules that doctor prints on a machine, and what can be reached beside them."""
    said = json.loads(machine.run(str(PROGRAM), "doctor", "--json", timeout_s=60).stdout)
    [found] = said["studies"] or said["joined"]
    rules = found["firewall"]
    named: set[int] = set()
    for ports in (*rules["ports_for_nodes"], *rules["ports_for_nobody"]):
        low, _, high = ports.partition("-")
        named.update(range(int(low), int(high or low) + 1))
    reached = {each["port"] for each in found["listeners"] if each["is_reachable"]}
    assert reached
    return rules, reached - named


def test_a_head_that_comes_back_is_joined_again_and_both_have_the_ports_that_they_had(
    study: Study, rack: Rack
) -> None:
    node = rack.add("patient")
    join(study, node)
    wait(lambda: trials_of(study, "patient"), "a trial on the node")
    head_had, node_had = opened(study.head), opened(node)
    assert head_had[1] == node_had[1] == set(), "all that can be reached is in the rules"
    (raylet, *_) = study.head.find("raylet/raylet")
    (node_raylet, *_) = node.find("raylet/raylet")
    study.head.signal(raylet.pid)
    before = len(trials_of(study, "patient"))
    wait(lambda: len(trials_of(study, "patient")) > before + 2, "more of them", 180.0)
    blamed = [e for e in study.state().experiments.values() if e.status is Status.CRASHED]
    assert not blamed, "a head's death is no experiment's fault"
    assert node_raylet.pid not in {each.pid for each in node.find("raylet/raylet")}
    assert opened(study.head) == head_had
    assert opened(node) == node_had
    node.run(str(PROGRAM), "leave", "--now", timeout_s=60)
    join(study, node)
    before = len(trials_of(study, "patient"))
    wait(lambda: len(trials_of(study, "patient")) > before, "a trial after that")
    assert opened(node) == node_had
    node.run(str(PROGRAM), "leave", "--now", timeout_s=60)


def test_a_stop_is_told_to_nodes_and_looks_like_no_fault(study: Study, rack: Rack) -> None:
    node = rack.add("waiting")
    joined = join(study, node, "--slots", "3")
    wait(lambda: trials_of(study, "waiting"), "a trial on the node")
    study.incumbent("stop")
    wait(lambda: f"waiting for {study.reach}: the study has stopped" in joined.output, "word of it")
    study.go_on()
    wait(lambda: joined.output.count("has joined") == 2, "it to join again", 180.0)
    told = joined.output.splitlines()
    stopped = next(n for n, line in enumerate(told) if "the study has stopped" in line)
    assert told[stopped - 1] == f"waiting has joined {study.reach} with 3 slots"
    assert told[stopped + 1] == "starting Ray"
    node.run(str(PROGRAM), "leave", "--now", timeout_s=60)
