"""What serves one slot, put together: environment, sandbox, limits, cards, scorer, worker.

Knows which part of trainer is made of which. Does not know where work comes from: workers of a
study lease it from the queue, a final run brings its own.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eval.metric import Metric
from trainer.arrange_predictor import TrialPlace, arrange_predictor
from trainer.arrange_scorer import arrange_scorer
from trainer.card_memory import CardMemory
from trainer.compile_caches import CacheSeed
from trainer.config import KeepConfig, ScoreConfig, TrialConfig
from trainer.disk_room import lack_of_room
from trainer.environment import EnvironmentFailed, prepare
from trainer.gpu import NvmlGpus, NvmlSampler, device_nodes, mark_of
from trainer.gpu_watch import GpuWatch
from trainer.hidden_labels import SCORE
from trainer.limit_defaults import limits_for, machine_memory
from trainer.local_code import LocalCode
from trainer.materialise import Materialiser
from trainer.paths import WorkerPaths
from trainer.ports import CodeSource, LeaseSource, ResultSink, Slot
from trainer.predictor import Predictor
from trainer.sandbox.arrange import arrange
from trainer.scorer import PredictionScorer
from trainer.slot_place import SlotPlace
from trainer.slots import Claim, Unavailable, claim_cpu, claim_gpus, with_user
from trainer.supervisor_client import Supervisor
from trainer.trial import CommitId, SlotId
from trainer.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker is told when it is made."""

    study: str
    base: CommitId
    paths: WorkerPaths
    trial: TrialConfig
    metric: Metric
    slots: int
    gpu_busy_mb: float
    editable: tuple[str, ...] = ()
    """Files that candidates may change; the others are looked at after each trial."""
    score: ScoreConfig | None = None
    """How predictions are scored, where they are."""
    further: Mapping[str, ScoreConfig] = field(default_factory=dict)
    """What else a model is asked, where runs leave models: by the sections that say so."""
    number: int = 0
    """Which of the node's workers it is."""
    node: str = ""
    """Name of the node that it is on, which shares no files with the head; empty on the head."""
    keep: KeepConfig = field(default_factory=KeepConfig)
    needed: tuple[str, ...] = ()
    """Files among what trials leave that the head needs, whatever `keep` says."""


def claim(settings: WorkerSettings, indexes: Sequence[int]) -> Claim | Unavailable:
    """Take a device for a slot: the cards at `indexes`, or a CPU slot where trials take no card.

    With a user for its trials, where they need one.
    """
    trial = settings.trial
    found: Claim | Unavailable
    if trial.gpus:
        found = claim_gpus(
            study=settings.study,
            share=trial.gpus,
            indexes=indexes,
            worker=settings.number,
            gpus=NvmlGpus(),
            busy_mb=settings.gpu_busy_mb,
            wanted=trial.device,
        )
    else:
        count = max(settings.slots, os.cpu_count() or 1)
        found = claim_cpu(study=settings.study, count=count, worker=settings.number)
    return _with_user(found, settings) if isinstance(found, Claim) else found


def _with_user(found: Claim, settings: WorkerSettings) -> Claim | Unavailable:
    """Take a user for trials on the device, where they need one: that is, where we are root."""
    has_user = os.geteuid() == 0 and settings.trial.sandbox != "none"
    return with_user(found, settings.study) if has_user else found


class SlotParts:
    """The parts of one slot; making them prepares the environment and looks for a sandbox.

    Raises what the code source raises, and the making of an environment or sandbox.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        slot: Slot,
        *,
        uid: int | None,
        code: CodeSource | None = None,
        results: ResultSink | None = None,
    ) -> None:
        """`uid` is the slot's own user, where we are root (trainer.slots.Claim).

        Without `code`, all commits are in the study's repository on this node; without `results`,
        this is where what trials leave is wanted.
        """
        paths = settings.paths
        self._settings = settings
        self._slot = slot
        self._code = code or LocalCode(paths.repository, settings.base)
        self._results = results
        self._environment = prepare(
            settings.trial,
            base=settings.base,
            repository=self._code.fetch(settings.base),
            paths=paths,
            study=settings.study,
        )
        self._limits = limits_for(
            settings.trial, machine_bytes=machine_memory(), slots=settings.slots
        )
        self._sandbox = arrange(
            settings.trial.sandbox,
            environment=self._environment,
            data=settings.trial.data,
            paths=paths,
            devices=device_nodes(slot.gpu_uuids, NvmlGpus()),
            memory_bytes=self._limits.memory_bytes,
            uid=uid,
        )

    def worker(self, leases: LeaseSource) -> Worker:
        """Return the loop that serves the slot; raises EnvironmentFailed, of labels of no use."""
        settings, materialiser = self._settings, self._materialiser()
        return Worker(
            slot=self._slot,
            leases=leases,
            materialiser=materialiser,
            supervisors=(Supervisor(), Supervisor()),
            gpus=self._gpu_watch(materialiser.mark_prefix),
            predictor=self._predictor(),  # first, for what it finds amiss costs no process
            scorer=None if settings.score is None else self.scorer(settings.score),
            wait_for_cards=self._card_memory().wait_until_free,
            obstacle=lambda: lack_of_room(settings.paths.study) or self._code.lack(),
            results=self._results,
        )

    def scorer(self, score: ScoreConfig, section: str = SCORE) -> PredictionScorer:
        """Return a scorer of what the slot's trials leave; raises EnvironmentFailed."""
        settings = self._settings
        return arrange_scorer(
            score,
            metric=settings.metric,
            environment=self._environment,
            trial_sandbox=self._sandbox,
            limits=self._limits,
            place=self._place(),
            section=section,
        )

    def _predictor(self) -> Predictor | None:
        settings, score = self._settings, self._settings.score
        if score is None or not score.predict:
            return None
        trial = TrialPlace(
            environment=self._environment,
            sandbox=self._sandbox,
            limits=self._limits,
            slot=self._slot,
            threads=self._threads(),
            code=self._code,
            seed=self._seed(),
            metric=settings.metric,
        )
        scores = {SCORE: score, **settings.further}
        return arrange_predictor(scores, trial=trial, place=self._place())

    def _place(self) -> SlotPlace:
        settings = self._settings
        return SlotPlace(
            study=settings.study, slot=self._slot.id, base=settings.base, paths=settings.paths
        )

    def _threads(self) -> int:
        settings = self._settings
        cores = os.cpu_count() or 1
        return 0 if settings.trial.gpus else max(1, cores // settings.slots)

    def _materialiser(self) -> Materialiser:
        settings = self._settings
        return Materialiser(
            study=settings.study,
            slot=self._slot,
            paths=settings.paths,
            environment=self._environment,
            metric=settings.metric,
            code=self._code,
            sandbox=self._sandbox,
            threads=self._threads(),
            limits=self._limits,
            editable=settings.editable,
            preload=settings.trial.preload,
            seed=self._seed(),
            seed_pattern=settings.trial.seed_pattern,
            keep_gb=settings.keep.disk_gb,
        )

    def _gpu_watch(self, mark_prefix: str) -> GpuWatch:
        return GpuWatch(
            NvmlSampler(),
            self._slot.gpu_uuids,
            mark_prefix=mark_prefix,
            mark_of=mark_of,
            is_shared=self._settings.trial.gpus < 1,
            tolerated_mb=self._settings.gpu_busy_mb,
        )

    def _seed(self) -> CacheSeed | None:
        settings = self._settings
        if settings.trial.sandbox == "none":
            return None  # trials share the user's own caches
        return CacheSeed.of(
            self._slot, base=settings.base, paths=settings.paths, limits=self._limits
        )

    def _card_memory(self) -> CardMemory:
        # On a card that is shared, what others take says nothing of ours.
        is_shared = self._settings.trial.gpus < 1
        return CardMemory(() if is_shared else self._slot.gpu_uuids, NvmlGpus())


def beside(settings: WorkerSettings, name: str) -> SlotParts:
    """Return the parts of a place that is no slot: it has no card, and a user of its own.

    Raises EnvironmentFailed, as SlotParts does, and where all users are taken.
    """
    place = Claim(name=name, device="cpu", device_class="cpu", gpu_uuids=(), locks=())
    found = _with_user(place, settings)
    if isinstance(found, Unavailable):
        raise EnvironmentFailed(found.reason)
    slot = Slot(id=SlotId(name), incarnation="", node="", device="cpu", device_class="cpu")
    return SlotParts(settings, slot, uid=found.uid)
