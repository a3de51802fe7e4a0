"""How long a person waits for the command line."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.state.events import Draft, Recorded
from cluster.state.state import StudyState
from infra.local.home import StudyHome
from infra.local.study import OpenStudy, opened
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.research import FIRST_LINE, create_repository
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.workshop import Failed, Place, place
from tests.infra.study_factory import Study

NAME = "commands"
INCUMBENT = str(Path(sys.executable).with_name("incumbent"))
BATCH = 500
PROMOTED_EVERY = 100


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield the waits for help, for the status of a long study, and for a study to begin."""
    yield from _help(sizes)
    yield from status_figures(sizes)
    waits = []
    for _ in range(sizes.repeats):
        with place() as where:
            waits.append(_first_line(where, sizes.slots))
    name = f"incumbent run, {sizes.slots} slots, to the first trial's first line"
    yield Figure(bench=NAME, name=name, unit="s", values=waits, aim=at_most(15.0))


def _help(sizes: Sizes) -> Iterator[Figure]:
    waits = _waits(["--help"], Path.cwd(), sizes.command_repeats)
    yield Figure(bench=NAME, name="incumbent --help", unit="s", values=waits, aim=at_most(0.4))


def _waits(
    arguments: Sequence[str], cwd: Path, repeats: int, where: Place | None = None
) -> list[float]:
    environment = dict(where.environment) if where else dict(os.environ)
    waits = []
    for _ in range(repeats):
        start = time.monotonic()
        done = subprocess.run(
            [INCUMBENT, *arguments], cwd=cwd, env=environment, capture_output=True, check=False
        )
        waits.append(time.monotonic() - start)
        if done.returncode:
            raise Failed(f"incumbent {' '.join(arguments)}: {done.stderr.decode()}")
    return waits


# --- the status of a long study -------------------------------------------------------------------


def status_figures(sizes: Sizes) -> Iterator[Figure]:
    """Yield how long `incumbent status` takes, with its server up as while a study runs."""
    known = f"incumbent status at {sizes.known:,} experiments"
    for slots in (sizes.slots, sizes.fleets[-1][0]):
        yield from _status_of(slots, f"{known}, {slots} slots", sizes)


def _status_of(slots: int, known: str, sizes: Sizes) -> Iterator[Figure]:
    with place() as where:
        repository = create_repository(where.folder / "repository", slots=slots)
        home = StudyHome(
            name="bench",
            repository=repository,
            directory=where.folder / "state" / "studies" / "bench-0",
        )
        home.create()
        with opened(home) as study:
            end, earlier = _fill(study, sizes.known, slots)
            for snapshot in (end, earlier):
                study.ledger.save_snapshot(snapshot)
                waits = _waits(["status"], repository, sizes.command_repeats, where)
                name = f"{known}, snapshot {end.seq - snapshot.seq:,} events old"
                yield Figure(bench=NAME, name=name, unit="s", values=waits, aim=at_most(0.7))


def _fill(study: OpenStudy, experiments: int, slots: int) -> tuple[StudyState, StudyState]:
    """Give the study a past; return its state, and the one that its oldest snapshot may hold.

    The controller lets a snapshot fall behind by a twentieth of all events before it takes the
    next (cluster.controller.controller).
    """
    told = Study(slots=slots)
    earlier = told.state
    told.baseline(1.0)
    for number in range(1, experiments):
        value = 1.0 + 1.0 / number
        if number % PROMOTED_EVERY:
            told.discard(f"LR 0.1 -> {value:.6f}", value)
        else:
            told.keep(f"LR 0.1 -> {value:.6f}", 1.0 - number / experiments)
        if number <= experiments * 19 // 20:
            earlier = told.state
    for start in range(0, len(told.events), BATCH):
        study.ledger.append([_draft(event) for event in told.events[start : start + BATCH]])
    return told.state, earlier


def _draft(recorded: Recorded) -> Draft:
    return Draft(id=recorded.id, at=recorded.at, event=recorded.event)


# --- the start of a study -------------------------------------------------------------------------


def _first_line(where: Place, slots: int) -> float:
    """Return the seconds from the start of `incumbent run` to what the baseline prints first."""
    repository = create_repository(where.folder / "repository", slots=slots, is_stamped=True)
    begun = time.time()
    done = subprocess.run(
        [INCUMBENT, "run", "--experiments", "1"],
        cwd=repository,
        env=dict(where.environment),
        capture_output=True,
        check=False,
    )
    logs = [log.read_text("utf-8") for log in where.homes()[0].logs.glob("e0.1*.log")]
    found = FIRST_LINE.search("\n".join(logs))
    if done.returncode or found is None:
        raise Failed(f"incumbent run: {done.stderr.decode()[-2000:]}")
    return float(found[1]) - begun
