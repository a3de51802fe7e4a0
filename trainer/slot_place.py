"""The place of a slot on its node: whose processes are marked how, and where its files are."""

from dataclasses import dataclass

from trainer.paths import WorkerPaths
from trainer.trial import CommitId, SlotId


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotPlace:
    """Where what serves a slot is to be."""

    study: str
    slot: SlotId
    base: CommitId
    """The study's base commit."""
    paths: WorkerPaths

    @property
    def mark_prefix(self) -> str:
        """With this begins the mark of every process of the slot's trials."""
        return f"{self.study}/{self.slot}/"
