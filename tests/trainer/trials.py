"""A trial and a slot, where a test asks only who has what."""

from trainer.ports import Slot
from trainer.trial import CommitId, ExperimentId, Place, SlotId, TrialId, TrialSpec

ANYWHERE = Place()


def spec(number: int, attempt: int = 1, place: Place = ANYWHERE) -> TrialSpec:
    """Return the first trial of an experiment, by the experiment's number."""
    return TrialSpec(
        trial=TrialId(f"e{number}.1"),
        experiment=ExperimentId(f"e{number}"),
        attempt=attempt,
        commit=CommitId("a" * 40),
        seed=1,
        budget_s=1.0,
        timeout_s=2.0,
        place=place,
    )


def cpu_slot(name: str = "cpu-0", *, node: str = "here") -> Slot:
    """Return a slot of a node."""
    return Slot(id=SlotId(name), incarnation="a", node=node, device="cpu", device_class="cpu")
