"""The next trial of a slot, made ready while one runs."""

import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.worker_bench import FOREVER, PATIENCE_S, SLOT, TTL_S, Bench, first_in_line
from trainer.hold import look_again_s
from trainer.ports import Heartbeat, Lease, NoWork, Progress
from trainer.trial import CommitId, Ending, TrialSpec


def test_the_next_trial_is_made_ready_and_begins_before_the_last_is_reported(
    bench: Bench, until_ready: str
) -> None:
    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=first_in_line,
    )
    assert leases.calls == ["hello", "lease", "lease", "complete", "complete", "lease"]
    assert [leases.outcomes[trial].value for trial in ("e1.1", "e2.1")] == [1.0, 2.0]
    assert leases.outcomes["e2.1"].stages_s["materialise"] < 0.05
    assert not any(bench.paths.run(SLOT.id, 0).parent.rglob("train.sh"))


def test_a_python_script_finds_its_process_waiting(bench: Bench, tmp_path: Path) -> None:
    """In turns, in both bays; the first alone starts cold."""
    bench.argv = ("python", "train.sh")
    script = """
import os, time
print("loss:", int("preload" in open("/proc/self/cmdline").read()))
while not os.path.exists("{go}"): time.sleep(0.01)
"""
    gos = [tmp_path / f"go-{number}" for number in range(4)]
    waiting = [
        bench.lease(script.format(go=go), trial=f"e{number}.1") for number, go in enumerate(gos)
    ]

    def reserve(left: deque[Any]) -> TrialSpec | None:
        done = 4 - len(left)
        # The second question of a trial is asked when what the first named has been armed.
        asked[done] = asked.get(done, 0) + 1
        if asked[done] > 1 or not left:
            gos[done - 1].touch()
        return first_in_line(left)

    asked: dict[int, int] = {}
    leases = bench.serve(*waiting, on_reserve=reserve)
    values = [leases.outcomes[f"e{number}.1"].value for number in range(4)]
    assert values == [0.0, 1.0, 1.0, 1.0]


def test_something_more_urgent_than_what_is_ready_runs_first(
    bench: Bench, until_ready: str
) -> None:
    prepared = bench.lease("echo 'loss: 3'", trial="e3.1")
    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        prepared,
        on_reserve=lambda waiting: prepared.spec if prepared in waiting else None,
    )
    assert list(leases.outcomes) == ["e1.1", "e2.1", "e3.1"]
    assert [outcome.value for outcome in leases.outcomes.values()] == [1.0, 2.0, 3.0]


def test_an_outcome_does_not_wait_for_something_urgent_to_be_made_ready(
    bench: Bench, until_ready: str
) -> None:
    prepared = bench.lease("echo 'loss: 3'", trial="e3.1")
    urgent = bench.lease("echo 'loss: 2'", trial="e2.1")
    steps: list[str] = []

    def fetched(commit: CommitId, is_ahead: bool) -> None:
        if commit == urgent.spec.commit and not is_ahead:
            steps.append("made ready")

    def completed() -> bool:
        steps.append("handed in")
        return True

    bench.code.on_fetch = fetched
    bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        urgent,
        prepared,
        on_reserve=lambda waiting: prepared.spec if prepared in waiting else None,
        on_complete=completed,
    )
    assert steps[:2] == ["handed in", "made ready"]


@pytest.mark.parametrize("answer", [Heartbeat.GO_ON, Heartbeat.GONE])
def test_a_trial_keeps_its_lease_while_the_next_takes_long_to_be_made_ready(
    answer: Heartbeat, bench: Bench, tmp_path: Path
) -> None:
    beats: list[bool] = []
    is_preparing, is_beaten = threading.Event(), threading.Event()

    def fetched(_commit: CommitId, is_ahead: bool) -> None:
        if is_ahead:
            is_preparing.set()
            beats.append(is_beaten.wait(PATIENCE_S))
            (tmp_path / "go").touch()

    def beaten(*_: object) -> Heartbeat:
        if is_preparing.is_set():
            is_beaten.set()
            return answer
        return Heartbeat.GO_ON

    bench.code.on_fetch = fetched
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo 'loss: 1'"
    leases = bench.serve(
        bench.lease(script if answer is Heartbeat.GO_ON else FOREVER, ttl_s=TTL_S),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=first_in_line,
        on_heartbeat=beaten,
    )
    assert beats == [True]
    expected = ["e1.1", "e2.1"] if answer is Heartbeat.GO_ON else ["e2.1"]
    assert list(leases.outcomes) == expected


def test_what_another_slot_took_is_let_go_of(bench: Bench, until_ready: str) -> None:
    taken = bench.lease("touch ran", trial="e9.1").spec
    answers = iter([taken])
    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        NoWork.WAIT,
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=lambda _: next(answers, None),
    )
    assert {name: each.value for name, each in leases.outcomes.items()} == {"e1.1": 1, "e2.1": 2}


def test_a_queue_that_names_nothing_for_a_while_costs_nothing(bench: Bench) -> None:
    def reserve(_: deque[Any]) -> TrialSpec | None:
        raise ConnectionError

    leases = bench.serve(
        bench.lease("echo 'loss: 1'"),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=reserve,
    )
    assert [leases.outcomes[trial].value for trial in ("e1.1", "e2.1")] == [1.0, 2.0]


def test_a_slot_whose_order_was_lost_says_that_it_runs_nothing_before_the_next(
    bench: Bench, until_ready: str
) -> None:
    second = bench.lease("echo 'loss: 2'", trial="e2.1")
    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        ConnectionError,
        second,
        on_reserve=lambda waiting: second.spec if second in waiting else None,
    )
    calls = [call for call in leases.calls if call != "heartbeat"]
    assert calls[2:6] == ["lease", "complete", "hello", "lease"]
    assert [leases.outcomes[trial].value for trial in ("e1.1", "e2.1")] == [1.0, 2.0]


def test_what_could_not_be_made_ready_fails_when_its_turn_has_come(
    bench: Bench, tmp_path: Path
) -> None:
    lease = bench.lease("", trial="e2.1")
    unknown = replace(lease, spec=replace(lease.spec, commit=CommitId("0123456789" * 4)))
    asked: list[int] = []

    def reserve(waiting: deque[Any]) -> TrialSpec | None:
        asked.append(1)
        if len(asked) == 2:
            (tmp_path / "go").touch()
        return first_in_line(waiting)

    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; echo 'loss: 1'"
    leases = bench.serve(bench.lease(script), unknown, on_reserve=reserve)
    assert leases.outcomes["e1.1"].value == 1.0
    assert leases.outcomes["e2.1"].reason.startswith("GitError: ")


def test_the_last_outcome_comes_before_the_failure_of_the_next(
    bench: Bench, until_ready: str
) -> None:
    """What was ready is not what is leased, and that cannot be had."""
    ready = bench.lease("", trial="e3.1").spec
    lease = bench.lease("", trial="e2.1")
    unknown = replace(lease, spec=replace(lease.spec, commit=CommitId("0123456789" * 4)))
    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"), unknown, on_reserve=lambda _: ready
    )
    assert list(leases.outcomes) == ["e1.1", "e2.1"]
    assert leases.outcomes["e2.1"].ending is Ending.LOST
    assert bench.time.slept_s == [1]


def test_an_outcome_is_offered_while_the_next_trial_runs(
    bench: Bench, until_ready: str, tmp_path: Path
) -> None:
    answers = iter([False, False])

    def complete() -> bool:
        for _ in answers:
            raise ConnectionError
        (tmp_path / "taken").touch()
        return True

    leases = bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        bench.lease(
            f"until [ -e {tmp_path}/taken ]; do sleep 0.01; done; echo 'loss: 2'",
            trial="e2.1",
            ttl_s=TTL_S,
        ),
        on_reserve=first_in_line,
        on_complete=complete,
    )
    assert list(leases.outcomes) == ["e1.1", "e2.1"]
    assert leases.outcomes["e2.1"].value == 2.0


@pytest.mark.parametrize(
    ("order", "ending"),
    [(Heartbeat.CANCEL, Ending.CANCELLED), (Heartbeat.GIVE_BACK, Ending.LOST)],
)
def test_an_order_to_end_is_for_the_trial_that_runs_alone(
    order: Heartbeat, ending: Ending, bench: Bench, until_ready: str
) -> None:
    def heartbeat(lease: Lease, progress: Progress) -> Heartbeat:
        is_meant = lease.spec.trial == "e1.1" and progress.last_line
        return order if is_meant else Heartbeat.GO_ON

    leases = bench.serve(
        bench.lease(f"{until_ready}; {FOREVER}", ttl_s=TTL_S),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=first_in_line,
        on_heartbeat=heartbeat,
    )
    assert leases.outcomes["e1.1"].ending is ending
    assert leases.outcomes["e2.1"].value == 2.0


def test_the_cards_are_waited_for_when_the_trial_before_is_dead(
    bench: Bench, until_ready: str
) -> None:
    seen: list[bool] = []
    bench.wait_for_cards = lambda: seen.append(bench.is_running("e1.1"))
    bench.serve(
        bench.lease(f"{until_ready}; echo 'loss: 1'"),
        bench.lease("echo 'loss: 2'", trial="e2.1"),
        on_reserve=first_in_line,
    )
    assert seen == [False, False]


def test_nothing_waits_any_more_when_the_worker_leaves(bench: Bench, until_ready: str) -> None:
    bench.argv = ("python", "train.sh")
    ready = bench.lease("print('never')", trial="e2.1").spec
    script = f"import subprocess; subprocess.run({until_ready!r}, shell=True); print('loss: 1')"
    leases = bench.serve(bench.lease(script), on_reserve=lambda _: ready)
    assert leases.outcomes["e1.1"].value == 1.0
    assert not bench.is_running("e2.1")
    assert not any(bench.paths.run(SLOT.id, 0).parent.rglob("train.sh"))


def test_a_slot_that_has_something_prepared_asks_again_less_often_than_one_that_has_not() -> None:
    def looks(*, is_prepared: bool, ttl_s: float = 30.0) -> int:
        elapsed_s, count = 0.0, 0
        while elapsed_s < 300.0:
            elapsed_s += look_again_s(elapsed_s, ttl_s, is_prepared=is_prepared)
            count += 1
        return count

    assert looks(is_prepared=False) > 140
    assert looks(is_prepared=True) < 40
    assert looks(is_prepared=True, ttl_s=3.0) > 290, "or it would lose what it reserved"
