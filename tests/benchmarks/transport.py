"""What it costs to bring a candidate to a node that does not hold the study's repository.

In one process, without Ray: what is measured is git's work and ours, on one machine. The peer is
`git fetch` from the same repository over file://, which a node would need a route to.
"""

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster.transport.depot import DepotActor
from cluster.transport.node_repository import NodeRepository
from cluster.transport.packer import Parcel
from cluster.transport.remote_code import RemoteCode
from tests.benchmarks.figures import Figure, at_most
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.workshop import place
from trainer.trial import CommitId

NAME = "transport"
FILES = 200
COMMITS = 20
IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@localhost",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@localhost",
}


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Yield sizes and times: of candidates as thin packs, of the whole, and of the peers."""
    with place() as where:
        yield from _measured(where.folder, sizes.repository_mb, sizes.candidates)


def _measured(folder: Path, megabytes: int, candidates: int) -> Iterator[Figure]:
    bare = folder / "study" / "repo.git"
    base, tips = _research(folder, bare, megabytes, candidates)
    depot = _Measured(DepotActor(str(bare.parent), base))
    code = RemoteCode(depot, NodeRepository(folder / "node" / "repo.git", pinned=base))
    whole_s = _seconds(lambda: code.fetch(base))
    whole_bytes = depot.sizes.pop()
    times = [_seconds(lambda tip=tip: code.fetch(tip)) for tip in tips]
    about = f"{megabytes} MB repository"
    yield _figure(f"{about}: a candidate", "bytes", depot.sizes, 4096)
    yield _figure(f"{about}: a candidate, packed, sent and taken in", "ms", _ms(times), 250)
    yield _figure(f"{about}: all of it, once per node", "MB", [whole_bytes / 1e6])
    yield _figure(f"{about}: all of it, packed, sent and taken in", "s", [whole_s])
    bundle = folder / "full.bundle"
    full = [
        _seconds(lambda tip=tip: _bundle(bare, tip, bundle))
        for tip in tips[: max(1, candidates // 10)]
    ]
    yield _figure(f"peer: full bundle of a candidate, {about}", "MB", [bundle.stat().st_size / 1e6])
    yield _figure(f"peer: making that, {about}", "s", full)
    peer = folder / "peer.git"
    _git(folder, "init", "--quiet", "--bare", str(peer))
    _fetch(peer, bare, base)
    fetched = [_seconds(lambda tip=tip: _fetch(peer, bare, tip)) for tip in tips]
    yield _figure(f"peer: git fetch of a candidate over file://, {about}", "ms", _ms(fetched))


class _Measured:
    """A depot that notes how much it hands over; otherwise the real one."""

    def __init__(self, depot: DepotActor) -> None:
        self._depot = depot
        self.more = depot.more
        self.sizes: list[int] = []

    def bundle(self, commit: CommitId, have: tuple[CommitId, ...]) -> object:
        found = self._depot.bundle(commit, have)
        if isinstance(found, Parcel):
            self.sizes.append(found.size)
        return found


def _research(
    folder: Path, bare: Path, megabytes: int, candidates: int
) -> tuple[CommitId, list[CommitId]]:
    """Make a repository of that size, incompressible, with a history, and candidates on its tip."""
    checkout = folder / "checkout"
    checkout.mkdir()
    _git(checkout, "init", "--quiet")
    bytes_of = random.Random(0).randbytes
    each = megabytes * 1_000_000 // FILES
    for start in range(0, FILES, FILES // COMMITS):
        for number in range(start, start + FILES // COMMITS):
            (checkout / f"data-{number}.bin").write_bytes(bytes_of(each))
        base = _commit(checkout, start)
    bare.parent.mkdir()
    _git(folder, "clone", "--quiet", "--bare", f"file://{checkout}", str(bare))  # in one pack
    tips = []
    for number in range(candidates):
        _git(checkout, "checkout", "--quiet", "--detach", base)
        tips.append(_commit(checkout, FILES + number))
        _git(checkout, "push", "--quiet", str(bare), f"HEAD:refs/incumbent/bench/e{number}")
    return base, tips


def _commit(checkout: Path, number: int) -> CommitId:
    lines = "".join(f"layer_{line} = {line * 31 % 97}\n" for line in range(400))
    (checkout / "train.py").write_text(f"LR = {1 / (number + 1)}\n{lines}")
    _git(checkout, "add", "--all")
    _git(checkout, "commit", "--quiet", "--message", f"Change {number}")
    return CommitId(_git(checkout, "rev-parse", "HEAD"))


def _bundle(bare: Path, tip: CommitId, file: Path) -> None:
    _git(bare, "update-ref", "refs/bench/tip", tip)
    _git(bare, "bundle", "create", "--quiet", str(file), "refs/bench/tip")


def _fetch(peer: Path, bare: Path, tip: CommitId) -> None:
    _git(peer, "fetch", "--quiet", f"file://{bare}", f"+{tip}:refs/node/{tip}")


def _git(folder: Path, *args: str) -> str:
    """Run git as a user would, with its configuration as it comes."""
    env = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null"}
    allow = ("-c", "uploadpack.allowAnySHA1InWant=true")
    return subprocess.check_output(["git", *allow, *args], cwd=folder, env=env, text=True).strip()


def _seconds(act: Callable[[], object]) -> float:
    started = time.monotonic()
    act()
    return time.monotonic() - started


def _ms(seconds: list[float]) -> list[float]:
    return [1000 * each for each in seconds]


def _figure(name: str, unit: str, values: list[float], most: float | None = None) -> Figure:
    aim = None if most is None else at_most(most)
    return Figure(bench=NAME, name=name, unit=unit, values=values, aim=aim)
