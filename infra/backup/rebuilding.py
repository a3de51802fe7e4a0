"""A study whose Redis is lost gets a ledger again, of what git and results.tsv tell."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.backup import ledger_transfer
from cluster.backup.kept_refs import kept_candidates, reported_finals
from cluster.backup.ledger_transfer import Show
from cluster.backup.rebuild import (
    CannotRebuild,
    Kept,
    OtherConfiguration,
    Rebuilt,
    Source,
    rebuild,
)
from cluster.backup.study_copy import bring_study
from cluster.config import StudyConfig
from cluster.git.branch_log import on_branch
from cluster.git.code_outcomes import OnBranch
from cluster.git.git_objects import count_lines
from cluster.git.source_repository import SourceRepository
from cluster.git.study_repository import StudyRepository
from cluster.ledger.redis_ledger import RedisLedger
from cluster.state.invariants import check
from eval.metric import Metric
from infra.backup.backup import empty_study, has_events
from infra.display.results_tsv import Row, read_rows
from infra.local.home import StudyHome, StudyProblem
from infra.local.study import OpenStudy
from proposer.syntax import digest
from trainer.trial import ExperimentId

NEVER_KNOWN = (
    "what trials took, printed and cost in slot hours",
    "what models cost, and their replies",
    "parameters of proposals, notes, hints and open tasks",
    "replicates, and what the judge had learnt of noise and patches",
    "requests and submissions that waited",
    "what final runs scored, but in the words of their tags",
)
"""What neither git nor results.tsv holds."""
_CLOSE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltFacts:
    """What a rebuilt ledger holds, and what it does not."""

    study: str
    directory: str
    experiments: int
    promotions: int
    finals: int
    """Final runs, by their tags."""
    incumbent: str
    told_by_results: int
    unknown_ends: int
    results: str
    """How results.tsv was used, in words."""
    measures_again: str
    """What is measured before anything else; "e0" where no score is known."""
    never_known: Sequence[str] = NEVER_KNOWN


def rebuild_study(
    source: SourceRepository, config: StudyConfig, *, read: Show, wrote: Show
) -> RebuiltFacts:
    """Make a ledger for a study that has none, of what its repository tells.

    Shows how many experiments were read, then how many events were written.

    Raises:
        StudyProblem: there is a ledger, or nothing to make one of.
        CannotRebuild: git does not hold what is needed.
        ControllerRuns: the study runs.
    """
    name = config.study.name
    if not _has_refs(StudyHome.of(source.toplevel, name), source, name):
        raise StudyProblem(
            f"there is nothing to rebuild: neither the study's folder nor {source.toplevel} holds "
            f"refs/incumbent/{name}/e0 (`incumbent run` starts a study)"
        )
    with empty_study(source, config) as study:
        repository = _repository(study.home, source)
        kept = kept_candidates(repository)
        base = kept[0].commit
        head = repository.branch_ref if repository.has_branch() else base
        steps = on_branch(repository.git, base, head)
        metric = config.metric.metric()
        results, words = _results(study.home.results, metric, kept, steps)
        texts = {}
        for done, one in enumerate(kept, start=1):
            texts[one.experiment] = _files(repository, one, config.study.editable)
            read(done, len(kept))
        made = rebuild(
            Source(
                study=name,
                metric=metric,
                metric_source=config.metric.source,
                base=base,
                kept=kept,
                branch=steps,
                lines={
                    e: sum(count_lines(text.encode()) for text in files.values())
                    for e, files in texts.items()
                },
                syntaxes={e: digest(files) for e, files in texts.items()},
                results=results,
                finals=reported_finals(repository),
            )
        )
        check(made.state)
        _write(study, made, wrote)
        return _facts(study, made, words)


def _has_refs(home: StudyHome, source: SourceRepository, name: str) -> bool:
    """Say whether the study's repository, or the user's, holds its baseline."""
    ref = f"refs/incumbent/{name}/e0"
    places = [StudyRepository(home.git, study=name).git] if home.git.is_dir() else []
    found = (git.run("rev-parse", "--verify", "--quiet", ref, check=False) for git in places)
    return any(one.status == 0 for one in found) or source.has_ref(ref)


def _repository(home: StudyHome, source: SourceRepository) -> StudyRepository:
    """Return the study's repository; made of the mirror in the user's if it is gone, too."""
    if not (home.git / "objects").is_dir():
        fresh = home.git.with_name(f"{home.git.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        bring_study(fresh, home.name, source.toplevel)
        fresh.rename(home.git)
    return StudyRepository.open(home.git, study=home.name)


def _files(repository: StudyRepository, kept: Kept, editable: Sequence[str]) -> Mapping[str, str]:
    try:
        return repository.read_files(kept.commit, editable)
    except KeyError as error:
        raise OtherConfiguration(
            f"{kept.experiment} has no {error.args[0]}: [study] editable is another than it was"
        ) from error
    except ValueError as error:
        raise CannotRebuild(f"{kept.experiment}: {error}") from error


def _write(study: OpenStudy, made: Rebuilt, show: Show) -> None:
    staged = study.store.staging()
    ledger_transfer.append(RedisLedger(staged), list(made.drafts), show)
    if not study.store.land(staged):
        raise has_events(study)


def _facts(study: OpenStudy, made: Rebuilt, words: str) -> RebuiltFacts:
    state = made.state
    incumbent = state.lineage[-1] if state.lineage else ExperimentId("")
    return RebuiltFacts(
        study=state.study,
        directory=str(study.home.directory),
        experiments=len(state.experiments),
        promotions=made.promotions,
        finals=len(state.finals),
        incumbent=incumbent,
        told_by_results=made.told,
        unknown_ends=made.unknown,
        results=words,
        measures_again=incumbent or "e0",
    )


# --- results.tsv ---------------------------------------------------------------------------------


def _results(
    path: Path, metric: Metric, kept: Sequence[Kept], steps: Sequence[OnBranch]
) -> tuple[Mapping[ExperimentId, float | None], str]:
    """Return what a table tells of experiments that were not promoted, if it agrees with git."""
    try:
        rows = read_rows(path, metric)
    except FileNotFoundError:
        return {}, "there is none"
    except ValueError as error:
        return {}, f"left out: {error}"
    known = {on.commit[:7]: on.trailers.get("Metric", "") for on in steps}
    for row in rows:
        is_promoted = row.status == "keep" and row.commit != kept[0].commit[:7]
        if is_promoted and not _agrees(row, known.get(row.commit)):
            return {}, f"left out: its row of {row.commit} does not agree with the branch"
    return dict(_matched(rows, kept)), "used"


def _agrees(row: Row, trailer: str | None) -> bool:
    """Say whether a kept row is on the branch, with the score that its commit names."""
    if trailer is None or row.value is None:
        return False
    said = trailer.rpartition(" (was ")[0].rpartition(" ")[2]
    try:
        return math.isclose(float(said), row.value, rel_tol=_CLOSE, abs_tol=_CLOSE)
    except ValueError:
        return False


def _matched(rows: Sequence[Row], kept: Sequence[Kept]) -> list[tuple[ExperimentId, float | None]]:
    """Return the last row of each candidate of whose commit there is no other that begins so."""
    by_commit: dict[str, list[Kept]] = {}
    for one in kept:
        by_commit.setdefault(one.commit[:7], []).append(one)
    found = []
    for row in rows:
        candidates = by_commit.get(row.commit, [])
        is_baseline = candidates == [kept[0]]
        if len(candidates) == 1 and (row.status != "keep" or is_baseline):
            found.append((candidates[0].experiment, row.value))
    return found
