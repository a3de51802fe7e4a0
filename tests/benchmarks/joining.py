"""How soon a machine that joins a running study works for it.

Machines are namespaces of this one (tests.chaos.machines), so that nothing travels further than
between two of its processes, and both share its processors. What is told is Ray's start and ours.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.workshop import Failed
from tests.chaos.machines import PROGRAM, ROOT, Command, Machine, Rack, obstacle
from tests.chaos.study import Study

NAME = "joining"
NODE = "rig"
ENOUGH = 100_000
"""Experiments, so that the study is not over before the machine has joined twice."""
PATIENCE_S = 180.0
TOKEN = Path("home/token")


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield the seconds from `incumbent join` to the first trial, of new and of prepared nodes."""
    if problem := obstacle():
        sys.stderr.write(f"{NAME}: left out, for {problem}\n")
        return
    new, again, ready = [], [], []
    for _ in range(sizes.repeats):
        with _study() as (study, node):
            new.append(_first_trial(study, node))
            again.append(_first_trial(study, node))
            ready.append(study.state().nodes[NODE].prepared_s)
    what = "from `incumbent join` to the machine's first trial"
    yield Figure(bench=NAME, name=f"{what}, new", unit="s", values=new)
    yield Figure(
        bench=NAME, name=f"{what}, prepared before", unit="s", values=again, aim=at_most(30.0)
    )
    name = "of that, starting Ray and seeing that all is prepared"
    yield Figure(bench=NAME, name=name, unit="s", values=ready)


@contextmanager
def _study() -> Iterator[tuple[Study, Machine]]:
    """Run a study with one slot that others may join, beside a machine that has not."""
    with tempfile.TemporaryDirectory(prefix="ib-") as outputs, Rack(Path(outputs)) as rack:
        study = Study(head=rack.add("head"), experiments=ENOUGH, listens=True, slots=1)
        study.create()
        study.start()
        try:
            _wait(study.outside(study.home.directory / "ray.token").exists, "a token", study.logs)
            _wait(lambda: study.state().open_slots, "a slot of the head", study.logs)
            yield study, rack.add(NODE)
        finally:
            study.give_up()
            study.incumbent("stop", "--now")


def _first_trial(study: Study, node: Machine) -> float:
    """Have a machine join and leave; return the seconds until its first trial began."""
    token = node.outside(TOKEN)
    token.write_text(study.outside(study.home.directory / "ray.token").read_text())
    token.chmod(0o600)
    begun = datetime.now(UTC)
    joined = node.start(
        str(PROGRAM), "join", study.reach, "--slots=1", f"--token-file={ROOT / TOKEN}"
    )
    seconds: list[float] = []

    def has_begun() -> bool:
        seconds[:] = _starts(study, begun)
        return bool(seconds)

    _wait(has_begun, "a trial of the machine that joined", lambda: joined.output)
    _leave(node, joined)
    return min(seconds)


def _starts(study: Study, begun: datetime) -> list[float]:
    """Return after how many seconds each trial of the node began."""
    trials = (t for e in study.state().experiments.values() for t in e.trials if t.node == NODE)
    starts = (trial.started_at for trial in trials if trial.started_at)
    return [(start - begun).total_seconds() for start in starts if start >= begun]


def _leave(node: Machine, joined: Command) -> None:
    done = node.run(str(PROGRAM), "leave", timeout_s=PATIENCE_S)
    if done.returncode or joined.wait(PATIENCE_S):
        raise Failed(f"the machine did not leave: {done.stderr}{joined.output}")


def _wait(condition: Callable[[], object], what: str, told: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {PATIENCE_S:g} s for {what}\n{told()}")
        time.sleep(0.05)
