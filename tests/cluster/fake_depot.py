"""The real depot in this process, behind a door that a test may shut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.transport.depot import DepotActor
from cluster.transport.packer import Packer, Packing, Parcel
from trainer.trial import CommitId


@dataclass
class FakeDepot:
    """A Depot; `before` is called with the name of each call, and may raise."""

    depot: DepotActor
    before: Callable[[str], None] = lambda _: None
    packer: Packer | None = None
    """What packs instead of the depot's own."""
    asked: list[tuple[CommitId, tuple[CommitId, ...]]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def bundle(self, commit: CommitId, have: Sequence[CommitId]) -> Parcel | Packing | None:
        self.before("bundle")
        self.asked.append((commit, tuple(have)))
        pack = self.packer.pack if self.packer else self.depot.bundle
        found = pack(commit, have)
        if isinstance(found, Parcel):
            self.sizes.append(found.size)
        return found

    def more(self, key: str, offset: int) -> bytes:
        self.before("more")
        return (self.packer or self.depot).more(key, offset)

    def __getattr__(self, name: str) -> Any:
        def call(*args: object) -> Any:
            self.before(name)
            answer = getattr(self.depot, name)(*args)
            self.calls.append(name)
            return answer

        return call


def away(_name: str) -> None:
    """Be a door that is shut."""
    raise ConnectionError("the depot is away")
