"""What --json prints."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import get_type_hints

import pytest

from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.state import StudyState
from eval.judge import Verdict
from infra.facts.fact_records import ExperimentFacts, ShowFacts, StatusFacts
from infra.facts.facts import RECENT, log_facts, show_facts, status_facts
from infra.facts.slots_text import blocked, in_use
from tests.infra.study_factory import BEGIN, Study, believed, commit, eventful, measured, scored
from trainer.ports import Progress
from trainer.run_start import Start
from trainer.trial import ExperimentId, SlotId, TrialId


def status(study: Study, **more: object) -> StatusFacts:
    given = {"now": study.now, "is_running": True, "progress": {}, **more}
    return status_facts(study.state, **given)


@pytest.fixture
def whole() -> Study:
    study = Study(slots=0)
    study.tell(*eventful()[2:])
    return study


def test_facts_are_plain_json_with_every_promised_key(whole: Study) -> None:
    for facts, shape in (
        (status(whole), StatusFacts),
        (log_facts(whole.state)[1], ExperimentFacts),
        (show_facts(whole.state, ExperimentId("e3"), whole.events), ShowFacts),
    ):
        assert json.loads(json.dumps(facts, allow_nan=False)) == facts
        assert set(facts) == set(get_type_hints(shape))


def test_noise_and_beliefs_are_told_where_there_are_some() -> None:
    study = believed()
    facts = status(study)
    assert facts["noise"] == {
        "sigma": pytest.approx(0.04), "dof": 2, "runs": {"e0": 3}, "outlier": False,
        "device_class": "cpu",
    }  # fmt: skip
    assert facts["incumbent"]["belief"] == {"mean": 0.31, "sd": pytest.approx(0.01)}
    shown = show_facts(study.state, ExperimentId("e1"), study.events)
    assert shown["effect"] == {"mean": 0.085, "sd": pytest.approx(0.03)}
    assert shown["chance"] == 0.98
    baseline = show_facts(study.state, ExperimentId("e0"), study.events)
    assert baseline["belief"] == {"mean": 0.395, "sd": pytest.approx(0.02)}
    plain = Study()
    plain.baseline(0.4)
    assert status(plain)["noise"] is None
    assert status(plain)["incumbent"]["belief"] is None


def test_the_status_of_a_study_says_what_is_best_and_by_how_much() -> None:
    study = Study()
    study.baseline(0.4)
    study.keep("LR 0.1 -> 0.2", 0.3)
    facts = status(study)
    assert facts["branch"] == "incumbent/mar5"
    assert facts["metric"] == {"name": "val_loss", "goal": "minimize"}
    assert facts["baseline"]["score"] == 0.4
    incumbent = facts["incumbent"]
    assert (incumbent["experiment"], incumbent["score"]) == ("e1", 0.3)
    assert incumbent["commit"] == commit("promotion of e1")
    assert incumbent["improvement"] == pytest.approx(0.1)
    assert incumbent["improvement_percent"] == pytest.approx(25)
    assert facts["recent"][0]["id"] == "e1"


def test_an_improvement_upwards_is_positive_too() -> None:
    study = Study(goal="maximize")
    study.baseline(-0.5)
    study.keep("x", -0.4)
    assert status(study)["incumbent"]["improvement_percent"] == pytest.approx(20)


def test_the_time_that_a_study_runs_stands_still_while_it_is_stopped() -> None:
    study = Study()
    ran = (study.now - BEGIN).total_seconds() - 2  # the controller starts with the second event
    later = study.now + timedelta(hours=1)
    assert status(study, now=later)["running_seconds"] == ran + 3600
    assert status(study, now=later, is_running=False)["running_seconds"] == ran  # it was killed
    study.tell(ev.ControllerStopped(epoch=1, reason="stopped"))
    assert status(study, now=later, is_running=False)["running_seconds"] == ran + 1
    assert status(study, now=later)["seconds"] > 3600


def test_a_baseline_of_zero_has_no_percent() -> None:
    study = Study(goal="maximize")
    study.baseline(0.0)
    study.keep("x", 2.0)
    incumbent = status(study)["incumbent"]
    assert (incumbent["improvement"], incumbent["improvement_percent"]) == (2.0, None)


def test_a_study_that_has_not_begun_has_facts_as_well() -> None:
    facts = status_facts(StudyState(), now=BEGIN, is_running=False, progress={})
    assert facts["incumbent"]["score"] is None
    assert facts["phase"] == "not started"
    assert facts["experiments"] == {word.value: 0 for word in Status}
    assert json.dumps(facts, allow_nan=False)


def test_slots_tell_what_they_run_and_for_how_long() -> None:
    study = Study(slots=1)
    study.open_slot("gpu-10", note="a stranger holds 20 GB")
    study.open_slot("gpu-2")
    study.tell(ev.SlotClosed(slot=SlotId("gpu-2"), reason="its worker died"))
    trial = study.start(study.propose("LR 0.1 -> 0.2"))
    heard = Progress(elapsed_s=7, last_line="step 3", points={"loss": 0.5, "bad": float("nan")})
    facts = status(study, now=study.now + timedelta(seconds=8), progress={trial: heard})
    slots = {slot["slot"]: slot for slot in facts["slots"]}
    assert list(slots) == ["cpu-0", "gpu-2", "gpu-10"]
    states = [slot["state"] for slot in slots.values()]
    assert states == ["busy", "closed", "blocked"]
    busy = slots["cpu-0"]
    assert (busy["trial"], busy["experiment"], busy["hypothesis"]) == (
        "e0.1",
        "e0",
        "LR 0.1 -> 0.2",
    )
    assert (busy["seconds"], busy["last_line"], busy["points"]) == (8, "step 3", {"loss": 0.5})
    assert slots["gpu-10"]["note"] == "a stranger holds 20 GB"


def test_a_study_whose_slots_others_hold_says_that_it_waits_for_them() -> None:
    study = Study(slots=0)
    study.open_slot("gpu-0", note="held by the study digits")
    facts = status(study)
    assert facts["phase"] == "waiting for a slot: all are blocked"
    assert blocked(facts) == "gpu-0: held by the study digits"
    study.tell(ev.SlotClosed(slot=SlotId("gpu-0"), reason="the study ends"))
    assert in_use(status(study)) == []


def test_the_queue_counts_what_waits_and_what_runs() -> None:
    study = Study()
    study.baseline(0.4)
    study.start(study.propose("runs"))
    study.propose("waits")
    study.tell(ev.SubmissionReceived(submission="s-1", hypothesis="by hand", branch="mine"))
    assert status(study)["queue"] == {"submitted": 1, "held": 0, "ready": 1, "running": 1}


def test_the_rate_is_that_of_verdicts_while_a_controller_lives() -> None:
    study = Study()
    study.baseline(0.4)
    for _ in range(3):
        study.discard("x", 0.5)  # every 14 s
    assert status(study)["rate_per_hour"] == pytest.approx(3600 / 14)
    assert status(study, is_running=False)["rate_per_hour"] == 0


def test_the_phase_follows_the_study() -> None:
    study = Study(slots=0)
    phases = [status(study, phase="starting Ray")["phase"], status(study)["phase"]]
    study.open_slot("cpu-0")
    phases.append(status(study)["phase"])
    study.baseline(0.4)
    phases.append(status(study)["phase"])
    study.tell(ev.PauseRequested())
    phases.append(status(study)["phase"])
    study.start(study.propose("x"))
    study.tell(ev.StopRequested())
    phases.append(status(study)["phase"])
    phases.append(status(study, is_running=False)["phase"])
    study.tell(ev.ControllerStopped(epoch=1, reason="stopped"))
    phases.append(status(study, is_running=False)["phase"])
    study.tell(ev.StudyFinished(reason="the baseline crashed", failed=True))
    phases.append(status(study)["phase"])
    assert phases == [
        "starting Ray",
        "waiting for workers",
        "measuring the baseline",
        "searching",
        "paused",
        "stopping: 1 trial still running",
        "stopped: not in good order; controller.log may tell why, `incumbent run` carries on",
        "stopped",
        "failed: the baseline crashed",
    ]


def test_only_the_latest_results_are_recent(whole: Study) -> None:
    recent = status(whole)["recent"]
    assert len(recent) == RECENT
    assert [facts["id"] for facts in recent[:4]] == ["e30", "e29", "e27", "e26"]


def test_the_log_lists_all_experiments_in_order() -> None:
    study = Study()
    study.baseline(0.4)
    study.discard("DEPTH 2 -> 1", 0.5)
    for _ in range(9):
        study.propose("waits")
    log = log_facts(study.state)
    assert [facts["id"] for facts in log] == [f"e{n}" for n in range(11)]
    assert log[1] == {
        "id": "e1",
        "kind": "proposal",
        "status": "discarded",
        "score": 0.5,
        "delta": -0.1,
        "commit": commit("e1"),
        "promoted": "",
        "base": "e0",
        "proposer": "tuner",
        "hypothesis": "DEPTH 2 -> 1",
        "seconds": 10,
        "slot": "cpu-1",
        "node": "box",
        "reason": "worse",
        "crash": "",
        "marks": [],
    }
    assert (log[10]["score"], log[10]["delta"]) == (None, None)


def test_the_kind_of_a_crash_is_told_for_as_long_as_it_is_one() -> None:
    study = Study()
    study.baseline(0.4)
    name = study.crash("DEPTH 2 -> 0")
    assert log_facts(study.state)[1]["crash"] == "exception"
    study.tell(ev.RetryRequested(experiment=name))
    assert log_facts(study.state)[1]["crash"] == ""


def test_an_experiment_shows_its_trials_and_its_story_with_times(whole: Study) -> None:
    facts = show_facts(whole.state, ExperimentId("e3"), whole.events)
    endings = [trial["outcome"]["ending"] for trial in facts["trials"]]
    assert (facts["status"], facts["verdict"], endings) == ("kept", "keep", ["crashed", "scored"])
    assert [line["event"] for line in facts["story"]][:4] == [
        "ExperimentProposed",
        "TrialQueued",
        "TrialStarted",
        "TrialFinished",
    ]
    times = {recorded.seq: recorded.at.isoformat() for recorded in whole.events}
    assert all(line["at"] == times[line["seq"]] for line in facts["story"])
    assert facts["story"][3]["text"] == "crashed e3.1: ZeroDivisionError: division by zero"


def test_a_story_without_its_events_is_told_without_times(whole: Study) -> None:
    story = show_facts(whole.state, ExperimentId("e1"), [])["story"]
    assert story[0].keys() == {"seq", "event"}


def test_an_unknown_experiment_is_a_key_error(whole: Study) -> None:
    with pytest.raises(KeyError):
        show_facts(whole.state, ExperimentId("e999"), [])


def test_a_number_that_json_cannot_hold_is_null() -> None:
    study = Study()
    experiment = study.propose("prints 1e999")
    study.start(experiment)
    study.finish(experiment, scored(0.5, {"tokens": float("inf"), "steps": 3.0}))
    facts = show_facts(study.state, experiment, study.events)
    assert facts["standard_error"] is None
    assert facts["trials"][0]["outcome"]["metrics"] == {"tokens": None, "steps": 3.0}
    assert json.dumps(facts, allow_nan=False)


def test_reading_commands_import_nothing_heavy() -> None:
    program = (
        "import sys; import infra.facts.facts, infra.display.tables, infra.display.live_view; "
        "import infra.display.results_tsv, infra.display.picture; "
        "heavy = {'ray', 'torch', 'matplotlib', 'prometheus_client', 'numpy'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_trial_that_nothing_was_heard_of_yet_has_no_line() -> None:
    study = Study(slots=1)
    study.start(study.propose("x"))
    facts = status(study, progress={TrialId("e9.1"): Progress(elapsed_s=1, last_line="other")})
    assert facts["slots"][0]["last_line"] == ""


def test_odd_conditions_are_told_of_the_trial_and_of_the_experiment() -> None:
    study = Study()
    study.baseline(0.4)
    study.start(study.propose("slow and hot"))
    study.finish("e1", scored(0.5, telemetry=measured(steps_per_s=5.0, throttled_s=9.0)))
    marks = ["throttled", "slow"]
    assert [facts["marks"] for facts in log_facts(study.state)] == [[], marks]
    shown = show_facts(study.state, ExperimentId("e1"), study.events)
    assert (shown["marks"], shown["trials"][0]["marks"]) == (marks, marks)
    telemetry = shown["trials"][0]["outcome"]["telemetry"]
    assert (telemetry["steps_per_s"], telemetry["gpu"]["throttled_s"]) == (5.0, 9.0)


def test_a_status_tells_how_trials_started_and_why_not_warm() -> None:
    study = Study()
    study.baseline(0.4)  # of which nothing is known
    nothing = {"warm": 0, "gate": 0, "cold": 0, "reason": "", "reason_trials": 0}
    assert status(study)["starts"] == nothing
    study.run(0.5, start=Start.WARM)
    study.run(0.5, start=Start.COLD, cold_reason="first of its slot")
    for _ in range(2):
        study.run(0.5, start=Start.GATE, cold_reason="no script")
    told = {"warm": 1, "gate": 2, "cold": 1, "reason": "no script", "reason_trials": 2}
    assert status(study)["starts"] == told


def test_a_status_tells_how_trials_spend_their_time() -> None:
    study = Study()
    study.baseline(0.4)
    assert status(study)["time"] == {
        "trials": 1,
        "stages_s": {"materialise": 0.02, "train": 9.5, "report": 0.005},
        "training_share": None,
    }
    for n, share in ((1, 0.5), (2, 0.9), (3, 0.8)):
        study.start(study.propose("x"))
        told = {"train": 10.0, "start": 1.0, "steps": 10.0 * share}
        study.finish(f"e{n}", replace(scored(0.5), stages_s=told))
        study.judge(f"e{n}", Verdict.DISCARD)
    crashed = study.crash("y")
    assert study.state.experiments[crashed].status is Status.CRASHED
    time = status(study)["time"]
    assert (time["trials"], time["training_share"]) == (3, 0.8)
    assert time["stages_s"]["steps"] == 8.0


def test_what_was_pruned_is_told_with_its_reason_and_how_it_is_run_to_its_end(whole: Study) -> None:
    facts = show_facts(whole.state, ExperimentId("e24"), whole.events)
    assert (facts["status"], facts["score"]) == ("pruned", None)
    assert facts["reason"] == "hopeless: loss 9 at 35 % of the budget"
    assert facts["next"] == "`incumbent retry e24` runs it to its end"
    assert "given up e24.1: hopeless" in [line.get("text", "")[:24] for line in facts["story"]]
