"""Why the incumbent is the incumbent: the promotions that led to it, and what each rests on. Pure.

Knows the state and the events of promotions. Does not know how it is shown.
"""

from collections.abc import Iterable
from typing import TypedDict

from cluster.policy.reverts import taken_out_by
from cluster.state.events import Promoted, Recorded
from cluster.state.experiment import Experiment, TrialPhase
from cluster.state.state import StudyState
from cluster.state.winners import brought, is_moot, takes_out
from infra.facts.experiment_facts import belief_facts, score_of
from infra.facts.fact_records import BeliefFacts
from trainer.trial import ExperimentId, number_of


class RunFacts(TypedDict):
    """One trial of a promoted tree."""

    trial: str
    ending: str
    """How it ended, or where it stands."""
    value: float | None


class StepFacts(TypedDict):
    """One commit of the branch, as the baseline or by a promotion."""

    experiment: str
    commit: str
    promoted_at: str | None
    """None for the baseline."""
    hypothesis: str
    proposer: str
    carries: str
    """For a merge: the proposal whose patch it brought; else empty."""
    changes_seed: bool
    """Its patch changes the seed, and it was judged on others than its own."""
    base: str
    """What its patch was made on, or merged onto."""
    rebased_from: list[str]
    """The bases before that one, from which it was rebased before it ran."""
    replaces: str
    """The incumbent before it; for a link of a chain, the link below it."""
    score: float | None
    belief: BeliefFacts | None
    """Its tree's true score, by all verdicts so far."""
    delta: float | None
    """Improvement over what it was judged against."""
    effect: BeliefFacts | None
    chance: float | None
    reason: str
    """The verdict's, or why its own trial failed."""
    trials: list[RunFacts]
    superseded: list[str]
    """Promoted experiments whose patches its tree does not hold."""
    on_branch: bool
    """The incumbent's tree holds its patch by way of it; nothing has superseded it since."""
    takes_out: str
    """For a revert and its merges: whose patch; else empty."""
    taken_out_by: str
    """The step that took its patch out of the incumbent's tree; empty if none did."""


class LeftBehindFacts(TypedDict):
    """A promoted patch that a later promotion left out."""

    experiment: str
    by: str
    """The promotion that did."""
    fate: str
    """What became of it since, in words."""


class WhyFacts(TypedDict):
    """What `why --json` prints."""

    study: str
    metric: str
    goal: str
    incumbent: str
    """Empty while the baseline is not measured."""
    commit: str
    steps: list[StepFacts]
    """In the order of the branch's commits, the baseline first."""
    left_behind: list[LeftBehindFacts]


def promotion_seqs(state: StudyState) -> list[int]:
    """Return which events of a study are promotions, in order."""
    stories = (experiment.story for experiment in state.experiments.values())
    return sorted({seq for story in stories for seq, name in story if name == Promoted.__name__})


def why_facts(state: StudyState, events: Iterable[Recorded]) -> WhyFacts:
    """Return why the incumbent is what it is; `events` are those of `promotion_seqs`."""
    steps: list[StepFacts] = []
    left: list[LeftBehindFacts] = []
    if state.lineage and state.baseline is not None:
        steps.append(_step(state, state.baseline, state.base_commit))
    for recorded in events:
        event = recorded.event
        if not isinstance(event, Promoted):
            continue
        below: str = event.replaces
        commits = [(link.experiment, link.commit) for link in event.carried]
        for name, commit in (*commits, (event.experiment, event.commit)):
            step = _step(state, state.experiments[name], commit)
            step["replaces"], step["promoted_at"] = below, recorded.at.isoformat()
            is_out = bool(step["taken_out_by"])
            step["on_branch"] |= event.experiment in state.lineage and not is_out
            steps.append(step)
            below = name
        steps[-1]["superseded"] = list(event.lacks)
        left += [
            {"experiment": name, "by": event.experiment, "fate": _fate(state, name)}
            for name in event.lacks
        ]
    return {
        "study": state.study,
        "metric": state.metric,
        "goal": state.goal,
        "incumbent": state.lineage[-1] if state.lineage else "",
        "commit": state.incumbent_commit,
        "steps": steps,
        "left_behind": left,
    }


def _step(state: StudyState, experiment: Experiment, commit: str) -> StepFacts:
    return {
        "experiment": experiment.id,
        "commit": commit,
        "promoted_at": None,
        "hypothesis": experiment.hypothesis,
        "proposer": experiment.proposer,
        "carries": brought(state, experiment)[-1] if experiment.merge_of else "",
        "changes_seed": experiment.seeds is not None,
        "base": experiment.base,
        "rebased_from": list(experiment.rebased_from),
        "replaces": "",
        "score": score_of(experiment),
        "belief": belief_facts(experiment.belief),
        "delta": experiment.delta,
        "effect": belief_facts(experiment.effect),
        "chance": experiment.chance,
        "reason": experiment.reason,
        "trials": [
            {
                "trial": trial.id,
                "ending": (trial.outcome.ending if trial.outcome else trial.phase).value,
                "value": trial.outcome.value if trial.outcome else None,
            }
            for trial in experiment.trials
            if trial.phase is not TrialPhase.WITHDRAWN
        ],
        "superseded": [],
        "on_branch": experiment.id in state.lineage,
        "takes_out": takes_out(state, experiment),
        "taken_out_by": taken_out_by(state, experiment),
    }


def _fate(state: StudyState, name: ExperimentId) -> str:
    """Say what became of a patch that was left behind."""
    if name in state.rejoining:
        return "waits to be merged again"
    if name in state.lineage:
        return "is on the branch again"
    experiment = state.experiments[name]
    if is_moot(state, name, state.lineage[-1]):
        return "took out what is not there any more"
    later = [m for m in state.experiments.values() if m.merge_of == name]
    if later:
        last = max(later, key=lambda merge: number_of(merge.id))
        return f"merged again as {last.id}: {last.status.words}"
    ends = {event for _, event in experiment.story}
    if "MergeConflicted" in ends:
        return "could not be merged again: it conflicts"
    return "holds nothing that is not there" if "MergeRedundant" in ends else "was given up"
