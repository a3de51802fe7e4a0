"""The budget ladder as JSON can hold it and in words: what its rungs did, or why there are none.

Pure; the rungs are handed in, as the configuration has them.
"""

from collections.abc import Sequence

from cluster.ledger.codec import to_plain
from cluster.state.experiment import Experiment, Status
from cluster.state.state import StudyState
from eval.ladder import Step
from infra.facts.fact_records import RungFacts, TrialFacts
from infra.facts.plain_text import number, one_line
from infra.facts.probe_text import probe_words
from trainer.trial import Ending


def rung_facts(state: StudyState, rungs: Sequence[Step]) -> RungFacts | None:
    """Return what became of candidates on each rung; None where there are no rungs."""
    if not rungs:
        return None
    reached = {step.budget_s: 0 for step in rungs}
    stopped = dict(reached)
    for experiment in state.experiments.values():
        completed = _completed(experiment)
        for budget_s in completed:
            if budget_s in reached:
                reached[budget_s] += 1
        if experiment.status is Status.PRUNED and experiment.trials[-1].rung_s in completed:
            stopped[completed[-1]] = stopped.get(completed[-1], 0) + 1
    return {
        "off": _why_off(state),
        "steps": [
            {
                "budget_s": step.budget_s,
                "keep": step.keep,
                "completed": reached[step.budget_s],
                "stopped": stopped[step.budget_s],
            }
            for step in rungs
        ],
    }


def rung_words(facts: RungFacts | None) -> str:
    """Return what became of candidates on rungs, in one line."""
    if facts is None:
        return ""
    if facts["off"]:
        return f"off: {facts['off']}"
    told = (
        f"{step['budget_s']:g} s: {step['completed']} completed, {step['stopped']} stopped"
        for step in facts["steps"]
    )
    return "; ".join(told)


def remark(trial: TrialFacts) -> str:
    """Say of a trial that it is on a rung, was set aside, or why it failed."""
    outcome = trial["outcome"] or {}
    reason = "set aside" if trial["set_aside"] else one_line(str(outcome.get("reason", "")))
    if trial["rung_s"] is None:
        return reason
    reached = outcome.get("short_value")
    told = reason if reached is None else number(reached)
    return ": ".join(filter(None, (f"rung of {trial['rung_s']:g} s", told)))


def _completed(experiment: Experiment) -> list[float]:
    return [
        trial.rung_s
        for trial in experiment.trials
        if trial.rung_s is not None and trial.outcome and trial.outcome.ending is Ending.SHORT
    ]


def _why_off(state: StudyState) -> str:
    """Say why candidates have no rungs; empty if they have, or will when the baseline is known."""
    baseline = state.baseline
    if baseline is None or not baseline.values:
        return ""
    probe = baseline.probe
    if probe is None:
        return "the baseline was measured before, so it was not asked whether it obeys its budget"
    return "" if probe.obeys else probe_words(to_plain(probe))
