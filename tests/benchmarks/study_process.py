"""One study, run to its end by a controller in a process of its own, so that its CPU is its own.

`python -m tests.benchmarks.study_process FOLDER` runs what FOLDER/order.json says and leaves
FOLDER/report.json. The controller is put together as `incumbent run` does it, but for its proposer,
and for one more observer, which takes the samples.
"""

import os
import resource
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from cluster import events as ev
from cluster.codec import from_json, to_json
from cluster.config import StudyConfig
from cluster.config_file import load_config
from cluster.ports import Fleet
from cluster.source_repository import SourceRepository
from cluster.state import StudyState
from infra import compose
from infra.launch import CONFIG, prepare_study
from infra.settings import overridden
from infra.study import OpenStudy
from tests.benchmarks.machine import proportional_mb
from tests.benchmarks.research import Kind, RandomNumbers, create_repository
from tests.benchmarks.thread_fleet import ThreadFleet

ORDER, REPORT = "order.json", "report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run."""

    experiments: int
    slots: int = 8
    experiment_s: float = 0.0
    """How long each experiment sleeps."""
    latency_s: float = 0.0
    """How long the proposer takes for an answer."""
    samples_at: tuple[int, ...] = ()
    """Numbers of experiments judged after which a sample is taken."""
    kind: Kind = Kind.SHELL
    workers: str = "ray"
    """`ray`, or `threads` of the controller's own process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the controller had used up when so many experiments were judged."""

    judged: int
    own_cpu_s: float
    children_cpu_s: float
    """Of processes that it waited for: git, and the drawing of pictures."""
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One trial that finished."""

    started_s: float
    """When it was leased, in seconds since 1970."""
    finished_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a study."""

    finished: str
    samples: tuple[Sample, ...]
    trials: tuple[Ran, ...]
    """In order of their ends."""
    judged_s: tuple[float, ...]
    """When the proposals were judged, in order, in seconds since 1970."""
    open_s: float
    """When the last of the slots had presented itself."""


class Sampler:
    """Takes the samples. Implements cluster.ports.Observer."""

    def __init__(self, samples_at: tuple[int, ...]) -> None:
        self._due = list(samples_at)
        self.samples: list[Sample] = []

    def observe(self, recorded: ev.Recorded, state: StudyState) -> None:
        """See Observer."""
        if self._due and state.judged >= self._due[0]:
            self._due.pop(0)
            self.samples.append(_sample(state.judged))

    def resume(self, state: StudyState) -> None:
        """See Observer."""

    def close(self) -> None:
        """See Observer."""


def _sample(judged: int) -> Sample:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return Sample(
        judged=judged,
        own_cpu_s=own.ru_utime + own.ru_stime,
        children_cpu_s=children.ru_utime + children.ru_stime,
        memory_mb=proportional_mb(os.getpid()),
    )


def perform(order: Order, folder: Path) -> Report:
    """Run a study of a new repository in `folder` to its end."""
    repository = create_repository(
        folder / "repository",
        slots=order.slots,
        experiment_s=order.experiment_s,
        kind=order.kind,
    )
    config = overridden(load_config(repository / CONFIG), limits={"experiments": order.experiments})
    study = prepare_study(SourceRepository.find(repository), config).study
    try:
        epoch = study.ledger.begin_epoch()
        begun = ev.ControllerStarted(epoch=epoch, pid=os.getpid(), node=socket.gethostname())
        draft = ev.Draft(id=f"controller/{epoch}", at=compose.now(), event=begun)
        study.ledger.append([draft], epoch=epoch)
        sampler = Sampler(order.samples_at)
        watching, _ = compose.observers(study, config)
        ingredients = compose.Ingredients(
            study=study,
            config=config,
            epoch=epoch,
            fleet=_fleet(order, study, config),
            proposers=[RandomNumbers(latency_s=order.latency_s)],
            observers=[*watching, sampler],
            revive=study.server.revive,
        )
        finished = compose.controller(ingredients, study.state()).run()
        return _report(study, finished, sampler)
    finally:
        study.server.release(study.client)


def _fleet(order: Order, study: OpenStudy, config: StudyConfig) -> Fleet:
    if order.workers == "threads":
        return ThreadFleet(study, config)
    return compose.ray_fleet(study, config)


def _report(study: OpenStudy, finished: str, sampler: Sampler) -> Report:
    started: dict[str, float] = {}
    opened: dict[str, float] = {}
    trials, judged = [], []
    seq = 0
    while page := study.ledger.read(seq):
        seq = page[-1].seq
        for recorded in page:
            at, event = recorded.at.timestamp(), recorded.event
            if isinstance(event, ev.SlotOpened):
                opened.setdefault(event.slot, at)
            elif isinstance(event, ev.TrialStarted):
                started[event.trial] = at
            elif isinstance(event, ev.TrialFinished):
                trials.append(Ran(started_s=started[event.trial], finished_s=at))
            elif isinstance(event, ev.ExperimentJudged) and event.experiment != "e0":
                judged.append(at)
    return Report(
        finished=finished,
        samples=tuple(sampler.samples),
        trials=tuple(trials),
        judged_s=tuple(judged),
        open_s=max(opened.values()),
    )


def main() -> int:
    """Run the order in the folder that is the only argument."""
    folder = Path(sys.argv[1])
    order = from_json(Order, (folder / ORDER).read_bytes())
    (folder / REPORT).write_bytes(to_json(perform(order, folder)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
