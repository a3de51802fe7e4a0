"""A final run: full trainings of one candidate on slots of this machine, then the test labels.

Needs no controller. Slots are taken as workers take them, by the locks of this machine, so it may
run beside a study that leaves some free. Each training is recorded when it ends, and its output
kept: one that is broken off is carried on. A look at the test labels is recorded with the scores,
before anybody is told them; what dies before that has looked at nothing.
"""

import hashlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cluster.config import StudyConfig
from cluster.git.mirror import Mirror
from cluster.git.study_repository import StudyRepository
from cluster.state import events as ev
from cluster.state import hidden_label_events as hidden
from cluster.state.final_runs import Final, looks, next_number, numbered, to_carry_on
from cluster.state.state import StudyState
from infra.facts.final_facts import tag_message
from infra.local.artifacts import paths_at
from infra.local.controller_process import find_controller
from infra.local.final_process import FinalOrder
from infra.local.home import StudyProblem
from infra.local.settings import default_cpu_slots
from infra.local.study import OpenStudy
from trainer.config import ScoreConfig
from trainer.fixed_work import FixedWork
from trainer.gpu import NvmlGpus
from trainer.ports import Slot
from trainer.scorer import PredictionScorer
from trainer.slot_parts import SlotParts, WorkerSettings, claim
from trainer.slots import Claim, Unavailable
from trainer.trial import CommitId, ExperimentId, SlotId, TrialOutcome, TrialSpec

_LOOK_S = 0.2
_HOLDOUT, _TEST = "[holdout]", "[final]"


class FinalRun:
    """Carries one order out, or carries on what was broken off."""

    def __init__(self, study: OpenStudy, order: FinalOrder, stop: threading.Event) -> None:
        """`stop` is set by whoever wants it to give back what runs, and to end."""
        self._study = study
        self._order = order
        self._stop = stop
        self._config = order.config
        self._incarnation = uuid.uuid4().hex[:12]
        self._paths = paths_at(study.home)

    def carry_out(self) -> None:
        """Train, score, record, and tag.

        Raises:
            StudyProblem: there is nothing to train, no slot to train on, or a training failed.
            EnvironmentFailed: trials cannot be run here, or labels are of no use.
        """
        self._tag_all()  # a process before us may have died between the ledger and git
        final = self._begin()
        claims = slots_for(self._settings(1), len(self._missing(final)) or 1)
        try:
            parts = self._parts(claims)
            self._train(final, parts)
            self._report(self._final(final), parts[0])
        finally:
            for claimed in claims:
                claimed.release()
        self._tag_all()

    # --- what is asked for -----------------------------------------------------------------------

    def _begin(self) -> Final:
        """Return the final run to carry on, or a new one."""
        state = self._study.state()
        experiment, commit = _target(state, self._order.experiment)
        trial = self._config.final.trial(self._config.trial)
        depends: dict[str, object] = {
            "trial": trial.model_dump(mode="json"),
            "predictions": [score.predictions for _, score in self._hidden()],
        }
        if self._config.asks_models:  # what was trained before there was this does not depend on it
            scores = self._config.scores().values()
            depends["predict"] = [[score.predict, score.inputs] for score in scores]
        wanted = hidden.FinalBegun(
            final=next_number(state.finals),
            experiment=experiment,
            commit=commit,
            seeds=tuple(range(1, self._config.final.seeds + 1)),
            settings=json.dumps(depends, sort_keys=True),
        )
        if found := to_carry_on(state.finals, wanted):
            return found
        self._record(f"final/{wanted.final}/begun", wanted)
        return Final(begun=wanted)

    def _final(self, final: Final) -> Final:
        """Return it as the ledger has it by now."""
        return numbered(self._study.state().finals, final.begun.final)

    def _hidden(self) -> list[tuple[str, ScoreConfig]]:
        """Return how the hidden labels that there are are scored, by their sections."""
        scores = self._config.scores()
        return [(section, scores[section]) for section in (_HOLDOUT, _TEST) if section in scores]

    def _left(self, spec: TrialSpec) -> Path:
        """Return where what a training left to be scored is kept."""
        return self._paths.predictions(spec) if self._config.asks_models else self._paths.out(spec)

    def _missing(self, final: Final) -> list[TrialSpec]:
        """Return the trainings that are still to be done."""
        scored = final.scored()
        specs = [self._spec(final, seed) for seed in final.begun.seeds]
        needed = bool(self._hidden())  # what was left is scored only at the end
        return [s for s in specs if s.seed not in scored or (needed and not self._left(s).is_dir())]

    def _spec(self, final: Final, seed: int) -> TrialSpec:
        trial = self._config.final.trial(self._config.trial)
        return TrialSpec(
            trial=final.trial(seed),
            experiment=final.begun.experiment,
            attempt=1,
            commit=final.begun.commit,
            seed=seed,
            budget_s=trial.budget_s,
            timeout_s=trial.timeout_s,
            is_repeat=seed > 1,
        )

    # --- training --------------------------------------------------------------------------------

    def _settings(self, slots: int) -> WorkerSettings:
        config, state = self._config, self._study.state()
        busy = _slots_of(config) if find_controller(self._study.home) else 0
        return WorkerSettings(
            study=self._study.home.id,
            base=state.base_commit,
            paths=self._paths,
            trial=config.final.trial(config.trial),
            metric=config.metric.metric(),
            slots=slots + busy,
            gpu_busy_mb=config.cluster.gpu_busy_mb,
            editable=config.study.editable,
            score=config.score,
            further=config.asked_besides(_HOLDOUT, _TEST),
            keep=config.keep,
        )

    def _parts(self, claims: Sequence[Claim]) -> list[SlotParts]:
        """Return what serves each slot, once it is clear that nothing will be missing later."""
        settings = self._settings(len(claims))
        parts = [SlotParts(settings, _slot(found), uid=found.uid) for found in claims]
        for section, score in self._hidden():
            parts[0].scorer(score, section).close()
        return parts

    def _train(self, final: Final, parts: Sequence[SlotParts]) -> None:
        """Run what is missing, on all slots at once; raises StudyProblem if a training fails."""
        work = FixedWork(
            self._missing(final),
            finished=lambda spec, outcome: self._ended(final, spec, outcome),
            heard=self._study.progress.record,
        )
        workers = [each.worker(work) for each in parts]
        threads = [threading.Thread(target=worker.run) for worker in workers]
        for thread in threads:
            thread.start()
        while alive := [thread for thread in threads if thread.is_alive()]:
            if self._stop.is_set():
                work.end()
            alive[0].join(_LOOK_S)
        now = self._final(final)
        if self._stop.is_set():
            raise StudyProblem("it was stopped; `incumbent final` carries on")
        if len(now.scored()) < len(final.begun.seeds):
            ends = (f"{final.trial(run.seed)}: {run.outcome.reason}" for run in now.failed())
            told = work.problem or "; ".join(ends) or "a training came to no end"
            logs = self._study.home.logs
            raise StudyProblem(f"{told} (logs are in {logs}; `incumbent final` tries that again)")

    def _ended(self, final: Final, spec: TrialSpec, outcome: TrialOutcome) -> None:
        self._study.progress.forget(spec.trial)
        event = hidden.FinalRunEnded(final=final.begun.final, seed=spec.seed, outcome=outcome)
        # What failed is run again by a later process, and ends again.
        self._record(f"final/{event.final}/run/{event.seed}/{self._incarnation}", event)

    # --- the test labels -------------------------------------------------------------------------

    def _report(self, final: Final, parts: SlotParts) -> None:
        values: dict[str, tuple[float, ...]] = {}
        problems = []
        for section, score in self._hidden():
            scorer = parts.scorer(score, section)
            try:
                values[section], problem = self._scored(final, scorer)
            finally:
                scorer.close()
            problems += [f"{section} {problem}"] if problem else []
        test = values.get(_TEST, ())
        labels = _digest(self._config.final.labels) if self._config.test_score() else ""
        before = looks(self._study.state().finals, labels) if labels else 0
        report = hidden.FinalReported(
            final=final.begun.final,
            holdout=values.get(_HOLDOUT, ()),
            test=test,
            labels=labels,
            looks=before + bool(test),
            problem="; ".join(problems),
        )
        self._record(f"final/{report.final}/reported", report)

    def _scored(self, final: Final, scorer: PredictionScorer) -> tuple[tuple[float, ...], str]:
        """Return the score of what each training left, or why one of them has none."""
        values: list[float] = []
        for seed in final.begun.seeds:
            spec = self._spec(final, seed)
            told = scorer.begin(spec, self._left(spec))
            while told is None:
                told = scorer.poll(_LOOK_S)
            if told.is_ours:
                raise StudyProblem(told.reason)
            if told.value is None:
                return (), f"{spec.trial}: {told.reason}"
            values.append(told.value)
        return tuple(values), ""

    # --- records ---------------------------------------------------------------------------------

    def _record(self, event_id: str, event: ev.Event) -> None:
        draft = ev.Draft(id=event_id, at=datetime.now(UTC), event=event)
        self._study.ledger.append([draft])

    def _tag_all(self) -> None:
        """Have a tag for every report, in the study's repository and in the user's."""
        home, state = self._study.home, self._study.state()
        repository = StudyRepository.open(home.git, study=home.name)
        for final in state.finals:
            if final.reported is not None:
                repository.tag(final.name, final.begun.commit, tag_message(state, final))
        Mirror(repository, home.repository).sync()


def _target(state: StudyState, wanted: ExperimentId) -> tuple[ExperimentId, CommitId]:
    """Return what is to be trained: the incumbent, unless another is wanted."""
    if not state.lineage:
        raise StudyProblem("there is no incumbent yet: `incumbent run` measures the baseline first")
    if not wanted or wanted == state.lineage[-1]:
        return state.lineage[-1], state.incumbent_commit
    found = state.experiments.get(wanted)
    if found is None:
        raise StudyProblem(f"there is no experiment {wanted} (see `incumbent log`)")
    return wanted, found.promoted or found.commit


def _slots_of(config: StudyConfig) -> int:
    return config.cluster.slots or (0 if config.trial.gpus else default_cpu_slots())


def slots_for(settings: WorkerSettings, most: int) -> list[Claim]:
    """Take up to so many slots; raises StudyProblem if there is none.

    By a name of its own: workers of one study share a card among them, and a final run with none.
    """
    found: list[Claim] = []
    reason = "there is no card"
    for indexes in _places(settings, most):
        if len(found) == most:
            break
        mine = replace(settings, study=f"{settings.study}/final", number=len(found))
        taken = claim(mine, indexes)
        if isinstance(taken, Unavailable):
            reason = taken.reason
        else:
            found.append(taken)
    if not found:
        raise StudyProblem(
            f"there is no slot for it: {reason}. `incumbent stop` frees those of a study, and "
            "`incumbent run` carries that on later"
        )
    return found


def _places(settings: WorkerSettings, most: int) -> list[tuple[int, ...]]:
    """Return the cards of each place where a slot might be."""
    share = settings.trial.gpus
    if not share:
        return [()] * min(most, default_cpu_slots())
    cards = sorted(card.index for card in NvmlGpus().look())
    width = max(1, int(share))
    groups = [tuple(cards[i : i + width]) for i in range(0, len(cards) - width + 1, width)]
    return groups if share > 0.5 else groups * int(1 / share)


def _slot(found: Claim) -> Slot:
    return Slot(
        id=SlotId(f"final-{found.name}"),  # a worker of the study may have one of the same name
        incarnation=str(os.getpid()),
        node=socket.gethostname(),
        device=found.device,
        device_class=found.device_class,
        gpu_uuids=found.gpu_uuids,
    )


def _digest(labels: str) -> str:
    return hashlib.sha256(Path(labels).expanduser().read_bytes()).hexdigest()[:16]
