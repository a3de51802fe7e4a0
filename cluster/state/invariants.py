"""What must hold of every state, whatever happened. Checked after every test."""

from collections import Counter
from collections.abc import Iterator

from cluster.state.experiment import Experiment, Kind, Status, TrialPhase
from cluster.state.node_state import MOST_RUNS, NodeStatus
from cluster.state.state import StudyState
from cluster.state.steps import is_judged
from cluster.state.trial_accounts import MOST_REPLICATED
from eval.ladder import MOST_COMPARED
from proposer.proposal import TaskKind
from trainer.trial import Ending, ExperimentId

_SCORED = frozenset(
    {
        Status.MEASURED,
        Status.SUSPECT,
        Status.WINNER,
        Status.KEPT,
        Status.DISCARDED,
        Status.MERGED,
    }
)
_BETTER = frozenset({Status.WINNER, Status.MERGING, Status.KEPT, Status.MERGED})
_LOOKS = frozenset({"ExperimentSuspected", "AcceptRequested", "RetryRequested"})


class Broken(AssertionError):
    """A state that cannot be."""


def check(state: StudyState) -> None:
    """Raise Broken, naming everything that does not hold."""
    problems = [*_indexes(state), *_branch(state), *_short_runs(state), *_proposing(state)]
    problems.extend(_nodes(state))
    for experiment in state.experiments.values():
        problems.extend(f"{experiment.id}: {text}" for text in _experiment(experiment))
    if problems:
        raise Broken("; ".join(problems))


def _indexes(state: StudyState) -> Iterator[str]:
    everything = dict(state.experiments)
    counts = Counter(e.status.value for e in everything.values())
    if {k: n for k, n in state.counts.items() if n} != counts:
        yield f"counts say {dict(state.counts)}, experiments {dict(counts)}"
    is_open = {e.id: e.status for e in everything.values() if not e.status.is_terminal}
    if dict(state.open) != is_open:
        yield f"open says {dict(state.open)}, experiments {is_open}"
    if state.judged != sum(is_judged(e.kind, e.status) for e in everything.values()):
        yield f"judged says {state.judged}"
    first: dict[str, str] = {}
    for number in range(len(everything)):
        experiment = everything.get(ExperimentId(f"e{number}"))
        if experiment is None or experiment.id != f"e{number}":
            yield f"e{number} is missing"
            continue
        first.setdefault(experiment.tree, experiment.id)
    if dict(state.trees) != first:
        yield "trees names other first experiments"
    several = {e.id for e in everything.values() if len(e.classes) > len(set(e.classes))}
    if several - set(state.replicated) and len(state.replicated) < MOST_REPLICATED:
        yield f"replicated says {state.replicated}, experiments {sorted(several)}"


def _branch(state: StudyState) -> Iterator[str]:
    for experiment in state.lineage:
        found = state.experiments[experiment]
        if found.status is not Status.KEPT:
            yield f"{experiment} is on the branch but {found.status}"
        if not found.values:
            yield f"{experiment} is on the branch without a score of its tree"
    if len(set(state.lineage)) != len(state.lineage):
        yield f"lineage {state.lineage} repeats itself"
    if state.lineage and state.incumbent_commit != _head(state):
        yield "the incumbent's commit is not what was promoted last"


def _short_runs(state: StudyState) -> Iterator[str]:
    for run in state.short_runs:
        found = (t for t in state.experiments[run.experiment].trials if t.rung_s == run.budget_s)
        reached = [t.outcome.short_value for t in found if t.outcome is not None]
        if run.value not in reached:
            yield f"{run} is of no trial"
        alike = [other for other in state.short_runs if other.is_comparable(run)]
        if len({other.experiment for other in alike}) != len(alike) or len(alike) > MOST_COMPARED:
            yield f"short runs of {run.budget_s} s are too many, or of one experiment"


def _proposing(state: StudyState) -> Iterator[str]:
    ended = sum(account.calls for account in state.accounts.values())
    if ended + len(state.reserved) != state.calls:
        yield f"{state.calls} calls were reserved, {ended} ended, {len(state.reserved)} are made"
    if set(state.reserved) & set(state.replies):
        yield "a call has a reply though it has not ended"
    if any(account.usd < 0 for account in state.accounts.values()):
        yield "a call cost less than nothing"
    if len(set(state.tasks)) != len(state.tasks):
        yield f"a task is there twice: {state.tasks}"
    for key in state.tasks:
        kind, _, name = key.partition("/")
        if kind not in set(TaskKind) or ExperimentId(name) not in state.experiments:
            yield f"{key} is no task"
    first: dict[str, ExperimentId] = {}
    for experiment in state.experiments.values():
        if experiment.fixes and not experiment.task.startswith(f"{TaskKind.FIX}/"):
            yield f"{experiment.id} fixes something without having been asked to"
        if (
            experiment.origin
            and first.setdefault(experiment.origin, experiment.id) != experiment.id
        ):
            yield f"{experiment.id} is made of {experiment.origin} a second time"


def _nodes(state: StudyState) -> Iterator[str]:
    for name, node in state.nodes.items():
        if node.node != name:
            yield f"node {node.node} is filed under {name}"
        if node.status not in {NodeStatus.JOINED, NodeStatus.LEFT} and not node.reason:
            yield f"{name} is {node.status}, and nothing says why"
        if not node.joins and node.status in {NodeStatus.DRAINING, NodeStatus.LEFT}:
            yield f"{name} is {node.status} though it never joined"
    for name, runs in state.node_runs.items():
        if not 0 < len(runs) <= MOST_RUNS:
            yield f"{len(runs)} runs are remembered of {name}"
        if any(run.experiment not in state.experiments for run in runs):
            yield f"a run on {name} is of no experiment"


def _head(state: StudyState) -> str:
    last = state.experiments[state.lineage[-1]]
    return last.promoted or state.base_commit


def _experiment(experiment: Experiment) -> Iterator[str]:
    running = [t for t in experiment.trials if t.phase is TrialPhase.RUNNING]
    queued = [t for t in experiment.trials if t.phase is TrialPhase.QUEUED]
    if len(running) != (experiment.status is Status.RUNNING):
        yield f"{experiment.status} with {len(running)} running trials"
    if len(queued) != (experiment.status is Status.QUEUED):
        yield f"{experiment.status} with {len(queued)} queued trials"
    yield from _rebased(experiment)
    if len({(t.id, t.attempt) for t in experiment.trials}) != len(experiment.trials):
        yield "an attempt appears twice"
    yield from _pruned(experiment)
    yield from _rungs(experiment)
    if experiment.status in _SCORED and not experiment.values:
        yield f"{experiment.status} without a score"
    if experiment.status is Status.HELD and experiment.trials:
        yield "a trial of it was queued before anybody approved of it"
    if experiment.status is Status.SUSPECT and (experiment.is_accepted or not experiment.reason):
        yield "suspect without a reason, or after it was accepted"
    aside = [t for t in experiment.trials if t.is_set_aside]
    if any(t.outcome is None or t.outcome.ending is not Ending.SCORED for t in aside):
        yield "a trial without a score was set aside"
    looked_at = [n for _, n in experiment.story if n in _LOOKS]
    if experiment.status in _BETTER and looked_at[-1:] == ["ExperimentSuspected"]:
        yield f"{experiment.status} without a second look"
    if bool(experiment.merge_of) != (experiment.kind is Kind.MERGE):
        yield f"a {experiment.kind} that carries {experiment.merge_of or 'nothing'}"


def _rebased(experiment: Experiment) -> Iterator[str]:
    withdrawn = [t for t in experiment.trials if t.phase is TrialPhase.WITHDRAWN]
    if any(trial.started_at or trial.outcome for trial in withdrawn):
        yield "a trial was withdrawn that had begun"
    if experiment.rebased_from and experiment.kind is not Kind.PROPOSAL:
        yield f"a {experiment.kind} was rebased"


def _pruned(experiment: Experiment) -> Iterator[str]:
    if experiment.given_up and experiment.status is not Status.RUNNING:
        yield f"{experiment.status}, though a trial that runs was given up"
    if experiment.status is Status.PRUNED and (experiment.values or not experiment.reason):
        yield "pruned though it has a score, or without a reason"


def _rungs(experiment: Experiment) -> Iterator[str]:
    on_rungs = [t for t in experiment.trials if t.rung_s is not None]
    if on_rungs and experiment.kind is not Kind.PROPOSAL:
        yield f"a {experiment.kind} on a rung"
    for trial in experiment.trials:
        ending = trial.outcome.ending if trial.outcome else None
        if ending is (Ending.SHORT if trial.rung_s is None else Ending.SCORED):
            yield f"{trial.id} is {ending}, on a rung of {trial.rung_s}"
    reached = [t.rung_s for t in on_rungs if t.outcome and t.outcome.ending is Ending.SHORT]
    if len(set(reached)) != len(reached):
        yield f"a rung was completed twice: {reached}"
    if experiment.passed_s and experiment.passed_s not in reached:
        yield f"it went on from {experiment.passed_s} s, but completed {reached}"
