"""Trials that take whatever they can get, beside trials that only want to finish."""

import pytest

from tests.end_to_end.conftest import BY_HAND, MakeStudy

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# Every bomb is bounded, for the day on which a limit does not hold.
SCRIPT = """
import os, sys, time

MODE = "fine"
X = 50


def memory():
    return [bytearray(20 << 20) for _ in range(50)]

def children():
    for _ in range(6):
        if os.fork() == 0:
            return bytearray(120 << 20)

def fork():
    for _ in range(600):
        try:
            if os.fork() == 0:
                time.sleep(60)
        except OSError:
            pass

def disk():
    for n in range(100):
        with open(os.path.join(os.environ["INCUMBENT_OUT"], f"{n}"), "wb") as file:
            file.write(bytes(10_000_000))

def files():
    for n in range(4000):
        open(f"{n}", "w").close()

def hang():
    pass

def flood():
    for _ in range(60):
        os.write(1, b"x" * 5_000_000)
    os.write(1, b"\\n")
    print("loss: 99")
    sys.exit()

if MODE == "fine":
    print(f"loss: {X}")
else:
    kept = globals()[MODE]()
    time.sleep(60)
"""
CONFIG = """
[study]
name = "{name}"
editable = ["train.py"]
[metric]
name = "loss"
goal = "minimize"
[trial]
command = "python train.py"
budget_s = 1
timeout_s = 4
gpus = 0
memory_gb = 0.4
disk_gb = 0.2
disk_files = 2000
pids = 200
[cluster]
slots = 2
"""
# Mode: status, kind of crash, and what the reason says.
BOMBS = {
    "memory": ("crashed", "out_of_memory", "used more than memory_gb = 0.4"),
    "children": ("crashed", "out_of_memory", "used more than memory_gb = 0.4"),
    "fork": ("crashed", "process_limit", "had more processes and threads than pids = 200"),
    "disk": ("crashed", "disk_limit", "held more than disk_gb = 0.2"),
    "files": ("crashed", "disk_limit", "had more files than disk_files = 2000"),
    "hang": ("timed_out", None, "stopped at its time limit, after "),
    "flood": ("discarded", None, "worse"),
}
WELL_BEHAVED = 13
"""The baseline comes on top, which makes 21 experiments in all."""


def test_bombs_end_by_their_limits_and_the_rest_finish_unharmed(make_study: MakeStudy) -> None:
    study = make_study({"train.py": SCRIPT}, config=BY_HAND + CONFIG)
    study.incumbent("submit", "--grid", f"MODE={','.join(BOMBS)}", "--priority", "9")
    study.incumbent("submit", "--grid", f"X={','.join(str(60 + n) for n in range(WELL_BEHAVED))}")

    running = study.start("run", "-n", str(len(BOMBS) + WELL_BEHAVED))
    assert running.wait(120) == 0, running.output

    log = {row["hypothesis"].replace('"', ""): row for row in study.json("log")}
    for mode, (status, crash, reason) in BOMBS.items():
        row = log[f"MODE fine -> {mode}"]
        outcome = study.state().experiments[row["id"]].last_outcome
        assert (row["status"], outcome.crash) == (status, crash), (mode, row["reason"])
        assert reason in row["reason"], mode
        assert outcome.limits_by, mode
    for n in range(WELL_BEHAVED):
        row = log[f"X 50 -> {60 + n}"]
        assert (row["status"], row["score"]) == ("discarded", 60 + n)
    trials = [t for e in study.state().experiments.values() for t in e.trials]
    assert {t.attempt for t in trials} == {1}, "nobody's trial was lost"
    shown = study.incumbent("show", log["MODE fine -> memory"]["id"]).stdout
    assert "limited by" in shown
