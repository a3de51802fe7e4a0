"""What must be true of a study after any faults. Pure: over its events, its git and what is left.

Each rule is a generator of the sentences that it would complain with. The rules know as little as
they can of the program under test: they count events, and walk the branch. Only `folded` uses its
own fold, whose invariants are one more rule.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from cluster.state import events as ev
from cluster.state.events import Recorded
from cluster.state.experiment import Status
from cluster.state.invariants import Broken
from cluster.state.invariants import check as check_state
from cluster.state.state import StudyState
from cluster.state.steps import IllegalTransition
from cluster.state.transitions import apply
from eval.judge import Verdict
from trainer.trial import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of the branch."""

    id: str
    parents: tuple[str, ...]
    tree: str
    trailers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is looked at."""

    recorded: Sequence[Recorded]
    refs: Mapping[str, str] = field(default_factory=dict)
    """Commits by the names of their refs."""
    branch: Sequence[Commit] = ()
    """The branch's first parents, the newest first, down to the base commit and with it."""
    trees: Mapping[str, str] = field(default_factory=dict)
    """Trees of the commits that `refs` name."""
    leases: int = 0
    waiting: int = 0
    """Trials that the queue still holds."""
    left: Sequence[str] = ()
    """Processes, sockets, locks, worktrees and mounts that are there after `stop`."""
    experiments: int = 0
    """How many were asked for."""


E = TypeVar("E", bound=ev.Event)
Step = ev.TrialQueued | ev.TrialStarted | ev.TrialFinished | ev.TrialLost
_STEPS: Sequence[type[Step]] = (ev.TrialQueued, ev.TrialStarted, ev.TrialFinished, ev.TrialLost)
_UNFOLDABLE = (IllegalTransition, KeyError, ValueError)
Rule = Callable[[Evidence], Iterator[str]]


def check(evidence: Evidence) -> list[str]:
    """Return what is wrong, in sentences; nothing if all is well."""
    return [f"{rule.__name__}: {text}" for rule in RULES for text in rule(evidence)]


def of_kind(recorded: Iterable[Recorded], kind: type[E]) -> Iterator[tuple[int, E]]:
    """Return the events of a kind, each with its number."""
    for one in recorded:
        if isinstance(one.event, kind):
            yield one.seq, one.event


# --- the ledger ----------------------------------------------------------------------------------


def numbered(evidence: Evidence) -> Iterator[str]:
    """Events are numbered from 1 without gaps, and each id is there once."""
    numbers = [one.seq for one in evidence.recorded]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"{len(numbers)} events are numbered {numbers[:3]} to {numbers[-3:]}"
    for name, count in Counter(one.id for one in evidence.recorded).items():
        if count > 1:
            yield f"{name} was recorded {count} times"


def folded(evidence: Evidence) -> Iterator[str]:
    """The events can be folded, and what they add up to is no impossible state."""
    try:
        check_state(final_state(evidence.recorded))
    except (Broken, *_UNFOLDABLE) as error:
        yield f"{type(error).__name__}: {error}"


def final_state(recorded: Iterable[Recorded]) -> StudyState:
    """Return what the events add up to."""
    state = StudyState()
    for one in recorded:
        state = apply(state, one)
    return state


def ended_once(evidence: Evidence) -> Iterator[str]:
    """Every experiment came to its end, and left it only where an event says why."""
    state, ends, reasons = StudyState(), Counter[str](), Counter[str]()
    for one in evidence.recorded:
        try:
            after = apply(state, one)
        except _UNFOLDABLE:
            return  # `folded` tells of it
        ends.update(_newly_ended(state, after))
        reasons.update(_reopened(one.event))
        state = after
    for name, experiment in state.experiments.items():
        if not experiment.status.is_terminal:
            yield f"{name} is still {experiment.status}"
        elif ends[name] > 1 + reasons[name]:
            yield f"{name} ended {ends[name]} times"
    if state.judged < evidence.experiments:
        yield f"{state.judged} of {evidence.experiments} experiments were judged"


def _newly_ended(before: StudyState, after: StudyState) -> Iterator[str]:
    for name, experiment in after.experiments.items():
        was = before.experiments.get(name)
        if was is experiment or not experiment.status.is_terminal:
            continue
        if was is None or not was.status.is_terminal:
            yield name


def _reopened(event: ev.Event) -> Sequence[str]:
    if isinstance(event, ev.ControlJudged):
        return event.reopened
    if isinstance(event, ev.WinnerRequeued | ev.RetryRequested | ev.AcceptRequested):
        return (event.experiment,)
    return ()


Attempt = tuple[str, int]
Places = Mapping[Attempt, Sequence[int]]


def _places(recorded: Iterable[Recorded], kind: type[Step]) -> Places:
    """Return where in the ledger an event of this kind tells of each attempt."""
    found: dict[Attempt, list[int]] = defaultdict(list)
    for seq, event in of_kind(recorded, kind):
        found[event.trial, event.attempt].append(seq)
    return found


def stepped_once(evidence: Evidence) -> Iterator[str]:
    """An attempt is queued, started and ended at most once each, in that order."""
    every = [_places(evidence.recorded, kind) for kind in _STEPS]
    for kind, places in zip(_STEPS, every, strict=True):
        for (trial, attempt), at in places.items():
            if len(at) > 1:
                yield f"{kind.__name__} of {trial}/{attempt} {len(at)} times"
    queued, started, finished, lost = every
    for attempt in {*started, *finished, *lost}:
        name = f"{attempt[0]}/{attempt[1]}"
        ends = [*finished.get(attempt, ()), *lost.get(attempt, ())]
        if attempt not in queued or min([*started.get(attempt, ()), *ends]) < queued[attempt][0]:
            yield f"{name} went on without having been queued"
        if attempt in started and not ends:
            yield f"{name} started and never ended"
        if attempt in started and ends and min(ends) < started[attempt][0]:
            yield f"{name} ended before it started"


def counted_once(evidence: Evidence) -> Iterator[str]:
    """One attempt of a trial counts: the next is queued only when the one before was lost.

    Or it had not begun, and was taken back for a rebase. So nothing can have been accepted of an
    attempt whose lease had ended.
    """
    queued, started, finished, lost = (_places(evidence.recorded, kind) for kind in _STEPS)
    rebased = {(seq, e.experiment) for seq, e in of_kind(evidence.recorded, ev.ExperimentRebased)}
    for trial, attempt in finished.keys() & lost.keys():
        yield f"{trial}/{attempt} finished and was lost"
    for trial, count in Counter(trial for trial, _ in finished).items():
        if count > 1:
            yield f"{trial} counts {count} times"
    for (trial, attempt), at in queued.items():
        before = trial, attempt - 1
        ends = list(lost.get(before, ()))
        if before not in started:
            ends += [seq for seq, name in rebased if name == trial.partition(".")[0]]
        since = queued.get(before, [0])[0]
        if attempt > 1 and not any(since < end < at[0] for end in ends):
            yield f"{trial}/{attempt} was queued though attempt {attempt - 1} was not lost"


def scored_where_it_started(evidence: Evidence) -> Iterator[str]:
    """Only what ran has a score."""
    started = {(e.trial, e.attempt) for _, e in of_kind(evidence.recorded, ev.TrialStarted)}
    for _, event in of_kind(evidence.recorded, ev.TrialFinished):
        is_scored = event.outcome.ending is Ending.SCORED
        if is_scored and (event.trial, event.attempt) not in started:
            yield f"{event.trial}/{event.attempt} was scored without having run"


def fenced(evidence: Evidence) -> Iterator[str]:
    """A controller that was replaced has recorded nothing more."""
    epochs = [event.epoch for _, event in of_kind(evidence.recorded, ev.ControllerStarted)]
    if epochs != sorted(set(epochs)):
        yield f"controllers started with the epochs {epochs}"
    latest = 0
    for one in evidence.recorded:
        if isinstance(one.event, ev.ControllerStarted):
            latest = one.event.epoch
        elif isinstance(one.event, ev.ControllerStopped) and one.event.epoch != latest:
            yield f"controller {one.event.epoch} stopped during the time of {latest}"


# --- the branch ----------------------------------------------------------------------------------


def explained(evidence: Evidence) -> Iterator[str]:
    """Each promotion follows a verdict of its experiment that says so, and that a score."""
    judged: dict[str, Verdict] = {}
    scored: set[str] = set()
    for one in evidence.recorded:
        event = one.event
        if isinstance(event, ev.TrialFinished) and event.outcome.ending is Ending.SCORED:
            scored.add(event.experiment)
        elif isinstance(event, ev.ExperimentJudged):
            judged[event.experiment] = event.verdict
        elif isinstance(event, ev.Promoted):
            if judged.get(event.experiment) is not Verdict.KEEP:
                said = judged.get(event.experiment, "nothing")
                yield f"{event.experiment} was promoted, and the judge had said {said}"
            for name in (*(each.experiment for each in event.carried), event.experiment):
                if name not in scored:
                    yield f"{name} came onto the branch without a score"


def agreed(evidence: Evidence) -> Iterator[str]:
    """The branch is the promotions, one upon the other, from the base commit.

    Below one that names what it replaces lies what the ledger had lost when that was promoted.
    """
    expected: list[tuple[str, str]] = []
    for _, event in of_kind(evidence.recorded, ev.Promoted):
        expected += [(each.experiment, each.commit) for each in event.carried]
        expected.append((event.experiment, event.commit))
    base = next((e.base_commit for _, e in of_kind(evidence.recorded, ev.StudyStarted)), "")
    for commit, below in pairwise(evidence.branch):
        if commit.parents != (below.id,):
            yield f"{commit.id[:7]} is not upon {below.id[:7]} alone"
    chain = _without_lost(evidence.branch)
    found = [commit.id for commit in chain]
    if found != [base, *(commit for _, commit in expected)]:
        wanted = [base, *(commit for _, commit in expected)]
        yield f"the branch is {_short(found)}, the ledger says {_short(wanted)}"
        return
    proposed = {e.experiment: e for _, e in of_kind(evidence.recorded, ev.ExperimentProposed)}
    measured = _trees(evidence.recorded)
    for (name, _), commit in zip(expected, chain[1:], strict=True):
        if commit.tree not in measured.get(name, set()):
            yield f"{commit.id[:7]} is not the tree that was measured of {name}"
        trailers = {"Experiment": name, "Proposer": proposed[name].proposer}
        said = {key: commit.trailers.get(key, "") for key in trailers}
        if said != trailers:
            yield f"the trailers of {commit.id[:7]} say {said}, the ledger {trailers}"


def _without_lost(branch: Sequence[Commit]) -> list[Commit]:
    """Return the branch, the oldest first, without what a later promotion says was lost."""
    found: list[Commit] = []
    at = branch[0].id if branch else ""
    for commit in branch:
        if commit.id == at:
            found.append(commit)
            at = commit.trailers.get("Replaces") or "".join(commit.parents[:1])
    return found[::-1]


def _trees(recorded: Iterable[Recorded]) -> Mapping[str, set[str]]:
    """Return the trees that each experiment has had."""
    trees: dict[str, set[str]] = defaultdict(set)
    for one in recorded:
        if isinstance(one.event, ev.ExperimentProposed | ev.ExperimentRebased):
            trees[one.event.experiment].add(one.event.tree)
    return trees


def heads(evidence: Evidence) -> Iterator[str]:
    """The head of the branch is the incumbent, and its tree that of the last of the lineage."""
    try:
        state = final_state(evidence.recorded)
    except _UNFOLDABLE:
        return  # `folded` tells of it
    head = evidence.branch[0].id if evidence.branch else ""
    if head != state.incumbent_commit:
        yield f"the branch's head is {head[:7]}, the incumbent {state.incumbent_commit[:7]}"
    kept = [name for name in state.lineage if state.experiments[name].status is not Status.KEPT]
    if kept:
        yield f"{kept} are of the lineage and not kept"


def referred(evidence: Evidence) -> Iterator[str]:
    """Every experiment's commit is under its ref, and every ref is an experiment's, or was."""
    state_commits: dict[str, str] = {}
    for one in evidence.recorded:
        if isinstance(one.event, ev.ExperimentProposed | ev.ExperimentRebased):
            state_commits[one.event.experiment] = one.event.commit
    found = {
        name.rpartition("/")[2]: c for name, c in evidence.refs.items() if "/lost/" not in name
    }
    for name, commit in state_commits.items():
        if found.get(name) != commit:
            yield f"the ref of {name} is {found.get(name)}, the ledger says {commit}"
    for name in set(found) - set(state_commits):
        yield f"there is a ref of {name}, of which the ledger knows nothing"


def _short(commits: Sequence[str]) -> str:
    return "-".join(commit[:7] for commit in commits) or "empty"


# --- what is left --------------------------------------------------------------------------------


def cleared(evidence: Evidence) -> Iterator[str]:
    """No lease, no waiting trial, and nothing of the study is left on any machine."""
    if evidence.leases:
        yield f"{evidence.leases} leases are held"
    if evidence.waiting:
        yield f"{evidence.waiting} trials wait"
    yield from evidence.left


RULES: Sequence[Rule] = (
    numbered,
    folded,
    ended_once,
    stepped_once,
    counted_once,
    scored_where_it_started,
    fenced,
    explained,
    agreed,
    heads,
    referred,
    cleared,
)
