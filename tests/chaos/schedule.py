"""Which fault comes when: drawn from a seed, and nothing else, so that a run can be played again.

Knows names of parts and machines. Does not know what to do about them: see tests.chaos.faults.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

HEAD_PARTS = (
    "controller",
    "fleet",
    "queue actor",
    "server",
    "worker",
    "supervisor",
    "raylet",
    "gcs",
)
"""What is killed on the head."""
NODE_PARTS = ("node process", "node driver", "node raylet", "node worker", "node supervisor")
"""What is killed on a joined node."""
LASTING = {
    "node": (2.0, 10.0),  # without power
    "partition": (3.0, 15.0),
    "pause": (3.0, 12.0),
    "full disk": (4.0, 10.0),
}
"""Faults of a whole machine that last, and for how many seconds."""
_LEAST_GAP, _MOST_GAP = 2, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A fault that is to come."""

    after: int
    """Results that are to be in since the fault before, so that the study makes progress."""
    delay_s: float
    """A moment more, so that it does not always hit the same step."""
    part: str
    machine: str
    lasts_s: float = 0.0

    def __str__(self) -> str:
        """Say it in a line."""
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        when = f"after {self.after} results and {self.delay_s:.2f} s"
        return f"{when}: {self.part} of {self.machine}{lasts}"


def plan(seed: int, *, faults: int, head: str, nodes: Sequence[str] = ()) -> list[Planned]:
    """Return a schedule: every kind of fault once in the seed's order, before any comes again."""
    chance = random.Random(seed)
    planned: list[Planned] = []
    while len(planned) < faults:
        kinds = [(part, head) for part in (*HEAD_PARTS, *LASTING)]
        if nodes:
            kinds += [(part, chance.choice(nodes)) for part in (*NODE_PARTS, *LASTING)]
        else:
            kinds.remove(("partition", head))  # there is nobody to be cut off from
        chance.shuffle(kinds)
        planned += [_planned(chance, part, machine) for part, machine in kinds]
    return planned[:faults]


def _planned(chance: random.Random, part: str, machine: str) -> Planned:
    shortest, longest = LASTING.get(part, (0.0, 0.0))
    return Planned(
        after=chance.randint(_LEAST_GAP, _MOST_GAP),
        delay_s=chance.uniform(0.0, 1.0),
        part=part,
        machine=machine,
        lasts_s=chance.uniform(shortest, longest),
    )
