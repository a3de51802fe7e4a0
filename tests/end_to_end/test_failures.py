"""What goes wrong in trials and around them ends well: told apart, and never taken for a score."""

import re

import pytest

from tests.end_to_end.conftest import BY_HAND, CONFIG, MakeStudy, Study

pytestmark = [pytest.mark.ray, pytest.mark.slow]

MODES = """#!/bin/sh
MODE=fine
case $MODE in
fine) echo "METRIC loss=2" ;;
silent) echo "nothing to report" ;;
nan) echo "METRIC loss=nan" ;;
infinite) echo "METRIC loss=inf" ;;
wordy) echo "METRIC loss=good" ;;
twice) echo "METRIC loss=1"; echo "METRIC loss=3" ;;
late) echo "METRIC loss=1"; echo "gave up" >&2; exit 3 ;;
missing) no-such-trainer --fast ;;
segfault) kill -SEGV $$ ;;
memory) echo "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB" >&2; exit 1 ;;
hang) setsid sleep 777 & echo "step 1"; sleep 777 ;;
esac
"""
# Mode: status, kind of crash, and a word that the reason must hold.
ENDINGS = {
    "silent": ("crashed", "no_metric", "the metric is missing"),
    "nan": ("crashed", "nan", "not finite: nan"),
    "infinite": ("crashed", "nan", "not finite: inf"),
    "wordy": ("crashed", "no_metric", "not a number: 'good'"),
    "twice": ("discarded", None, "worse"),
    "late": ("crashed", "exception", "exit code 3: gave up"),
    "missing": ("crashed", "not_started", "no-such-trainer"),
    "segfault": ("crashed", "signal", "SIGSEGV"),
    "memory": ("crashed", "out_of_memory", "CUDA out of memory"),
    "hang": ("timed_out", None, "time limit"),
}
FAILURES = [mode for mode, (status, _, _) in ENDINGS.items() if status != "discarded"]


def test_every_way_to_fail_has_its_name_and_the_others_go_on(make_study: MakeStudy) -> None:
    config = BY_HAND + CONFIG.replace("timeout_s = 30", "timeout_s = 3")
    study = make_study({"bench.sh": MODES}, config=config)
    better = study.patch("bench.sh", "loss=2", "loss=1")
    good = study.patch("bench.sh", 'echo "METRIC loss=2"', 'sleep 1; echo "METRIC loss=1.5"')
    study.submit(better, "--priority", "9", "-m", "better")
    study.submit(good, "--priority", "8", "-m", "good, on the same line")
    study.incumbent("submit", "--set", "MODE=hang", "--priority", "7")
    others = ",".join(mode for mode in ENDINGS if mode != "hang")
    study.incumbent("submit", "--grid", f"MODE={others}")

    running = study.start("run", "-n", str(len(ENDINGS) + 2))
    study.wait("a trial that hangs", lambda: len(sleepers(study)) == 2)
    assert running.wait() == 0

    assert not sleepers(study)
    log = {row["hypothesis"]: row for row in study.json("log")}
    for mode, (status, crash, word) in ENDINGS.items():
        row = log[f"MODE fine -> {mode}"]
        assert (row["status"], row["score"]) == (status, 3.0 if mode == "twice" else None), mode
        assert word in row["reason"], mode
        outcome = study.state().experiments[row["id"]].last_outcome
        assert outcome.crash == crash, (mode, row["reason"])
    shown = study.json("show", log["MODE fine -> late"]["id"])
    assert shown["trials"][-1]["outcome"]["tail"] == "METRIC loss=1\ngave up"
    table = [line.split("\t") for line in study.home.results.read_text().splitlines()[1:]]
    assert [row[1] for row in table if row[3] == "crash"] == ["0.000000"] * len(FAILURES)
    verify_that_only_we_speak(running.output)
    assert f"{len(FAILURES) - 1} crashed, 1 timed out, 1 conflicted" in running.output
    verify_that_others_went_on(study, log["MODE fine -> hang"]["id"])
    kept, conflicted = log["better"], log["good, on the same line"]
    assert kept["status"] == "kept"
    assert conflicted["status"] == "conflicted"
    assert conflicted["reason"] == f"conflicts with {kept['id']} in bench.sh"
    assert f"conflicted {conflicted['id']}: with {kept['id']} in bench.sh" in running.output


def verify_that_only_we_speak(output: str) -> None:
    """Ray says nothing: not its own log, nor what its processes print, which it would prefix."""
    theirs = re.compile(r"ray::|raylet|gcs_server|\bpid=|\b(INFO|WARNING|ERROR)\b|^\[?\d{4}-\d\d-")
    assert not [line for line in output.splitlines() if theirs.search(line)]


def sleepers(study: Study) -> list[str]:
    """Return the processes of a trial that hangs."""
    return [line for line in study.processes().values() if line == "sleep 777"]


def verify_that_others_went_on(study: Study, hanging: str) -> None:
    """While one slot was stuck, the other worked."""
    stuck = study.state().experiments[hanging].trials[-1]
    others = [e.trials[-1] for e in study.state().experiments.values() if e.id != hanging]
    assert [
        t for t in others if stuck.started_at < t.started_at < t.finished_at < stuck.finished_at
    ]


def test_a_baseline_that_fails_ends_the_study_with_its_words(make_study: MakeStudy) -> None:
    crashing = make_study(
        {"bench.sh": "#!/bin/sh\nLR=0.1\necho 'loading data'\necho 'no such shard' >&2\nexit 4\n"},
        name="crashing",
    )
    missing = make_study(name="missing", config=CONFIG.replace("./bench.sh", "trainer-9 --fast"))
    running = {study.name: study.start("run", "-n", "9") for study in (crashing, missing)}
    assert {name: prompt.wait() for name, prompt in running.items()} == {
        "crashing": 1,
        "missing": 1,
    }
    words = (
        "failed: the baseline crashed: exit code 4: no such shard\nloading data\nno such shard\n"
    )
    assert running["crashing"].output.endswith(words)
    assert "failed: the baseline crashed" in running["missing"].output
    assert "trainer-9" in running["missing"].output.splitlines()[-1]
    for study in (crashing, missing):
        baseline, *rest = study.json("log")
        assert (baseline["status"], baseline["score"]) == ("crashed", None)
        assert {row["status"] for row in rest} <= {"proposed"}  # thought of meanwhile, never run
        status = study.json("status")
        assert status["failed"]
        assert status["incumbent"]["score"] is None
        assert study.git("branch", "--list", "incumbent/*").split() == [f"incumbent/{study.name}"]
