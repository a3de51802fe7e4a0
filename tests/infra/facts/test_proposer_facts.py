"""What proposers brought and cost is told truly, in facts, in words and to Prometheus."""

import io
import json
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from cluster.ledger.ledger import InMemoryLedger
from cluster.state import events as ev
from cluster.state.experiment import Kind
from eval.judge import Verdict
from infra.display.tables import render_show, render_status
from infra.facts.author_notes import author_notes
from infra.facts.facts import show_facts, status_facts
from infra.facts.proposer_facts import call_events, call_facts, confirmed_wins
from infra.metrics.prometheus import MetricsObserver
from tests.infra.study_factory import Study, calls, commit, metric
from trainer.trial import ExperimentId


def status(study: Study, **more: object) -> dict[str, object]:
    given = {"now": study.now, "is_running": True, "progress": {}, **more}
    return status_facts(study.state, **given)


@pytest.fixture
def study() -> Study:
    """One kept patch of the tuner, one candidate of a model that crashed, three calls."""
    study = Study()
    study.baseline(0.41)
    study.keep("LR 0.1 -> 0.2", 0.38)
    study.discard("DEPTH 2 -> 1", 0.44)
    calls(study)
    return study


def proposed(study: Study, **more: object) -> ExperimentId:
    """Propose what came of the first call."""
    experiment = study.state.next_experiment
    about = {
        "experiment": experiment,
        "kind": Kind.PROPOSAL,
        "commit": commit(experiment),
        "tree": f"tree of {experiment}",
        "base": study.state.incumbent.id,
        "base_commit": study.state.incumbent_commit,
        "lines": 3,
        "proposer": "claude",
        "hypothesis": "warm up",
        "category": "schedule",
        "expected_effect": 0.02,
        "origin": "c1/1",
    }
    study.tell(ev.ExperimentProposed(**{**about, **more}))
    return experiment


def test_calls_of_all_endings_are_added_up_by_proposer(study: Study) -> None:
    facts = status(study)
    claude, tuner = facts["proposers"]
    assert (claude["name"], tuner["name"]) == ("claude", "tuner")
    assert (claude["calls"], claude["usd"]) == (3, pytest.approx(0.8))
    assert claude["tokens"] == {
        "input": 3000, "cache_read": 6000, "cache_write": 1500, "output": 300,
    }  # fmt: skip
    assert claude["trouble"]["reason"] == "529 overloaded"
    assert (tuner["proposals"], tuner["kept"], tuner["wins"]) == (2, 1, 1)
    assert facts["models"]["refused"] == "claude"
    assert facts["models"]["usd_per_win"] == pytest.approx(0.8)


def test_what_a_win_costs_is_what_all_cost_shared_among_the_wins(study: Study) -> None:
    study.keep("DEPTH 2 -> 3", 0.3)
    facts = status(study)
    assert facts["models"]["usd_per_win"] == pytest.approx(0.4)
    hours = facts["models"]["gpu_hours_per_win"]
    assert hours == pytest.approx(study.state.slot_seconds / 3600 / 2)
    assert hours > 0
    out = io.StringIO()
    render_status(facts, file=out)
    assert f"{hours:.3g} h of slots and $0.40, 2 confirmed wins" in out.getvalue()


def test_a_patch_that_was_taken_out_again_is_no_confirmed_win(study: Study) -> None:
    assert [win.id for win in confirmed_wins(study.state)] == ["e1"]
    revert = proposed(study, reverts=ExperimentId("e1"), hypothesis="without e1", origin="")
    study.measure(revert, 0.3)
    study.judge(revert, Verdict.KEEP)
    study.promote(revert)
    assert confirmed_wins(study.state) == []
    assert status(study)["models"]["usd_per_win"] is None


@pytest.mark.usefixtures("in_tokyo")
def test_a_status_says_what_it_cost_of_which_limit_and_who_is_in_trouble(study: Study) -> None:
    out = io.StringIO()
    render_status(status(study, limits={"usd": 25.0}), file=out)
    said = out.getvalue()
    assert "models    $0.80 of $25.00, 3 calls, 10,800 tokens; a limit holds claude back" in said
    assert "proposer  claude: 0 proposed, 0 kept, 3 calls, $0.80" in said
    until = study.state.troubled["claude"].until
    assert f"in trouble until {until.astimezone():%H:%M}: 529 overloaded" in said


def test_an_experiment_is_shown_with_its_call_and_what_was_expected(study: Study) -> None:
    name = proposed(study)
    study.measure(name, 0.5)
    study.judge(name, Verdict.DISCARD)
    ledger = InMemoryLedger()
    ledger.append([ev.Draft(id=r.id, at=r.at, event=r.event) for r in study.events])
    call = call_facts(call_events(ledger, study.state.experiments[name]))
    assert call is not None
    assert (call["call"], call["usd"], call["proposals"]) == ("c1", 0.25, 2)
    facts = show_facts(study.state, name, study.events, call=call, notes="warmup helps")
    out = io.StringIO()
    render_show(facts, file=out)
    said = out.getvalue()
    assert "claude (schedule)" in said
    assert "+0.02; measured -0.1" in said
    assert "c1 of claude-opus-5-5, to propose: $0.25 for 2 proposals, 3,600 tokens" in said
    assert "warmup helps" in said


def test_a_fix_says_whose_it_is_and_which(study: Study) -> None:
    crashed = proposed(study)
    fix = proposed(study, task=f"fix/{crashed}", hypothesis="warm up, spelt right")
    facts = show_facts(study.state, fix, study.events, max_fixes=2)
    assert facts["task"] == {"kind": "fix", "experiment": crashed, "number": 1, "most": 2}
    out = io.StringIO()
    render_show(facts, file=out)
    assert f"mends {crashed}, fix 1 of 2" in out.getvalue()


def test_an_experiment_without_a_call_has_none(study: Study) -> None:
    ledger = InMemoryLedger()
    assert call_facts(call_events(ledger, study.state.experiments[ExperimentId("e1")])) is None


@pytest.mark.parametrize(
    ("reply", "origin", "notes"),
    [
        ({"notes": "b\x1b[31m"}, "c1/1", "b"),
        ({"notes": 3}, "c1/0", ""),
        ({}, "c1/4", ""),
        ([], "c1/0", ""),
        ({}, "../../c1/0", ""),
        ({}, "", ""),
    ],
)
def test_notes_are_taken_for_text_or_for_nothing(
    tmp_path: Path, reply: object, origin: str, notes: str
) -> None:
    kept = {"call": "c1", "settlement": {"reply": json.dumps(reply)}}
    (tmp_path / "c1.json").write_text(json.dumps(kept))
    assert author_notes(tmp_path, origin).startswith(notes)
    assert "\x1b" not in author_notes(tmp_path, origin)
    assert bool(author_notes(tmp_path, origin)) is bool(notes)


def test_prometheus_is_told_by_proposer(study: Study) -> None:
    observer = study.watch(MetricsObserver(metric(), port=-1, clock=lambda: study.now))
    text = generate_latest(observer.registry).decode()
    assert 'incumbent_calls_total{proposer="claude"} 3.0' in text
    assert 'incumbent_tokens_total{kind="cache_read",proposer="claude"} 6000.0' in text
    assert 'incumbent_usd_total{proposer="claude"} 0.8' in text
    assert 'incumbent_proposer_troubled{proposer="claude"} 1.0' in text
    assert 'incumbent_proposer_troubled{proposer="tuner"} 0.0' in text
