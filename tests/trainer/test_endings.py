import signal
import time

import pytest

from eval.suspicion import Conduct
from trainer.endings import classify, pruned
from trainer.run_records import EndedBy, Enforcement, RunReport
from trainer.run_start import Start
from trainer.score_report import ScoreReport
from trainer.telemetry import GpuTelemetry, Telemetry
from trainer.trial import CrashKind, Ending, TrialOutcome

TRACEBACK = """step 1
Traceback (most recent call last):
  File "train.py", line 12, in <module>
    main()
    ~~~~^^
  File "train.py", line 7, in main
    return 1 / 0
           ~~^~~
ZeroDivisionError: division by zero
"""
CUDA = """[rank0]: Traceback (most recent call last):
[rank0]:   File "train.py", line 3, in <module>
[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has
[rank0]: a total capacity of 79.10 GiB of which 1.2 GiB is free.
[rank0]:[W1123 12:00:00] Warning: process group has NOT been destroyed
"""
CHAINED = f"""{TRACEBACK}
During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 9, in <module>
    raise RuntimeError("gave up")
RuntimeError: gave up
wandb: synced
"""
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "train.py", line 1, in <module>
  | ExceptionGroup: many (1 sub-exception)
  +-+---------------- 1 ----------------
    | KeyError: 'lr'
    +------------------------------------
"""
SYNTAX = """  File "train.py", line 3
    x = = 1
        ^
SyntaxError: invalid syntax
"""
OUT_OF_DISK = """Traceback (most recent call last):
  File "train.py", line 3, in <module>
OSError: [Errno 28] No space left on device: 'model.pt'
"""
CAUGHT = """Traceback (most recent call last):
  File "train.py", line 3, in <module>
torch.OutOfMemoryError: CUDA out of memory.
falling back to batch 8
Traceback (most recent call last):
  File "train.py", line 9, in <module>
ValueError: bad batch
"""
KARPATHY = "step 00010 (1.0%) | loss: 103.5 | lrm: 1.00 | dt: 325ms | remaining: 290s    FAIL\n"


def outcome(ended_by=EndedBy.EXIT, *, score=None, **values):
    report = RunReport(ended_by=ended_by, **{"exit_code": 0, **values})
    return classify(report, device_class="H200", stages_s={"train": 3.0}, score=score)


def test_exit_code_0_and_a_finite_metric_is_scored():
    found = outcome(
        metric_text="0.9979", summary={"mb": 1.0}, tail="text", log_bytes=9, log_dropped=4
    )
    assert (found.ending, found.value, found.crash) == (Ending.SCORED, 0.9979, None)
    assert (found.reason, found.tail, found.exit_code) == ("", "", 0)
    assert found.metrics == {"mb": 1.0}
    assert (found.log_bytes, found.log_dropped) == (9, 4)
    assert (found.device_class, found.stages_s) == ("H200", {"train": 3.0})


def test_where_predictions_are_scored_what_was_printed_is_a_claim():
    found = outcome(
        score=ScoreReport(value=0.6, wall_s=0.5, summary={"rows": 8.0}),
        metric_text="1.0",
        value_at_s=0.1,
        final_values=3,
        wall_s=9.0,
        summary={"mb": 1.0, "rows": 9.0, "claimed": 2.0},
    )
    assert (found.ending, found.value) == (Ending.SCORED, 0.6)
    assert found.metrics == {"mb": 1.0, "rows": 8.0, "claimed": 1.0}
    assert found.stages_s == {"train": 3.0, "score": 0.5}
    assert found.conduct == Conduct(wall_s=9.0)
    silent = outcome(score=ScoreReport(value=0.6), metric_text=None)
    assert (silent.ending, silent.value, silent.metrics) == (Ending.SCORED, 0.6, {})


def test_predictions_that_cannot_be_scored_are_a_crash_and_our_own_trouble_is_none():
    reason = "predictions.npy holds 900 rows, the labels 1000"
    found = outcome(score=ScoreReport(reason=reason), metric_text="1.0", tail="the end")
    assert (found.ending, found.crash, found.value) == (
        Ending.CRASHED,
        CrashKind.PREDICTIONS,
        None,
    )
    assert (found.reason, found.tail) == (reason, "the end")
    lost = outcome(score=ScoreReport(reason="bwrap: no", is_ours=True))
    assert (lost.ending, lost.reason) == (Ending.LOST, "bwrap: no")


def test_predictions_of_a_run_that_failed_do_not_count():
    found = outcome(exit_code=1, score=ScoreReport(value=1.0))
    assert (found.ending, found.crash) == (Ending.CRASHED, CrashKind.EXCEPTION)
    assert outcome(EndedBy.TIMEOUT, score=ScoreReport(value=1.0)).ending is Ending.TIMED_OUT


@pytest.mark.parametrize(
    ("text", "crash", "reason"),
    [
        (None, CrashKind.NO_METRIC, "missing"),
        ("abc", CrashKind.NO_METRIC, "not a number: 'abc'"),
        ("nan", CrashKind.NAN, "not finite: nan"),
        ("-inf", CrashKind.NAN, "not finite: -inf"),
        ("-1.7e308", CrashKind.NAN, "not finite: -1.7e308"),
    ],
)
def test_exit_code_0_without_a_finite_metric_is_a_crash(text, crash, reason):
    found = outcome(metric_text=text, tail="the end")
    assert (found.ending, found.crash, found.value) == (Ending.CRASHED, crash, None)
    assert found.reason == f"the metric is {reason}"
    assert found.tail == "the end"


@pytest.mark.parametrize(
    ("ended_by", "ending", "crash"),
    [
        (EndedBy.TIMEOUT, Ending.TIMED_OUT, None),
        (EndedBy.CANCEL, Ending.CANCELLED, None),
        (EndedBy.SUPERVISOR_LOST, Ending.LOST, None),
        (EndedBy.NO_SANDBOX, Ending.LOST, None),
        (EndedBy.NOT_STARTED, Ending.CRASHED, CrashKind.NOT_STARTED),
        (EndedBy.DISK_FULL, Ending.LOST, None),
        (EndedBy.MEMORY, Ending.CRASHED, CrashKind.OUT_OF_MEMORY),
        (EndedBy.DISK, Ending.CRASHED, CrashKind.DISK_LIMIT),
        (EndedBy.PIDS, Ending.CRASHED, CrashKind.PROCESS_LIMIT),
    ],
)
def test_what_was_not_a_plain_exit_has_no_value_though_a_metric_was_printed(
    ended_by, ending, crash
):
    found = outcome(ended_by, metric_text="0.5", problem="what the system said", wall_s=12.34)
    assert (found.ending, found.crash, found.value) == (ending, crash, None)
    expected = {
        Ending.TIMED_OUT: "stopped at its time limit, after 12.3 s",
        Ending.CANCELLED: "cancelled",
    }
    assert found.reason == expected.get(ending, "what the system said")


@pytest.mark.parametrize(
    ("tail", "crash", "reason"),
    [
        (TRACEBACK, CrashKind.EXCEPTION, "ZeroDivisionError: division by zero"),
        (CHAINED, CrashKind.EXCEPTION, "RuntimeError: gave up"),
        (GROUP, CrashKind.EXCEPTION, "KeyError: 'lr'"),
        (SYNTAX, CrashKind.EXCEPTION, "SyntaxError: invalid syntax"),
        (CAUGHT, CrashKind.EXCEPTION, "ValueError: bad batch"),
        ("usage: train.py\nbad option\n", CrashKind.EXCEPTION, "exit code 1: bad option"),
        ("", CrashKind.EXCEPTION, "exit code 1"),
        (CUDA, CrashKind.OUT_OF_MEMORY, "torch.OutOfMemoryError: CUDA out of memory. Tried"),
        (TRACEBACK + "MemoryError\n", CrashKind.EXCEPTION, "ZeroDivisionError"),
        (
            TRACEBACK.replace("ZeroDivisionError: division by zero", "MemoryError"),
            CrashKind.OUT_OF_MEMORY,
            "MemoryError",
        ),
        ("CUDA error: out of memory\nbye\n", CrashKind.OUT_OF_MEMORY, "CUDA error: out of memory"),
        (OUT_OF_DISK, CrashKind.DISK_FULL, "OSError: [Errno 28] No space left on device"),
        (KARPATHY, CrashKind.NAN, "the script gave up: step 00010 (1.0%) | loss: 103.5"),
        ("step 9 | loss: nan | x\nstopping\n", CrashKind.NAN, "step 9 | loss: nan | x"),
        ("12 tests, 1 FAIL\n", CrashKind.EXCEPTION, "exit code 1: 12 tests, 1 FAIL"),
        (
            TRACEBACK.replace("ZeroDivisionError: division by zero", "ValueError: loss is NaN"),
            CrashKind.NAN,
            "ValueError: loss is NaN",
        ),
        (
            "error: Failed to spawn: `nope`\n  Caused by: No such file\n",
            CrashKind.NOT_STARTED,
            "error: Failed to spawn: `nope`",
        ),
        (
            "python: can't open file '/w/train.py': [Errno 2] No such file or directory\n",
            CrashKind.NOT_STARTED,
            "python: can't open file",
        ),
    ],
)
def test_a_crash_is_told_by_what_the_log_ends_with(tail, crash, reason):
    found = outcome(exit_code=1, tail=tail, metric_text="0.5")
    assert (found.ending, found.crash, found.value) == (Ending.CRASHED, crash, None)
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("said", "crash"),
    [
        ("OSError: [Errno 27] File too large: 'model.pt'", CrashKind.DISK_LIMIT),
        ("RuntimeError: can't start new thread", CrashKind.PROCESS_LIMIT),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", CrashKind.PROCESS_LIMIT),
        ("sh: 1: fork: retry: Resource temporarily unavailable", CrashKind.PROCESS_LIMIT),
        ("OSError: [Errno 24] Too many open files: 'a'", CrashKind.OPEN_FILES_LIMIT),
    ],
)
def test_a_limit_that_the_kernel_holds_is_told_by_what_it_made_the_trial_say(said, crash):
    found = outcome(exit_code=1, tail=f"{said}\n")
    assert found.crash is crash
    assert said in found.reason


@pytest.mark.parametrize("code", [-signal.SIGXFSZ, 128 + signal.SIGXFSZ])
def test_the_signal_for_too_large_a_file_is_the_disk_limit(code):
    found = outcome(exit_code=code)
    assert found.crash is CrashKind.DISK_LIMIT
    assert "disk_gb" in found.reason


def test_an_outcome_says_what_was_taken_and_how_that_was_limited():
    found = outcome(
        metric_text="1", wall_s=1.0, peak_memory_mb=312.5, limits_by=Enforcement.CGROUP_V2
    )
    assert (found.telemetry.memory_peak_mb, found.limits_by) == (312.5, "cgroup v2")
    found = outcome(metric_text="1", wall_s=1.0, max_rss_mb=70.0)
    assert (found.telemetry.memory_peak_mb, found.limits_by) == (70.0, "")


def test_how_a_run_started_is_told_and_of_one_that_never_did_nothing():
    found = outcome(sandbox="none", start=Start.COLD, cold_reason="too slow " * 100)
    assert (found.sandbox, found.start) == ("none", Start.COLD)
    assert found.cold_reason == ("too slow " * 100)[:200]
    found = outcome(EndedBy.NOT_STARTED, problem="no such file")
    assert (found.sandbox, found.start, found.cold_reason) == ("", None, "")


@pytest.mark.parametrize("code", [126, 127])
def test_a_shell_that_could_not_start_the_command_did_not_start_it(code):
    found = outcome(exit_code=code, tail="sh: 1: nope: not found\n")
    assert found.crash is CrashKind.NOT_STARTED
    assert found.reason == f"exit code {code}: sh: 1: nope: not found"


@pytest.mark.parametrize("code", [-signal.SIGSEGV, 128 + signal.SIGSEGV])
def test_a_signal_is_named_also_when_a_shell_passes_it_on(code):
    found = outcome(exit_code=code, tail="Segmentation fault\n")
    assert (found.crash, found.reason) == (CrashKind.SIGNAL, "killed by SIGSEGV")


def test_a_signal_without_a_name_is_told_by_its_number():
    assert outcome(exit_code=-40).reason == "killed by signal 40"


@pytest.mark.parametrize("code", [-signal.SIGKILL, 128 + signal.SIGKILL])
def test_sigkill_is_out_of_memory_only_with_evidence(code):
    assert outcome(exit_code=code).crash is CrashKind.SIGNAL
    assert outcome(exit_code=code, oom_kills=1).crash is CrashKind.OUT_OF_MEMORY
    assert outcome(exit_code=-signal.SIGSEGV, oom_kills=1).crash is CrashKind.SIGNAL


def test_an_abort_for_want_of_memory_is_out_of_memory():
    said = "terminate called after throwing an instance of 'std::bad_alloc'\n"
    found = outcome(exit_code=-signal.SIGABRT, tail=said)
    assert (found.crash, found.reason) == (CrashKind.OUT_OF_MEMORY, said.strip())


def test_a_killed_data_loader_is_out_of_memory_only_with_evidence():
    said = TRACEBACK.replace(
        "ZeroDivisionError: division by zero",
        "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.",
    )
    assert outcome(exit_code=1, tail=said).crash is CrashKind.EXCEPTION
    assert outcome(exit_code=1, tail=said, oom_kills=2).crash is CrashKind.OUT_OF_MEMORY


def test_the_tail_is_the_traceback_and_not_what_came_after_it():
    found = outcome(exit_code=1, tail="noise\n" * 900 + TRACEBACK + "goodbye\n" * 900)
    assert found.tail.startswith("Traceback (most recent call last):")
    assert "ZeroDivisionError" in found.tail
    assert len(found.tail) <= 4096


def test_a_long_traceback_keeps_its_end():
    frames = '  File "train.py", line 1, in f\n' * 500
    found = outcome(exit_code=1, tail=f"Traceback (most recent call last):\n{frames}KeyError: 1\n")
    assert found.tail.endswith("KeyError: 1")
    assert 3000 < len(found.tail) <= 4096
    assert found.reason == "KeyError: 1"


def test_a_reason_is_one_short_line():
    found = outcome(exit_code=1, tail=TRACEBACK.replace("by zero", "x" * 999 + "\nmore"))
    assert len(found.reason) == 200
    assert "\n" not in found.reason


@pytest.mark.parametrize("said", ["x" * 16384, "loss " * 3000, "can't open file " * 1000])
def test_a_hostile_line_takes_no_more_time_than_others(said):
    started = time.process_time()
    assert outcome(exit_code=1, tail=said).crash is CrashKind.EXCEPTION
    assert time.process_time() - started < 1


def test_a_traceback_without_an_exception_is_no_obstacle():
    found = outcome(exit_code=1, tail="Traceback (most recent call last):\n  File")
    assert (found.crash, found.reason) == (CrashKind.EXCEPTION, "exit code 1: File")


def test_what_was_measured_of_a_run_stands_beside_its_ending():
    report = RunReport(
        ended_by=EndedBy.EXIT,
        exit_code=1,
        wall_s=9.0,
        cpu_s=8.0,
        max_rss_mb=70.0,
        stages_s={"start": 2.0},
        steps_per_s=3.0,
        step_counter="iter",
    )
    gpu = GpuTelemetry(samples=4)
    found = classify(report, device_class="cpu", stages_s={"train": 9.1}, gpu=gpu)
    assert found.stages_s == {"train": 9.1, "start": 2.0}
    assert found.telemetry == Telemetry(
        wall_s=9.0, cpu_s=8.0, memory_peak_mb=70.0, steps_per_s=3.0, step_counter="iter", gpu=gpu
    )


@pytest.mark.parametrize("ended_by", [EndedBy.NOT_STARTED, EndedBy.DISK_FULL])
def test_of_what_never_ran_nothing_was_measured(ended_by):
    assert outcome(ended_by, exit_code=None).telemetry == Telemetry()


def test_of_a_run_whose_supervisor_was_lost_nothing_is_known():
    assert outcome(EndedBy.SUPERVISOR_LOST, wall_s=5.0).telemetry == Telemetry()


def test_a_run_that_ended_by_itself_before_it_was_pruned_keeps_its_ending() -> None:
    stopped = TrialOutcome(
        ending=Ending.CANCELLED, reason="cancelled", conduct=Conduct(wall_s=123.4)
    )
    found = pruned(stopped)
    assert (found.ending, found.value) == (Ending.PRUNED, None)
    assert found.reason == "stopped as hopeless after 123 s"
    for ending in (
        TrialOutcome(ending=Ending.SCORED, value=1.0),
        TrialOutcome(ending=Ending.TIMED_OUT, reason="stopped at its time limit"),
    ):
        assert pruned(ending) == ending
