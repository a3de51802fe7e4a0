"""When a node is at fault for what fails on it, rather than what was tried there. Pure.

No trial is run twice to find out: what there is of losses that were repeated, replicates, controls
and the incumbent's own runs says who is at fault. Only where a node fails one trial after another
while others do well is the incumbent run there: that is the test that leaves no doubt. See
docs/decisions/028-quarantine.md.
"""

from collections.abc import Iterator, Mapping, Sequence

from cluster.policy.commands import QuarantineNode
from cluster.state.experiment import Experiment, Kind
from cluster.state.node_events import NodeQuarantined
from cluster.state.node_runs import passed_beside
from cluster.state.node_state import NodeRun, NodeStatus
from cluster.state.state import SlotState, StudyState
from cluster.state.steps import TRANSITIONS
from trainer.trial import ExperimentId, SlotId, number_of

MOST_FAILURES = 3
"""So many failures in a row bring a control; so many that were none elsewhere, quarantine."""
FEW = 0.25
"""A node does well if no more than this share of its latest trials failed."""
INCIDENT_S = 60.0
"""Losses within this many seconds are one incident: a worker process, a cable, a restart."""
MOST_SHIFTS = 2
"""So many controls in a row that read worse, beyond noise, bring quarantine."""

Working = Mapping[str, Sequence[SlotState]]
"""The slots that take work, by node."""


def due(state: StudyState) -> Iterator[QuarantineNode]:
    """Quarantine the nodes that are at fault, as long as there is another one to work on."""
    working = _working(state) if _has_cause(state) else {}
    for node in sorted(working):
        others = len(working) - 1
        runs = state.node_runs.get(node, ())
        if others and runs and (reason := _fault(state, node, runs, working)):
            del working[node]
            row = _row(state, node, runs)
            again = _reopened(state, node, [run for run in runs if run.is_machine or run in row])
            event = NodeQuarantined(node=node, reason=reason, reopened=again)
            yield QuarantineNode(cause=_cause(state, runs[-1], again), quarantined=event)
    yield from _aftermath(state)


def _aftermath(state: StudyState) -> Iterator[QuarantineNode]:
    """Have what was running on a node when it was quarantined, and failed since, run again."""
    for name, node in state.nodes.items():
        if node.status is NodeStatus.QUARANTINED:
            late = [run for run in state.node_runs.get(name, ()) if run.at > node.since]
            if again := _reopened(state, name, [run for run in late if run.failure]):
                event = NodeQuarantined(node=name, reason=node.reason, reopened=again)
                yield QuarantineNode(cause=_cause(state, late[-1], again), quarantined=event)


def _cause(state: StudyState, last: NodeRun, reopened: Sequence[ExperimentId]) -> str:
    """Name the latest run on a node, and those that are run again for what is decided now.

    Without a further run there, what ends elsewhere may show that another one is to run again.
    """
    ended = (state.experiments[name].trials[-1] for name in reopened)
    runs = [(last.trial, last.attempt), *((trial.id, trial.attempt) for trial in ended)]
    return "+".join(f"{trial}/{attempt}" for trial, attempt in runs)


def doubted(state: StudyState) -> frozenset[SlotId]:
    """Return the slots on which the incumbent is to be run now, to tell what is at fault."""
    working = _working(state) if _has_cause(state) else {}
    found: set[SlotId] = set()
    for node, slots in working.items() if len(working) > 1 else ():
        found.update(slot.slot for slot in slots if slot.shifts and _has_peer(slot, working))
        runs = state.node_runs.get(node, ())
        row: Sequence[NodeRun] = _row(state, node, runs) if _may_tell(runs) else ()
        if len(row) >= MOST_FAILURES and _others_do_well(state, node, working):
            found.add(_where(row[-1], slots))
    return frozenset(found)


def _has_cause(state: StudyState) -> bool:
    """Say whether there may be anything to look at; mostly not, and all else is spared."""
    if len(state.node_runs) < 2:
        return False  # nothing to hold one against
    is_held = any(state.is_well(n) and _may_tell(runs) for n, runs in state.node_runs.items())
    return is_held or any(slot.shifts for slot in state.slots.values())


def _may_tell(runs: Sequence[NodeRun]) -> bool:
    """Say whether so many trials on a node failed that it matters which."""
    last = runs[-MOST_FAILURES:]
    is_row = len(last) == MOST_FAILURES and all(run.failure for run in last)
    return is_row or sum(run.is_machine for run in runs) >= MOST_FAILURES


def _working(state: StudyState) -> dict[str, list[SlotState]]:
    found: dict[str, list[SlotState]] = {}
    for slot in state.slots.values():
        if state.takes_work(slot):
            found.setdefault(slot.node, []).append(slot)
    return found


def _has_peer(slot: SlotState, working: Working) -> bool:
    """Say whether the incumbent scores as it should on a slot of the same class, elsewhere."""
    others = (other for node, slots in working.items() if node != slot.node for other in slots)
    return any(
        other.device_class == slot.device_class and other.checked_at and not other.shifts
        for other in others
    )


def _where(last: NodeRun, slots: Sequence[SlotState]) -> SlotId:
    """Return where the last failure was, or another slot of the node if that is gone."""
    names = [slot.slot for slot in slots]
    return last.slot if last.slot in names else min(names)


# --- what is held against a node -----------------------------------------------------------------


def _fault(state: StudyState, node: str, runs: Sequence[NodeRun], working: Working) -> str:
    """Say why a node is at fault, in one line; empty if it is not, or nobody can say."""
    if _may_tell(runs):
        row = _row(state, node, runs)
        if (control := _test(state, row)) is not None:
            before = row[: row.index(control)][-MOST_FAILURES:]
            own = f"the incumbent's own {control.trial}: {control.failure}"
            return f"{_names(before)} failed here one after another, then {own}"
        proofs = _proofs(state, node, runs)
        if len(proofs) >= MOST_FAILURES:
            last = proofs[-1].failure
            return f"{_names(proofs)} failed here and passed elsewhere; the last: {last}"
    for slot in working[node]:
        if slot.shifts >= MOST_SHIFTS and _has_peer(slot, working):
            return f"the incumbent scored worse on {slot.slot} {slot.shifts} times in a row"
    return ""


def _names(runs: Sequence[NodeRun]) -> str:
    return ", ".join(run.trial for run in runs)


def _row(state: StudyState, node: str, runs: Sequence[NodeRun]) -> list[NodeRun]:
    """Return the failures since the last trial that passed, those of bad candidates left out."""
    passed = (index for index, run in enumerate(runs, start=1) if not run.failure)
    row: list[NodeRun] = []
    for run in runs[max(passed, default=0) :]:
        if not (_is_candidates(state, node, run) or _is_same_incident(run, row)):
            row.append(run)
    return row


def _is_same_incident(run: NodeRun, before: Sequence[NodeRun]) -> bool:
    """Say whether a trial was lost with others: what goes at one moment goes for one reason."""
    if run.is_control or not run.is_lost:
        return False
    lost = (known for known in before if known.is_lost)
    return any(abs((run.at - known.at).total_seconds()) < INCIDENT_S for known in lost)


def _test(state: StudyState, row: Sequence[NodeRun]) -> NodeRun | None:
    """Return the run of the incumbent that was to tell what is at fault, if that failed too."""
    for run in row[MOST_FAILURES:]:
        control = state.experiments[run.experiment].trial(run.trial, run.attempt)
        if run.is_control and control.queued_at >= row[MOST_FAILURES - 1].at:
            return run
    return None


def _proofs(state: StudyState, node: str, runs: Sequence[NodeRun]) -> list[NodeRun]:
    """Return failures, as a machine brings them about, of what passed elsewhere; one of each."""
    found: dict[ExperimentId, NodeRun] = {}
    for run in runs:
        is_new = run.experiment not in found and not _is_same_incident(run, list(found.values()))
        if is_new and run.is_machine and passed_beside(state.experiments[run.experiment], node):
            found[run.experiment] = run
    return list(found.values())


def _is_candidates(state: StudyState, node: str, run: NodeRun) -> bool:
    """Say whether a failure is the candidate's: it failed on another node, and passed on none."""
    others = (runs for name, runs in state.node_runs.items() if name != node)
    has_failed = any(
        other.failure and other.experiment == run.experiment for runs in others for other in runs
    )
    return has_failed and not passed_beside(state.experiments[run.experiment], node)


def _others_do_well(state: StudyState, node: str, working: Working) -> bool:
    """Say whether there is a node on which few trials fail, of enough to tell."""
    for other in working:
        runs = state.node_runs.get(other, ())
        failed = sum(bool(run.failure) for run in runs)
        if other != node and len(runs) >= MOST_FAILURES and failed <= FEW * len(runs):
            return True
    return False


def _reopened(state: StudyState, node: str, held: Sequence[NodeRun]) -> tuple[ExperimentId, ...]:
    """Return the proposals that ended by a failure on a node that was at fault, and there alone."""
    found = {run.experiment for run in held if not _is_candidates(state, node, run)}
    in_order = sorted(found, key=number_of)
    return tuple(name for name in in_order if _has_ended_by(state.experiments[name], node))


def _has_ended_by(experiment: Experiment, node: str) -> bool:
    has_failed = experiment.status in TRANSITIONS[NodeQuarantined]
    is_wanted = experiment.kind is Kind.PROPOSAL and not experiment.is_cancelled
    return has_failed and is_wanted and experiment.trials[-1].node == node
