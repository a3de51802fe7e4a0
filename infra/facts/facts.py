"""What a study's state says, as JSON can hold it. Pure: clock and heartbeats are handed in.

One source for `--json`, tables and live views, so that they agree. Reads the state alone; does not
know where the ledger or the files of a study are.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from cluster.policy.device_classes import is_from_git, open_classes
from cluster.policy.verdicts import noise, repeats
from cluster.state.events import Recorded
from cluster.state.experiment import Experiment, Status
from cluster.state.state import SlotState, StudyState
from cluster.state.winners import takes_out
from eval.ladder import Step
from eval.metric import Goal
from eval.noise import without_outlier
from infra.facts.event_lines import event_line
from infra.facts.experiment_facts import (
    belief_facts,
    merges_of,
    person_commit_of,
    reverts_of,
    score_of,
)
from infra.facts.fact_records import (
    BaselineFacts,
    ExperimentFacts,
    IncumbentFacts,
    NoiseFacts,
    ShowFacts,
    SlotFacts,
    StatusFacts,
    StoryFacts,
)
from infra.facts.fates import end_seq
from infra.facts.final_facts import final_facts
from infra.facts.hints import NOTHING_KNOWN, Known, next_step
from infra.facts.holdout_facts import holdout_facts
from infra.facts.node_facts import node_facts, slot_condition, slot_note
from infra.facts.plain_text import counted
from infra.facts.proposer_facts import cost_facts, proposer_facts, task_facts
from infra.facts.proposer_records import CallFacts
from infra.facts.rung_facts import rung_facts
from infra.facts.seed_text import CHANGES_SEED
from infra.facts.time_facts import spent_facts, stage_facts, start_facts
from infra.facts.trial_facts import crash_of, finite, iso, marks_of, trial_facts
from trainer.ports import Progress
from trainer.trial import ExperimentId, TrialId, experiment_id, number_of

RECENT = 8
"""How many of the latest results a status holds."""
_DIED = "not in good order; controller.log may tell why, `incumbent run` carries on"
TIMED = 50
"""Over how many of the latest experiments it is told how trials spend their time."""


def status_facts(  # noqa: PLR0913 - whatever is told of a moment beside the state
    state: StudyState,
    *,
    now: datetime,
    is_running: bool,
    progress: Mapping[TrialId, Progress],
    phase: str = "",
    notice: str = "",
    rungs: Sequence[Step] = (),
    limits: Mapping[str, float] | None = None,
    paths: Mapping[str, str] | None = None,
) -> StatusFacts:
    """Return a study at one moment.

    Args:
        state: the study's state.
        now: the time, aware.
        is_running: whether a controller is alive.
        progress: the latest heartbeat of each running trial.
        phase: what the controller says it is doing; derived from the state where it says nothing.
        notice: what people should know for as long as it holds; passed through.
        rungs: the rungs of the budget ladder, as the configuration has them.
        limits: the study's limits by name; passed through.
        paths: where things are, by name; passed through.
    """
    latest = _latest(state)
    return {
        "study": state.study,
        "branch": f"incumbent/{state.study}",
        "phase": (is_running and phase) or _phase(state, is_running=is_running),
        "notice": notice,
        "running": is_running,
        "paused": state.is_paused,
        "stopping": state.stopping,
        "finished": state.finished,
        "failed": state.is_failed,
        "started_at": iso(state.started_at),
        "seconds": _since(state.started_at, now) or 0.0,
        # Nobody has recorded when a killed controller died; the last event is what is known.
        "running_seconds": max(0.0, state.running_s(now if is_running else state.heard_at or now)),
        "metric": {"name": state.metric, "goal": state.goal},
        "incumbent": _incumbent(state),
        "baseline": _baseline(state),
        "noise": _noise(state),
        "holdout": holdout_facts(state),
        "finals": [final_facts(state, final) for final in state.finals],
        "experiments": {status.value: state.count(status) for status in Status},
        "judged": state.judged,
        "promotions": state.promotions,
        "rate_per_hour": 3600 * _verdicts_per_s(state, now) if is_running else 0.0,
        "queue": {
            "submitted": len(state.submissions),
            "held": state.count(Status.HELD),
            "ready": state.count(Status.PROPOSED, Status.QUEUED),
            "running": state.count(Status.RUNNING),
        },
        "reference_class": "" if is_from_git(state) else state.reference_class,
        "rungs": rung_facts(state, rungs),
        "slots": [_slot(state, slot, progress, now) for slot in _by_name(state)],
        "nodes": node_facts(state, now, is_running=is_running),
        "slot_hours": state.slot_seconds / 3600,
        "spent": spent_facts(state.spent),
        "proposers": proposer_facts(state),
        "models": cost_facts(state),
        "time": stage_facts(latest),
        "starts": start_facts(latest),
        "limits": dict(limits or {}),
        "paths": dict(paths or {}),
        "recent": [_experiment(experiment) for experiment in latest[:RECENT]],
    }


def log_facts(state: StudyState) -> list[ExperimentFacts]:
    """Return all experiments, oldest first."""
    return [_experiment(state.experiments[e]) for e in sorted(state.experiments, key=number_of)]


def show_facts(
    state: StudyState,
    experiment: ExperimentId,
    events: Iterable[Recorded],
    known: Known = NOTHING_KNOWN,
    paths: Mapping[str, str] | None = None,
    *,
    call: CallFacts | None = None,
    notes: str = "",
    max_fixes: int = 0,
) -> ShowFacts:
    """Return everything about one experiment.

    Args:
        state: the study's state.
        experiment: its id.
        events: the study's events, or as many of them as are at hand: they give its story times.
        known: what a hint may rest on.
        paths: where things are, by name; passed through.
        call: the call that it came of; passed through.
        notes: what its author wrote with it; passed through.
        max_fixes: how many fixes in a row there may be; 0 if that is not known.

    Raises:
        KeyError: there is no such experiment.
    """
    found = state.experiments[experiment]
    score = found.score
    return {
        **_experiment(found),
        "next": next_step(found, known),
        "category": found.category,
        "expected_effect": finite(found.expected_effect),
        "call": call,
        "task": task_facts(found, max_fixes),
        "notes": notes,
        "tree": found.tree,
        "base_commit": found.base_commit,
        "rebased_from": list(found.rebased_from),
        "lines": found.lines,
        "accepted": found.is_accepted,
        "parameters": dict(found.parameters),
        "priority": found.priority,
        "proposed_at": found.proposed_at.isoformat(),
        "judged_at": iso(found.judged_at),
        "verdict": found.verdict.value if found.verdict else None,
        "values": list(found.values),
        "standard_error": finite(score.standard_error) if score else None,
        "belief": belief_facts(found.belief),
        "effect": belief_facts(found.effect),
        "chance": found.chance,
        "device_class": score.device_class if score else "",
        "generation": found.generation,
        "merge_of": found.merge_of,
        "merged_as": found.merged_as,
        "seeds": found.seeds.value if found.seeds else None,
        "chain": found.chain,
        "person_commit": person_commit_of(state, found.id),
        "reverts": takes_out(state, found),
        "reverted_by": reverts_of(state, found),
        "merges": merges_of(state, found),
        "paths": dict(paths or {}),
        "trials": [trial_facts(trial) for trial in found.trials],
        "controls": [trial_facts(trial) for trial in found.controls],
        "story": _story(state, found, events),
    }


def _phase(state: StudyState, *, is_running: bool) -> str:
    """Say in words what the study is doing."""
    if state.finished:
        return f"{'failed' if state.is_failed else 'finished'}: {state.finished}"
    if not is_running:
        return _rest(state)
    if state.stopping:
        return f"stopping: {counted(state.count(Status.RUNNING), 'trial')} still running"
    if state.running_since is None:
        return "starting"  # its process is there, and has not said so yet
    if state.is_paused:
        return "paused"
    return _searching(state)


def _rest(state: StudyState) -> str:
    if state.running_since is not None:  # its controller never said goodbye
        return f"stopped: {_DIED}"
    return "stopped" if state.seq else "not started"


def _searching(state: StudyState) -> str:
    if not any(slot.is_open for slot in state.slots.values()):
        return "waiting for workers"
    if not state.open_slots:
        return "waiting for a slot: all are blocked"
    if not state.lineage:
        return "measuring the baseline"
    if is_from_git(state):
        return "measuring the best so far again: its score was read from git"
    classes = set(open_classes(state))
    if classes and state.reference_class not in {"", *classes}:
        return f"searching, but nothing is promoted without a slot of {state.reference_class}"
    return "searching"


def _incumbent(state: StudyState) -> IncumbentFacts:
    incumbent, baseline = state.incumbent, state.baseline
    score, start = score_of(incumbent), score_of(baseline)
    gain = percent = None
    if score is not None and start is not None:
        gain = start - score if state.goal == Goal.MINIMIZE else score - start
        percent = 100 * gain / abs(start) if start else None
    return {
        "experiment": incumbent.id if incumbent else "",
        "commit": state.incumbent_commit,
        "score": score,
        "hypothesis": incumbent.hypothesis if incumbent else "",
        "improvement": finite(gain),
        "improvement_percent": finite(percent),
        "belief": belief_facts(incumbent.belief) if incumbent else None,
    }


def _noise(state: StudyState) -> NoiseFacts | None:
    """Return the noise of runs where the incumbent was measured."""
    if state.incumbent is None:
        return None
    device_class = state.incumbent.device_class
    found = noise(state, device_class)
    if not found.dof:
        return None
    told = sorted(repeats(state, device_class).items(), key=lambda one: number_of(one[0]))
    kept = without_outlier(told, lambda one: one[1])
    return {
        "sigma": found.sigma,
        "dof": found.dof,
        "runs": {name: len(values) for name, values in kept},
        "outlier": found.has_outlier,
        "device_class": device_class,
    }


def _baseline(state: StudyState) -> BaselineFacts:
    baseline = state.baseline
    return {
        "experiment": baseline.id if baseline else "",
        "commit": state.base_commit,
        "score": score_of(baseline),
    }


def _slot(
    state: StudyState, slot: SlotState, progress: Mapping[TrialId, Progress], now: datetime
) -> SlotFacts:
    experiment = experiment_id(slot.trial)
    heard = progress.get(slot.trial) or Progress(elapsed_s=0.0)
    found = state.experiments.get(experiment)
    return {
        "slot": slot.slot,
        "node": slot.node,
        "device": slot.device,
        "device_class": slot.device_class,
        "state": slot_condition(state, slot),
        "note": slot_note(state, slot),
        "trial": slot.trial,
        "experiment": experiment,
        "hypothesis": found.hypothesis if found else "",
        "seconds": _since(slot.since, now),
        "last_line": heard.last_line,
        "shift": slot.shift,
        "checked_at": iso(slot.checked_at),
        "points": {name: value for name, value in heard.points.items() if math.isfinite(value)},
    }


def _by_name(state: StudyState) -> list[SlotState]:
    """Slots in natural order: gpu-2 before gpu-10."""

    def key(slot: SlotState) -> tuple[str, int, str]:
        name, _, index = slot.slot.rpartition("-")
        return (name, int(index), "") if index.isdecimal() else (slot.slot, 0, slot.slot)

    return sorted(state.slots.values(), key=key)


def _latest(state: StudyState) -> list[Experiment]:
    ended = (e for e in state.experiments.values() if e.status.is_terminal)
    return heapq.nlargest(max(RECENT, TIMED), ended, key=lambda e: (end_seq(e), number_of(e.id)))


def _experiment(experiment: Experiment) -> ExperimentFacts:
    ran = [trial for trial in experiment.trials if trial.slot]
    return {
        "id": experiment.id,
        "kind": experiment.kind.value,
        "status": experiment.status.value,
        "score": score_of(experiment),
        "delta": finite(experiment.delta),
        "commit": experiment.commit,
        "promoted": experiment.promoted,
        "base": experiment.base,
        "proposer": experiment.proposer,
        "hypothesis": experiment.hypothesis,
        "seconds": experiment.seconds,
        "slot": ran[-1].slot if ran else "",
        "node": ran[-1].node if ran else "",
        "reason": experiment.reason,
        "crash": crash_of(experiment),
        "marks": [*marks_of(experiment.trials), *([CHANGES_SEED] if experiment.seeds else [])],
    }


def _story(
    state: StudyState, experiment: Experiment, events: Iterable[Recorded]
) -> list[StoryFacts]:
    seqs = {seq for seq, _ in experiment.story}
    found = {recorded.seq: recorded for recorded in events if recorded.seq in seqs}
    story: list[StoryFacts] = []
    for seq, name in experiment.story:
        line: StoryFacts = {"seq": seq, "event": name}
        if seq in found:
            line["at"] = found[seq].at.isoformat()
            line["text"] = event_line(found[seq].event, state)
        story.append(line)
    return story


def _since(start: datetime | None, now: datetime) -> float | None:
    # Clocks of nodes differ a little: a trial may seem to start in the future.
    return max(0.0, (now - start).total_seconds()) if start else None


def _verdicts_per_s(state: StudyState, now: datetime) -> float:
    """Rate of verdicts on proposals over the last few, per second; 0 before there are two."""
    if len(state.recent) < 2:
        return 0.0
    span = (now - state.recent[0]).total_seconds()
    return (len(state.recent) - 1) / span if span > 0 else 0.0
