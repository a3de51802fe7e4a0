"""One study, run to its end by a controller in a process of its own, so that its CPU is its own.

`python -m tests.benchmarks.study_process FOLDER` runs what FOLDER/order.json says and leaves
FOLDER/report.json. The controller is put together as `incumbent run` does it, but for its proposer,
and for one more observer, which takes the samples.
"""

import os
import resource
import socket
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.config import StudyConfig
from cluster.config_file import load_config
from cluster.controller.ports import Fleet
from cluster.git.source_repository import SourceRepository
from cluster.ledger.codec import from_json, to_json
from cluster.state import events as ev
from cluster.state.state import StudyState
from infra.local.checkout import CONFIG
from infra.local.settings import overridden
from infra.local.study import OpenStudy
from infra.processes import compose
from infra.processes.launch import prepare_study
from proposer.config import ClaudeSource, TunerSource, names_of
from proposer.proposal import Proposer
from tests.benchmarks.imaginary_fleet import FleetOrder, FleetReport, ImaginaryFleet
from tests.benchmarks.machine import proportional_mb
from tests.benchmarks.research import Kind, RandomNumbers, create_repository
from tests.benchmarks.thread_fleet import ThreadFleet

ORDER, REPORT = "order.json", "report.json"
_TWO = (TunerSource(kind="tuner"), ClaudeSource(kind="claude", model="slow"))
"""What a quick proposer and a slow one stand in for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run."""

    experiments: int
    slots: int = 8
    experiment_s: float = 0.0
    """How long each experiment sleeps."""
    latency_s: float = 0.0
    """How long the proposer takes for an answer."""
    slow_latency_s: float | None = None
    """The same for a second one, which works in batches as models do; None for none."""
    numbers: int = 1
    """How many numbers the script holds: what changes different ones can be merged."""
    samples_at: tuple[int, ...] = ()
    """Numbers of experiments judged after which a sample is taken."""
    kind: Kind = Kind.SHELL
    workers: str = "ray"
    """`ray`, or `threads` of the controller's own process; with a wait in place of a trial
    `imaginary`, in one process around the queue actor, or `imaginary_ray`, an actor each."""


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
class Left:
    """What the study's server did, and what lies on disk at its end."""

    commands: int = 0
    server_cpu_s: float = 0.0
    server_mb: float = 0.0
    append_only_mb: float = 0.0
    repository_mb: float = 0.0
    loose_refs: int = 0


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
    fleet: FleetReport = field(default_factory=FleetReport)
    """What imaginary workers saw."""
    left: Left = field(default_factory=Left)


class Sampler:
    """Takes the samples. Implements cluster.controller.ports.Observer."""

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
        numbers=order.numbers,
    )
    config = overridden(load_config(repository / CONFIG), limits={"experiments": order.experiments})
    if order.slow_latency_s is not None:
        config = config.model_copy(update={"proposer": _TWO})
    study = prepare_study(SourceRepository.find(repository), config).study
    try:
        epoch = study.ledger.begin_epoch()
        begun = ev.ControllerStarted(epoch=epoch, pid=os.getpid(), node=socket.gethostname())
        draft = ev.Draft(id=f"controller/{epoch}", at=compose.now(), event=begun)
        study.ledger.append([draft], epoch=epoch)
        sampler = Sampler(order.samples_at)
        fleet = _fleet(order, study, config, folder)
        watching, _ = compose.observers(study, config)
        ingredients = compose.Ingredients(
            study=study,
            config=config,
            epoch=epoch,
            fleet=fleet,
            proposers=_proposers(order),
            observers=[*watching, sampler],
            revive=study.server.revive,
        )
        finished = compose.controller(ingredients, study.state()).run()
        seen = fleet.report() if isinstance(fleet, ImaginaryFleet) else FleetReport()
        return replace(_report(study, finished, sampler), fleet=seen, left=_left(study))
    finally:
        study.server.release(study.client)


def _fleet(order: Order, study: OpenStudy, config: StudyConfig, folder: Path) -> Fleet:
    if order.workers == "threads":
        return ThreadFleet(study, config)
    if not order.workers.startswith("imaginary"):
        return compose.ray_fleet(study, config)
    wanted = FleetOrder(
        url=study.server.url,
        study=study.home.ledger_id,
        slots=order.slots,
        trial_s=order.experiment_s,
        runtime=str(study.home.runtime()) if order.workers == "imaginary_ray" else "",
    )
    return ImaginaryFleet(folder, wanted)


def _proposers(order: Order) -> list[Proposer]:
    if order.slow_latency_s is None:
        return [RandomNumbers(latency_s=order.latency_s, numbers=order.numbers)]
    quick, slow = names_of(_TWO)
    return [
        RandomNumbers(latency_s=order.latency_s, name=quick, numbers=order.numbers),
        RandomNumbers(latency_s=order.slow_latency_s, name=slow, seed=1, numbers=order.numbers),
    ]


def _left(study: OpenStudy) -> Left:
    told = study.client.info()
    return Left(
        commands=told["total_commands_processed"],
        server_cpu_s=told["used_cpu_user"] + told["used_cpu_sys"],
        server_mb=told["used_memory"] / 1024**2,
        append_only_mb=_size_mb(study.home.redis),
        repository_mb=_size_mb(study.home.git),
        loose_refs=sum(path.is_file() for path in (study.home.git / "refs").rglob("*")),
    )


def _size_mb(folder: Path) -> float:
    """Return what a folder takes on disk, in MiB: small files take a whole block each."""
    blocks = sum(path.lstat().st_blocks for path in folder.rglob("*"))
    return blocks * 512 / 1024**2


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
