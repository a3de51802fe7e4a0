"""Whole studies of real repositories, by the command line: what is run, judged, kept and shown."""

import json
import re
import subprocess
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster.state import events as ev
from infra.local.study import opened
from tests.end_to_end.agreement import verify
from tests.end_to_end.conftest import BY_HAND, MakeStudy, Study
from tests.infra.autoresearch_repository import create_autoresearch_repository

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SUM = """#!/bin/sh
A=2
B=2
PAUSE=0
sleep $PAUSE
echo "METRIC loss=$((A + B))"
"""


# --- a repository like autoresearch's ------------------------------------------------------------


def test_an_autoresearch_repository_runs_unmodified_and_carries_on(
    tmp_path: Path, make_study: MakeStudy
) -> None:
    repository = create_autoresearch_repository(tmp_path / "autoresearch")
    study = make_study(folder=repository, name="autoresearch")
    subprocess.run(["uv", "lock", "--quiet"], cwd=repository, env=study.environment, check=True)
    study.git("add", "uv.lock")
    study.git("commit", "--quiet", "--message=lock")
    hopeless = study.patch("train.py", "import resource\n", "import no_such_package\n")
    leave_work_about(study)
    study.incumbent("init")
    before = checkout(study)

    done = study.incumbent("run", "-n", "4", "--slots", "2")

    assert "not committed are not part of it" in done.stderr
    assert checkout(study) == before
    assert (Path(study.environment["HOME"]) / ".cache/autoresearch-cpu/corpus.txt").exists()
    assert not list(study.home.worktrees.rglob(".venv"))
    first = study.json("log")
    assert len(tried(first)) == 4
    assert sum(row["status"] == "kept" for row in first) > 1  # the start is easy to improve
    rows = study.home.results.read_text()

    study.submit(hopeless)
    study.incumbent("run", "-n", "6", "--slots", "2")

    assert checkout(study) == before
    verify_rejection(study)
    log, status = study.json("log"), study.json("status")
    starts = status["starts"]
    trials = sum(experiment.finished for experiment in study.state().experiments.values())
    assert starts["warm"] + starts["gate"] + starts["cold"] == trials
    assert starts["cold"] >= 1, "nobody could wait for the first trial of a slot"
    verify(study, log, status)
    show_everything(study, log, status["incumbent"]["experiment"])
    assert [row["id"] for row in log[: len(first)]] == [row["id"] for row in first]
    assert [row["kind"] for row in log].count("baseline") == 1
    assert len(tried(log)) == 6
    assert len(study.state().experiments["e0"].trials) == 3  # measured by the first run alone
    assert study.home.results.read_text().startswith(rows)  # what is written is never changed


def tried(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tuner's proposals, without those that went back to it before they began."""
    by_tuner = [row for row in log if row["proposer"] == "tuner" and row["kind"] == "proposal"]
    return [row for row in by_tuner if row["status"] != "cancelled"]


def verify_rejection(study: Study) -> None:
    """What can only fail was refused for what the lock file's own environment lacks."""
    (rejected,) = [row for row in study.json("log") if row["status"] == "rejected"]
    reason = "train.py:5: needs no_such_package, which is not in the environment"
    undefined = r"train\.py:\d+: undefined name 'resource'; " + re.escape(reason)
    assert re.fullmatch(undefined, rejected["reason"])
    assert (rejected["proposer"], rejected["slot"], rejected["seconds"]) == ("user", "", 0.0)
    assert f"rejected {rejected['id']}: train.py" in study.incumbent("show", rejected["id"]).stdout
    assert study.json("show", rejected["id"])["trials"] == []


def leave_work_about(study: Study) -> None:
    """Leave the checkout as people leave theirs: a stash, a change, a staged one, a new file."""
    (study.repository / "program.md").write_text("put aside\n")
    study.git("stash", "--quiet")
    for path in ("prepare.py", "train.py"):
        with (study.repository / path).open("a") as file:
            file.write("raise SystemExit('half written')\n")
    study.git("add", "prepare.py")
    (study.repository / "notes.txt").write_text("mine\n")


def checkout(study: Study) -> list[str]:
    """Return everything of the user's checkout that could change."""
    questions = (
        ("status", "--porcelain=v2", "--branch", "--ignored", "--untracked-files=all"),
        ("diff", "HEAD"),
        ("diff", "--cached"),
        ("stash", "list", "-p", "--format=%H"),
        ("for-each-ref", "refs/heads/main", "refs/heads/master", "refs/tags", "refs/remotes"),
        ("worktree", "list", "--porcelain"),
        ("config", "--local", "--list"),
    )
    return [study.git(*question) for question in questions]


def show_everything(study: Study, log: list[dict[str, Any]], name: str) -> None:
    """Reading commands say the same of the incumbent, `name`, to people and to programs."""
    row = next(row for row in log if row["id"] == name)
    shown = study.json("show", name)
    assert {key: shown[key] for key in row} == row
    assert [line["event"] for line in shown["story"]][:2] == ["ExperimentProposed", "TrialQueued"]
    text = study.incumbent("show", name).stdout
    assert row["hypothesis"][:30] in text
    outcome = shown["trials"][-1]["outcome"]
    assert (outcome["sandbox"], bool(outcome["cold_reason"])) == (
        "bubblewrap",
        outcome["start"] != "warm",
    )
    assert "ran in" in text
    patch = study.git("diff", f"{row['commit']}^", row["commit"]).strip()
    assert study.json("diff", name)["patch"].strip() == patch
    assert study.incumbent("diff", name).stdout.strip() == patch
    printed = study.json("logs", name)["text"]
    assert f"val_bpb:          {row['score']:.6f}" in printed
    assert printed.strip() == study.incumbent("logs", f"{name}.1").stdout.strip()
    best = study.json("top", "-n", "9")  # by single runs: a lucky one may lead and not be kept
    assert [row["score"] for row in best] == sorted(row["score"] for row in best)
    assert name in {row["id"] for row in best}
    for verb in ("status", "log", "top"):
        assert name in study.incumbent(verb).stdout


# --- a shell script in an odd place, and experiments of one's own --------------------------------


def test_people_submit_pause_cancel_and_retry_with_a_shell_script_in_an_odd_place(
    tmp_path: Path, make_study: MakeStudy
) -> None:
    study = make_study(
        {"bench.sh": SUM},
        folder=tmp_path / "Étude n° 1 «été»" / "naïve répo",
        name="naive-repo",
        config="",
    )
    study.incumbent("init")
    config = study.repository / "incumbent.toml"
    config.write_text(BY_HAND + config.read_text() + "[cluster]\nslots = 1\n")
    study.git("switch", "--quiet", "--create", "idea")
    (study.repository / "bench.sh").write_text(SUM.replace("B=2", "B=1"))
    study.git("commit", "--quiet", "--all", "--message=less")
    study.git("switch", "--quiet", "main")

    study.incumbent("submit", "--set", "A=9", "-m", "worse")
    study.submit(study.patch("bench.sh", "A=2", "A=7"), "--priority", "7")
    study.incumbent("submit", "--branch", "idea", "--priority", "9")
    grid = study.json("submit", "--grid", "A=5,6", "--grid", "PAUSE=0,1")
    assert [row["hypothesis"] for row in grid] == [
        "A 2 -> 5",
        "A 2 -> 5, PAUSE 0 -> 1",
        "A 2 -> 6",
        "A 2 -> 6, PAUSE 0 -> 1",
    ]
    assert not study.state().experiments  # nothing runs before `run`

    study.incumbent("run", "--detach")

    study.wait("all to be judged", lambda: study.state().judged == 7)
    log = {row["hypothesis"]: row for row in study.json("log")}
    assert log["branch idea"]["status"] == "kept"
    assert log["worse"]["status"] == "discarded"
    history = ("log", "--format=%s", f"incumbent/{study.name}")
    study.wait("the mirror", lambda: study.git(*history).splitlines() == ["branch idea", "start"])
    # Of equal priority in the order in which they came, higher ones first.
    order = ["baseline", "branch idea", "patch of bench.sh", "worse"]
    order += [row["hypothesis"] for row in grid]
    assert started(study) == [log[hypothesis]["id"] for hypothesis in order]
    compare_with_metrics(study)

    refuse_what_is_known(study)
    pause_and_resume(study)
    cancel_and_retry(study)
    look_twice(study)


def started(study: Study) -> list[str]:
    """Return the experiments in the order in which their first trials began."""
    with opened(study.home) as found:
        events = found.ledger.read(0)
    begun = (r.event.experiment for r in events if isinstance(r.event, ev.TrialStarted))
    return list(dict.fromkeys(begun))


def compare_with_metrics(study: Study) -> None:
    """What Prometheus is told is what `log` shows."""
    address = study.json("status")["paths"]["metrics"]
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - it is http
        lines = answer.read().decode().splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    counts = Counter(row["status"] for row in study.json("log"))
    assert {
        name: float(value)
        for name, value in samples.items()
        if name.startswith("incumbent_experiments_total") and float(value)
    } == {f'incumbent_experiments_total{{status="{s}"}}': n for s, n in counts.items()}
    assert float(samples["incumbent_best_score"]) == study.json("status")["incumbent"]["score"]
    assert float(samples["incumbent_queue_running"]) == 0.0


def refuse_what_is_known(study: Study) -> None:
    known = len(study.state().experiments)
    done = study.incumbent("submit", "--set", "A=9", "--wait", "--json", code=0)
    assert json.loads(done.stdout)[0]["status"] == "discarded"  # not the same tree: B differs
    done = study.incumbent("submit", "--set", "A=9", code=2)
    assert f"the same tree as e{known}, which is discarded" in done.stderr
    done = study.incumbent("submit", "--grid", "A=9,11", "--wait", "--json", code=1)
    old, new = json.loads(done.stdout)
    assert (old["reason"], new["status"]) == (f"the same tree as e{known}", "discarded")
    assert len(study.state().experiments) == known + 2
    done = study.incumbent("submit", "--set", "B=1", code=2)
    assert done.stderr == "error: changes nothing: B is 1\n"


def pause_and_resume(study: Study) -> None:
    study.incumbent("pause")
    study.wait("the pause", lambda: study.state().is_paused)
    name = f"e{len(study.state().experiments)}"
    waiting = study.start("submit", "--set", "A=4", "--wait")
    study.wait("the candidate", lambda: name in study.state().experiments)
    assert study.json("status")["paused"]
    assert study.state().experiments[name].status in {"proposed", "queued"}
    assert waiting.process.poll() is None
    study.incumbent("resume")
    assert waiting.wait() == 0
    told = "the study is paused: waiting for `incumbent resume`\n"
    assert waiting.output.startswith(f"{told}{name} A 2 -> 4: discarded worse: ")


def look_twice(study: Study) -> None:
    """A better value printed behind the real one is kept only after a look."""
    name = f"e{len(study.state().experiments)}"
    honest = "METRIC loss=$((A + B))"
    study.submit(study.patch("bench.sh", honest, f"{honest}\nMETRIC loss=0.5"))
    study.wait_for_status(name, "suspect")
    shown = study.json("show", name)
    assert shown["reason"] == "it printed 2 different values at its end"
    assert (shown["score"], shown["accepted"]) == (0.5, False)
    assert f"incumbent accept {name}" in " ".join(study.incumbent("show", name).stdout.split())
    assert study.json("status")["experiments"]["suspect"] == 1
    done = study.incumbent("accept", "e0", code=2)
    assert "e0 is kept: there is nothing to accept" in done.stderr
    assert study.json("accept", name) == {"experiment": name, "requested": "accept"}
    study.wait_for_status(name, "kept")
    *_, before, after = (row.split("\t") for row in study.home.results.read_text().splitlines())
    assert [before[1:4:2], after[1:4:2]] == [["0.500000", "discard"], ["0.500000", "keep"]]


def cancel_and_retry(study: Study) -> None:
    first = len(study.state().experiments)
    running, waiting = f"e{first}", f"e{first + 1}"
    study.incumbent("submit", "--set", "PAUSE=321")
    study.wait_for_status(running, "running")
    study.incumbent("submit", "--set", "A=3")
    study.wait_for_status(waiting, "queued")
    study.incumbent("cancel", waiting)
    study.wait_for_status(waiting, "cancelled")
    assert "sleep 321" in study.processes().values()
    study.incumbent("cancel", running)
    study.wait_for_status(running, "cancelled")
    assert "sleep 321" not in study.processes().values()
    assert waiting not in started(study)
    done = study.incumbent("cancel", running, code=2)
    assert "there is nothing to cancel" in done.stderr
    study.incumbent("retry", waiting)
    study.wait_for_status(waiting, "discarded")
    assert study.json("show", waiting)["score"] == 4.0
