"""What trials left, wherever it lies: on the head, or on the node that ran them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

from cluster.state.experiment import Trial, TrialPhase
from cluster.state.state import StudyState
from cluster.transport.manifest import Left, Manifest, shown
from cluster.transport.shelf import read_manifest
from infra.local.home import StudyHome
from trainer.paths import KINDS, OUT, PREDICTIONS, WorkerPaths, out_name
from trainer.retention import is_pruned
from trainer.safe_read import SafeFolder, Unsafe
from trainer.trial import SlotId, experiment_id

_GONE = "it was removed here: see [keep] disk_gb"
_RUNS = "it runs: what it leaves lies here once it has ended"
_BEGUN = frozenset({TrialPhase.RUNNING, TrialPhase.FINISHED, TrialPhase.LOST})


class Artifact(TypedDict):
    """A file that a trial left."""

    name: str
    bytes: int
    node: str
    """Where it is; empty for this machine."""
    path: str
    note: str
    """Why it is not here, or not to be had; empty where it is."""


class TrialArtifacts(TypedDict):
    """What one attempt at a trial left."""

    trial: str
    attempt: int
    node: str
    """Which node ran it; empty for the head."""
    folder: str
    """Where its output folder lies on that machine."""
    files: list[Artifact]
    unlisted: int
    """Further files on the node."""
    note: str
    """Why there is no more to be said; empty if there is nothing to add."""


def is_on_node(slot: SlotId) -> bool:
    """Say whether a slot is on a node that joined, and not on the head."""
    return "/" in slot


def paths_at(home: StudyHome) -> WorkerPaths:
    """Return where things of trials are on the head."""
    return WorkerPaths(study=home.directory, environments=home.environments)


def is_awaited(home: StudyHome, trial: Trial) -> bool:
    """Say whether what a trial left on a node has not come back yet."""
    returned = paths_at(home).returned(out_name(trial.id, trial.attempt))
    return is_on_node(trial.slot) and not returned.exists()


def artifacts_of(home: StudyHome, state: StudyState, name: str) -> list[TrialArtifacts] | None:
    """Return what an experiment (`e42`) or one trial (`e42.1`) left; None if there is none such.

    Attempts that left nothing, and of which nothing is to be said, are left out.
    """
    experiment = state.experiments.get(experiment_id(name))
    if experiment is None:
        return None
    wanted = [t for t in experiment.all_trials if name in {experiment.id, t.id}]
    if not wanted and name != experiment.id:
        return None
    found = (_of_attempt(paths_at(home), trial) for trial in wanted if trial.phase in _BEGUN)
    return [each for each in found if each["files"] or each["unlisted"] or each["note"]]


def is_to_begin(state: StudyState, name: str) -> bool:
    """Say whether an experiment, or one trial, may still leave something and has not begun."""
    experiment = state.experiments[experiment_id(name)]
    wanted = [t for t in experiment.all_trials if name in {experiment.id, t.id}]
    return not (experiment.status.is_terminal or any(t.phase in _BEGUN for t in wanted))


def _of_attempt(paths: WorkerPaths, trial: Trial) -> TrialArtifacts:
    name = out_name(trial.id, trial.attempt)
    manifest = read_manifest(paths.returned(name))
    if manifest is not None:
        return _returned(paths, trial, name, manifest)
    files, notes = [], []
    for kind in KINDS:
        try:
            files += list(_here(paths.kept(kind, name), kind))
        except (Unsafe, OSError) as error:
            notes.append(shown(str(error)))
    if is_pruned(paths, name):
        notes.append(_GONE)
    if trial.phase is TrialPhase.RUNNING:
        notes.append(_RUNS)
    is_remote = is_on_node(trial.slot)
    if is_remote:
        notes = [_waiting(trial)]
    return _facts(
        trial,
        node=trial.node if is_remote else "",
        folder=str(paths.kept(OUT, name)) if not is_remote else "",
        files=files,
        note="; ".join(notes),
    )


def _waiting(trial: Trial) -> str:
    if trial.phase is TrialPhase.RUNNING:
        return f"it runs on {trial.node}"
    if trial.phase is TrialPhase.LOST:
        return f"it was lost or given back on {trial.node}: what it left there is not known"
    return f"what it left on {trial.node} has not come back yet"


def _here(folder: Path, kind: str) -> Iterator[Artifact]:
    try:
        opened = SafeFolder(folder)
    except FileNotFoundError:
        return
    with opened as safe:
        for found in sorted(safe.files(), key=lambda each: each.name):
            name = shown(found.name)
            yield Artifact(
                name=_prefixed(kind, name),
                bytes=found.size,
                node="",
                path=str(folder / name),
                note=shown(found.problem),
            )


def _returned(paths: WorkerPaths, trial: Trial, name: str, manifest: Manifest) -> TrialArtifacts:
    files = [
        *_listed(paths, OUT, name, manifest, manifest.files),
        *_listed(paths, PREDICTIONS, name, manifest, manifest.predictions),
    ]
    return _facts(
        trial,
        node=shown(manifest.node),
        folder=shown(manifest.folder),
        files=files,
        unlisted=manifest.unlisted,
        note=manifest.problem,
    )


def _listed(
    paths: WorkerPaths, kind: str, name: str, manifest: Manifest, files: Iterable[Left]
) -> Iterator[Artifact]:
    there = Path(manifest.folder).parents[1] / kind / name
    for each in sorted(files, key=lambda left: left.name):
        here = paths.kept(kind, name) / each.name
        is_here = not each.stayed and here.is_file()
        gone = "" if is_here else _GONE
        yield Artifact(
            name=_prefixed(kind, each.name),
            bytes=each.bytes,
            node="" if is_here else shown(manifest.node),
            path=shown(str(here if is_here else there / each.name)),
            note=each.stayed or gone,
        )


def _prefixed(kind: str, name: str) -> str:
    return name if kind == OUT else f"{kind}/{name}"


def _facts(
    trial: Trial,
    *,
    node: str,
    folder: str,
    files: list[Artifact],
    note: str,
    unlisted: int = 0,
) -> TrialArtifacts:
    return TrialArtifacts(
        trial=trial.id,
        attempt=trial.attempt,
        node=node,
        folder=folder,
        files=files,
        unlisted=unlisted,
        note=note,
    )
