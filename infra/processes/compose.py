"""The composition root of the controller: which part is made of which."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from cluster.config import StudyConfig
from cluster.controller.context_book import ContextBook
from cluster.controller.controller import Controller
from cluster.controller.controller_parts import Parts
from cluster.controller.curve_book import CurveBook
from cluster.controller.optuna_pruners import pruning_rule
from cluster.controller.performer import Performer
from cluster.controller.ports import Fleet, Observer
from cluster.controller.scratchpad import Scratchpad
from cluster.git.mirror import Mirror
from cluster.git.study_repository import StudyRepository
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, connect
from cluster.nodes.fleet_process import FleetProcess
from cluster.nodes.fleet_settings import FleetSettings
from cluster.policy.study_plan import StudyPlan
from cluster.queue.brief import Terms
from cluster.state.state import StudyState
from cluster.transport.last_results import LastResults
from eval.seeds import SeedHabit
from infra.display.picture import PictureObserver
from infra.display.results_tsv import ResultsTsv
from infra.local.artifacts import is_awaited, paths_at
from infra.local.settings import default_cpu_slots
from infra.local.study import OpenStudy
from infra.metrics.prometheus import MetricsObserver
from infra.processes import proposing
from infra.processes.holdout_watch import HoldoutWatch
from proposer.proposal import Proposer
from proposer.purse import Purse
from trainer.environment import Environment
from trainer.git_command import GitError
from trainer.interpreter import interpreter_of
from trainer.preflight import Preflight
from trainer.reseed import SeedReader
from trainer.slot_parts import WorkerSettings, beside

log = logging.getLogger("incumbent")


def now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)


def cpu_slots(config: StudyConfig) -> int:
    """Return how many CPU slots a study gets."""
    return config.cluster.slots or default_cpu_slots()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """What a controller is composed of; a benchmark or a test swaps one for its own."""

    study: OpenStudy
    config: StudyConfig
    epoch: int
    fleet: Fleet
    proposers: Sequence[Proposer]
    observers: Sequence[Observer]
    holdout: HoldoutWatch | None = None
    """What scores promotions by the holdout; None where there is none."""
    revive: Callable[[], None]
    preflight: Preflight | None = None
    """What looks at candidates before they are queued; None lets all of them pass."""


def controller(ingredients: Ingredients, state: StudyState) -> Controller:
    """Put a controller together."""
    study, config = ingredients.study, ingredients.config
    metric = config.metric.metric()
    repository = StudyRepository.open(study.home.git, study=config.study.name)
    seeds = SeedReader(pattern=config.trial.seed_pattern, command=config.trial.command)
    pad = Scratchpad(study.home.scratchpad, repository, config.proposals.scratchpad_chars)
    performer = Performer(
        ledger=study.ledger,
        queue=study.queue,
        repository=repository,
        source=study.home.repository,
        editable=config.study.editable,
        metric=metric,
        budget_s=config.trial.budget_s,
        timeout_s=config.trial.timeout_s,
        epoch=ingredients.epoch,
        clock=now,
        preflight=ingredients.preflight,
        seeds=seeds,
    )
    rule = pruning_rule(config.pruner, metric.goal)
    curves = CurveBook(study.progress, rule, config.trial.budget_s) if rule else None
    contexts = ContextBook(
        repository,
        config.study.editable,
        scratchpad=pad.read,
        instructions=_instructions(repository, state, config),
    )
    waiting = RedisStore(connect(study.server.url), study.home.id)
    last = LastResults(
        since=now(),
        is_awaited=partial(is_awaited, study.home),
        notify=study.progress.set_notice,
    )
    watching = [*ingredients.observers, ingredients.holdout, contexts, curves]
    parts = Parts(
        ledger=study.ledger,
        waiting_ledger=RedisLedger(waiting),
        queue=study.queue,
        performer=performer,
        mirror=Mirror(repository, study.home.repository),
        fleet=ingredients.fleet,
        proposers=ingredients.proposers,
        observers=[each for each in watching if each is not None],
        plan=_plan(config, ingredients.proposers, _habit(seeds, repository, state, config)),
        contexts=contexts,
        note=partial(_note_down, pad),
        epoch=ingredients.epoch,
        clock=now,
        notify=study.progress.set_notice,
        revive=ingredients.revive,
        lease_s=config.cluster.lease_s,
        curves=curves,
        finish=partial(_finish, last, ingredients.holdout),
    )
    return Controller(parts, state)


def _plan(config: StudyConfig, made: Sequence[Proposer], seeds: SeedHabit) -> StudyPlan:
    metric = config.metric.metric()
    return StudyPlan(
        seeds=seeds,
        reference_class=config.judge.reference_class,
        control_every=config.judge.control_every,
        replicate_share=config.judge.replicate_share,
        metric=metric,
        judge=config.judge.judge(metric),
        reducer=config.reducer.policy,
        max_staleness=config.reducer.max_staleness,
        guards=tuple(section.guard() for section in config.guard),
        proposers=proposing.seats_of(config, made),
        budget_s=config.trial.budget_s,
        smoke_s=config.trial.smoke_s,
        rungs=config.rungs(),
        slots=cpu_slots(config),
        most_experiments=config.limits.experiments,
        most_hours=config.limits.hours,
        most_slot_hours=config.limits.gpu_hours,
        most_usd=config.limits.usd,
        most_tokens=config.limits.tokens,
        max_fixes=config.proposals.max_fixes,
        approve=config.proposals.approve,
    )


def _finish(last: LastResults, watch: HoldoutWatch | None, look: Callable[[], StudyState]) -> None:
    """Wait for what nodes still have to send, and for what is scored of that."""
    last.wait(look)
    if watch is not None:
        watch.finish()


def _habit(
    seeds: SeedReader, repository: StudyRepository, state: StudyState, config: StudyConfig
) -> SeedHabit:
    """Tell from the script and its command whether further runs have other seeds."""
    try:
        files = repository.read_files(state.base_commit, config.study.editable)
    except (LookupError, ValueError):  # what is wrong with them is told where they are needed
        return SeedHabit.FREE
    return seeds.habit(files)


def _note_down(pad: Scratchpad, author: str, text: str) -> None:
    """Write a note; a scratchpad that cannot be written to costs the note, not the study."""
    try:
        pad.add(author, text)
    except (OSError, GitError) as error:
        log.warning("a note of %s is not on the scratchpad: %s", author, error)


def _instructions(repository: StudyRepository, state: StudyState, config: StudyConfig) -> str:
    path = config.study.instructions
    if not path:
        return ""
    try:
        return repository.read_files(state.base_commit, [path])[path]
    except KeyError:
        return ""


def preflight(
    study: OpenStudy, config: StudyConfig, environment: Environment | None
) -> Preflight | None:
    """Return the study's preflight; None where it is switched off.

    `environment` is that of the trials; None if it could not be made ready.
    """
    if not config.trial.preflight:
        return None
    return Preflight(
        repository=study.home.git,
        metric=config.metric.metric(),
        python=interpreter_of(environment) if environment else None,
        prints_metric=config.score is None,
    )


def ray_fleet(study: OpenStudy, config: StudyConfig) -> FleetProcess:
    """Return the fleet of Ray workers."""
    home = study.home
    settings = FleetSettings(
        study=home.id,
        name=home.name,
        url=study.server.url,
        directory=str(home.directory),
        runtime=str(home.runtime()),
        environments=str(home.environments),
        empty=str(home.empty),
        address=config.cluster.address,
        listen=config.cluster.listen,
        slots=config.cluster.slots if config.trial.gpus else cpu_slots(config),
        lease_s=config.cluster.lease_s,
        terms=_terms(config, base=study.state().base_commit),
    )
    return FleetProcess(settings, log=home.fleet_log, tell=study.progress.set_phase)


def _terms(config: StudyConfig, *, base: str) -> Terms:
    return Terms(
        base=base,
        gpu_busy_mb=config.cluster.gpu_busy_mb,
        trial=config.trial.model_dump(mode="json"),
        metric=config.metric.metric(),
        editable=config.study.editable,
        score=config.score.model_dump(mode="json") if config.score else None,
        further={
            section: score.model_dump(mode="json")
            for section, score in config.asked_besides("[holdout]").items()
        },
        keep=config.keep.model_dump(mode="json"),
        needed=(config.holdout.predictions,) if config.holdout else (),
    )


def proposers(
    study: OpenStudy, config: StudyConfig, purse: Purse, keys: Mapping[str, str]
) -> list[Proposer]:
    """Return the study's sources of candidates.

    Raises:
        ValueError: the tuner finds nothing to tune; the message says what it looked for.
    """
    if not config.proposer:
        return []
    repository = StudyRepository.open(study.home.git, study=config.study.name)
    files = repository.read_files(study.state().base_commit, config.study.editable)
    makings = proposing.Makings(
        study=study, config=config, repository=repository, files=files, purse=purse, keys=keys
    )
    return proposing.proposers(makings)


def observers(study: OpenStudy, config: StudyConfig) -> tuple[list[Observer], MetricsObserver]:
    """Return those who read along, and the one among them that serves metrics."""
    metric = config.metric.metric()
    home = study.home
    metrics = MetricsObserver(metric, port=config.cluster.metrics_port)
    picture = PictureObserver(metric, png=home.picture("png"), svg=home.picture("svg"))
    return [ResultsTsv(home.results, metric), picture, metrics], metrics


def holdout(study: OpenStudy, config: StudyConfig, epoch: int) -> HoldoutWatch | None:
    """Return who scores promotions by the holdout's labels; None where there are none.

    Raises EnvironmentFailed: trials could see the labels, or they are of no use.
    """
    score = config.holdout_score()
    if score is None or config.holdout is None:
        return None
    home, metric = study.home, config.metric.metric()
    paths = paths_at(home)
    settings = WorkerSettings(
        study=home.id,
        base=study.state().base_commit,
        paths=paths,
        trial=config.trial,
        metric=metric,
        slots=cpu_slots(config),
        gpu_busy_mb=config.cluster.gpu_busy_mb,
    )
    return HoldoutWatch(
        scorer=beside(settings, "holdout").scorer(score, "[holdout]"),
        ledger=study.ledger,
        epoch=epoch,
        left=paths.predictions if config.asks_models else paths.out,
        metric=metric,
        step=config.holdout.step,
        is_awaited=partial(is_awaited, home),
    )
