"""What the driver of a node does before it knows Ray: its slots, its orders, what a board says."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import AuthenticationError

from cluster.ledger.codec import to_json
from cluster.nodes.board import Board, BoardAway, StudyStopped, WrongToken
from cluster.nodes.driver import Orders
from cluster.nodes.node import ANYWAY_S, ASKED_S, REFUSED, NotLetGo, _be, unanswered
from cluster.nodes.node_settings import NodeSettings
from cluster.nodes.ray_cluster import RayFailed
from cluster.nodes.readiness import cpu_slots, slots_asked, study_folder
from cluster.queue.brief import Brief, Refusal, Terms, Versions
from eval.metric import Goal, Metric

TRIAL = {"command": "python train.py", "budget_s": 5.0}


@pytest.mark.parametrize("gpus", [1.0, 0.5])
def test_a_node_brings_all_of_its_cards_however_few_cores_it_has(gpus: float) -> None:
    assert slots_asked(0, {**TRIAL, "gpus": gpus}) == 0
    assert slots_asked(3, {**TRIAL, "gpus": gpus}) == 3


def test_a_node_brings_half_its_cores_as_cpu_slots_unless_told() -> None:
    assert slots_asked(0, {**TRIAL, "gpus": 0.0}) == cpu_slots()
    assert slots_asked(3, {**TRIAL, "gpus": 0.0}) == 3


def test_studies_that_follow_one_another_at_one_address_do_not_share_a_folder(
    tmp_path: Path,
) -> None:
    base = "c" * 40
    folder = study_folder(tmp_path, "mar5-12345678", base)
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert study_folder(tmp_path, "mar5-12345678", base) == folder
    assert study_folder(tmp_path, "mar5-87654321", base) != folder
    assert study_folder(tmp_path, "mar5-12345678", "d" * 40) != folder


def test_a_study_that_does_not_let_a_node_go_is_waited_for_with_a_word_and_not_for_ever() -> None:
    assert not unanswered(ASKED_S)
    assert "`leave --now`" in unanswered(ASKED_S + 1)
    with pytest.raises(NotLetGo, match="given back"):
        unanswered(ANYWAY_S + 1)


BUSY = """
import time
from cluster.nodes.driver import BrokenOff, Orders
orders = Orders().start()
try:
    print("busy", flush=True)
    time.sleep(60)
except BrokenOff:
    print("broken off", orders.next(5), flush=True)
    time.sleep(0.5)  # not again, whatever comes
    print("then", orders.next(5), flush=True)
"""
PATIENT = """
from cluster.nodes.driver import Orders
orders = Orders()
orders.be_patient()
orders.start()
print("busy", flush=True)
while (order := orders.next(5)) != "":
    print(order, flush=True)
"""


def told(program: str, *words: str) -> list[str]:
    """Run a program, tell it something once it says that it is busy; return what it prints."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        for word in words:
            process.stdin.write(word + "\n")
        process.stdin.close()
        return process.stdout.read().splitlines()


def test_an_order_breaks_off_what_makes_a_machine_ready_once() -> None:
    assert told(BUSY, "now") == ["broken off now", "then "]


def test_nobody_being_left_to_give_orders_breaks_it_off_too() -> None:
    began = time.monotonic()
    assert told(BUSY)[0] == "broken off "
    assert time.monotonic() - began < 30


def test_once_it_is_patient_orders_wait_to_be_asked_for() -> None:
    assert told(PATIENT, "leave", "now") == ["leave", "now"]


class FakeGcs:
    """Ray's store, as far as boards use it."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def internal_kv_get(self, key: bytes, *_: object) -> bytes | None:
        return self.kept.get(key)

    def internal_kv_put(self, key: bytes, value: bytes, *_: object) -> None:
        self.kept[key] = value

    def internal_kv_keys(self, prefix: bytes, *_: object) -> list[bytes]:
        return [key for key in self.kept if key.startswith(prefix)]

    def internal_kv_del(self, key: bytes, *_: object) -> None:
        del self.kept[key]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeGcs:
    made = FakeGcs()
    factory: Callable[..., FakeGcs] = lambda **_: made  # noqa: E731
    monkeypatch.setattr("cluster.nodes.board.GcsClient", factory)
    return made


def test_the_versions_of_a_study_are_understood_whatever_else_its_brief_says(
    store: FakeGcs,
) -> None:
    theirs = Versions(incumbent="9.0", ray="3.1", python="3.14.1")
    store.kept[b"brief"] = to_json({"versions": theirs, "metric": "of another kind", "new": [1]})
    assert Board("10.0.0.5:7700").versions() == theirs


def test_a_study_that_stopped_is_told_from_one_that_is_not_there(store: FakeGcs) -> None:
    board = Board("10.0.0.5:7700")
    metric = Metric(name="loss", goal=Goal.MINIMIZE, pattern="loss=(.*)")
    terms = Terms(base="c" * 40, gpu_busy_mb=0.0, metric=metric)
    brief = Brief(study="s", name="mar5", versions=Versions.ours(), ray="1-2.0", terms=terms)
    for ask in (board.brief, board.versions):
        with pytest.raises(BoardAway, match="not that of a study, or is not up yet"):
            ask()
        board.close()
        with pytest.raises(StudyStopped, match="has stopped"):
            ask()
        board.post(brief)
        ask()
        store.kept.clear()


@pytest.fixture
def told_by_join(
    store: FakeGcs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Join a study of these trials as far as Ray; return what is said last, on both sides."""
    monkeypatch.setattr("cluster.nodes.node.PrivateRay.ensure", begin_no_ray)
    metric = Metric(name="loss", goal=Goal.MINIMIZE, pattern="loss=(.*)")
    places = {name: str(tmp_path) for name in ("directory", "runtime", "empty", "environments")}
    settings = NodeSettings(head="127.0.0.1:9", node="rig", id="a", slots=1, **places)

    def join(*, versions: Versions | None = None, **trial: object) -> str:
        asked = {**TRIAL, "gpus": 0, "sandbox": "none", **trial}
        terms = Terms(base="c" * 40, gpu_busy_mb=0.0, metric=metric, trial=asked)
        ours = versions or Versions.ours()
        brief = Brief(study="s", name="mar5", versions=ours, ray="1-2.0", terms=terms)
        board = Board(settings.head)
        board.post(brief)
        code = _be(settings, Orders())
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        refusals = [(each.node, each.reason) for each in board.take_refusals()]
        assert refusals == ([("rig", said["text"])] if code == REFUSED else [])
        return f"{said['kind']}: {said['text']}"

    return join


def begin_no_ray(_: object) -> None:
    raise RayFailed("it went so far")


def test_a_machine_that_fits_goes_on_to_start_ray(told_by_join: Callable[..., str]) -> None:
    assert told_by_join() == "away: it went so far"


def test_a_machine_of_other_versions_is_refused_and_says_which(
    told_by_join: Callable[..., str],
) -> None:
    ours = Versions.ours()
    said = told_by_join(versions=replace(ours, ray="3.1"))
    assert said.startswith(f"fatal: Ray 3.1 there, {ours.ray} here: all machines of a study need")


def test_a_machine_without_the_cards_that_trials_need_is_refused(
    told_by_join: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.nodes.readiness.NvmlGpus.look", lambda _: ())
    said = told_by_join(gpus=0.5)
    assert said.startswith("fatal: a trial needs 0.5 GPU, and the driver shows none on this")


def test_a_machine_whose_disk_is_nearly_full_is_refused(
    told_by_join: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nearly_full = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr("trainer.disk_room.shutil.disk_usage", lambda _: nearly_full)
    assert told_by_join().startswith("fatal: the disk is nearly full: 0.0 GB free at ")


def test_a_machine_without_a_sandbox_is_refused_where_the_study_wants_one(
    told_by_join: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.sandbox.choose.candidates", lambda _: [])
    said = told_by_join(sandbox="bubblewrap")
    assert said.startswith("fatal: no sandbox can be made: ")
    assert "cure: " in said


def test_word_that_cannot_be_read_keeps_nobody_from_the_rest(store: FakeGcs) -> None:
    board = Board("10.0.0.5:7700")
    refusal = Refusal(node="rig", address="10.0.0.7", reason="no sandbox")
    store.kept[b"refused:old"] = b'{"node": "old"}'
    board.refuse(refusal)
    assert board.take_refusals() == [refusal]
    assert not board.take_refusals()


def test_who_has_a_name_is_read_off_the_board_and_nobody_before_it_was_said(
    store: FakeGcs,
) -> None:
    board = Board("10.0.0.5:7700")
    assert not board.names()
    board.post_names({"box": "", "rig": "a"})
    assert board.names() == {"box": "", "rig": "a"}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("InvalidAuthToken: Authentication token is missing or incorrect", WrongToken),
        ("WrongClusterID: Perhaps the client is accessing GCS after it has restarted.", BoardAway),
    ],
)
def test_a_head_that_came_back_is_not_taken_for_one_that_refuses_the_token(
    store: FakeGcs, monkeypatch: pytest.MonkeyPatch, said: str, meant: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise AuthenticationError(said)

    monkeypatch.setattr(store, "internal_kv_get", fail)
    with pytest.raises(meant):
        Board("10.0.0.5:7700").brief()
