import pytest

from eval.metric import Goal, Metric
from trainer.run_records import (
    ArmRequest,
    Bind,
    CancelRequest,
    Confinement,
    EndedBy,
    Enforcement,
    Limits,
    Message,
    MessageReader,
    RunProgress,
    RunReport,
    RunRequest,
    WarmStart,
    encode,
)
from trainer.run_start import Start

METRIC = Metric(name="val_bpb", goal=Goal.MAXIMIZE, pattern=r"^val_bpb:\s+(\S+)")
MESSAGES: list[Message] = [
    RunRequest(
        argv=("python", "train.py"),
        env={"PATH": "/bin", "NOT_UTF8": b"\xff".decode(errors="surrogateescape")},
        cwd="/tmp/é",
        log_path="/tmp/log",
        timeout_s=1.5,
        metric=METRIC,
        mark="study/cpu-0/e1.1",
    ),
    RunRequest(
        argv=("python",),
        env={},
        cwd="/experiment",
        log_path="/tmp/log",
        timeout_s=1.0,
        metric=METRIC,
        mark="study/cpu-0/e1.1",
        confinement=Confinement(
            program="/usr/bin/bwrap",
            uid=65529,
            binds=(Bind(source="/tmp/src", place="/experiment", is_writable=True),),
            links=(("usr/bin", "/bin"),),
            devices=("/dev/nvidia0",),
            home="/home/ada",
            home_bytes=1,
            tmp_bytes=2,
            shm_bytes=3,
        ),
        limits=Limits(memory_bytes=5, pids=7, folders=("/a", "/b")),
    ),
    ArmRequest(
        run=RunRequest(
            argv=("python", "train.py"),
            env={},
            cwd="/experiment",
            log_path="/tmp/log",
            timeout_s=1.0,
            metric=METRIC,
            mark="study/cpu-0/e1.1",
            warm=WarmStart(argv=("sh", "-c", "x"), env={"A": "1"}, without_imports="it is a shell"),
        )
    ),
    CancelRequest(),
    RunProgress(elapsed_s=3.0, last_line="step 1 | loss: 2", points={"step": 1.0, "loss": 2.0}),
    RunReport(
        ended_by=EndedBy.MEMORY,
        peak_memory_mb=2.5,
        limits_by=Enforcement.CGROUP_V1,
        sandbox="bubblewrap",
        start=Start.GATE,
        cold_reason="[trial] preload is empty",
    ),
    RunReport(ended_by=EndedBy.TIMEOUT, exit_code=-9, summary={"a": 1.0}, tail="line\nline\n"),
    RunReport(ended_by=EndedBy.EXIT, stages_s={"start": 0.5}, steps_per_s=2.0, step_counter="it"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message):
    assert MessageReader().feed(encode(message)) == [message]


def test_messages_are_put_together_from_single_bytes():
    reader = MessageReader()
    stream = b"".join(encode(message) for message in MESSAGES)
    assert [found for at in stream for found in reader.feed(bytes([at]))] == MESSAGES


def test_messages_that_arrive_at_once_keep_their_order():
    assert MessageReader().feed(b"".join(encode(each) for each in MESSAGES)) == MESSAGES
