"""What people are shown of smoke runs: whether there are any, and the log of one that failed."""

import io
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.state.experiment import Kind
from eval.judge import Verdict
from infra.cli import cmd_logs
from infra.display import tables
from infra.facts.event_lines import event_line
from infra.facts.facts import show_facts
from infra.local.home import StudyHome
from infra.local.trial_logs import find_log, is_running, trial_of
from tests.infra.study_factory import Study, crashed, scored
from trainer.trial import Ending, ExperimentId, Probe, TrialId

PROBE = Probe(budget_s=10.0, ending=Ending.SCORED, wall_s=12.3, obeys=True)
OBEYS = "the script obeys INCUMBENT_BUDGET_S, so shorter runs can go first"
DOES_NOT = (
    "the script does not obey INCUMBENT_BUDGET_S (told 10 s, it took 298 s), "
    "so shorter runs are left out"
)
FAILS = "shorter runs are left out: one of 10 s timed out: reached the time limit"


def probed(probe: Probe) -> Study:
    """A study whose baseline has told this."""
    study = Study(slots=1)
    study.start(study.propose("baseline", kind=Kind.BASELINE))
    study.finish("e0", replace(scored(0.41), probe=probe))
    return study


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (PROBE, OBEYS),
        (replace(PROBE, wall_s=298.4, obeys=False), DOES_NOT),
        (
            replace(PROBE, ending=Ending.TIMED_OUT, reason="reached the time limit", obeys=False),
            FAILS,
        ),
    ],
)
def test_the_baseline_tells_in_one_line_whether_there_are_smoke_runs(
    probe: Probe, words: str
) -> None:
    study = probed(probe)
    event = study.events[-1].event
    assert event_line(event, study.state) == f"scored e0.1: val_loss 0.41; {words}"
    study.judge("e0", Verdict.KEEP)
    output = io.StringIO()
    tables.render_show(show_facts(study.state, ExperimentId("e0"), study.events), file=output)
    (line,) = (each for each in output.getvalue().splitlines() if each.startswith("short runs"))
    assert " ".join(line.split()) == f"short runs {words}"


@pytest.fixture
def home(tmp_path: Path) -> StudyHome:
    found = StudyHome(directory=tmp_path / "study", repository=tmp_path, name="mar5")
    found.logs.mkdir(parents=True)
    return found


def test_the_log_of_a_smoke_run_is_shown_until_there_is_one_of_the_full_run(
    home: StudyHome,
) -> None:
    study = Study(slots=1)
    study.baseline(0.41)
    study.start(study.propose("LR 1 -> 2"))
    assert find_log(home, study.state, "e1") is None
    smoke, full = home.logs / "e1.1-smoke.log", home.logs / "e1.1.log"
    smoke.touch()
    assert find_log(home, study.state, "e1") == smoke
    assert find_log(home, study.state, "e1.1") == smoke
    full.touch()
    assert find_log(home, study.state, "e1") == full


def test_a_smoke_runs_log_is_its_trials(home: StudyHome) -> None:
    study = Study(slots=1)
    study.baseline(0.41)
    study.start(study.propose("LR 1 -> 2"))
    study.lose("e1")
    study.start("e1")
    logs = [home.logs / f"e1.1{name}.log" for name in ("", "-a2", "-smoke", "-a2-smoke")]
    assert {trial_of(log) for log in logs} == {TrialId("e1.1")}
    logs[2].touch()
    assert find_log(home, study.state, "e1") == logs[2]
    logs[3].touch()
    assert find_log(home, study.state, "e1") == logs[3]
    assert is_running(study.state, trial_of(logs[3]))
    study.finish("e1", crashed())
    assert not is_running(study.state, trial_of(logs[3]))


def test_who_follows_a_smoke_run_is_shown_the_full_run_next(
    home: StudyHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(slots=1)
    study.baseline(0.41)
    study.start(study.propose("LR 1 -> 2"))
    (home.logs / "e1.1-smoke.log").write_text("smoke\n")
    happens: list[Callable[[], object]] = [
        lambda: (home.logs / "e1.1.log").write_text("full\n"),
        lambda: study.finish("e1", crashed()),
    ]
    opened = SimpleNamespace(state=lambda: study.state)
    monkeypatch.setattr("infra.local.study.opened", lambda _: nullcontext(opened))
    monkeypatch.setattr(cmd_logs, "choose_study", lambda _: home)
    pauses = SimpleNamespace(sleep=lambda _: happens.pop(0)())
    monkeypatch.setattr(cmd_logs, "time", pauses)  # something happens in each
    cmd_logs.logs("e1", follow=True)
    assert capsys.readouterr().out == "smoke\nfull\n"
    assert not happens
