"""The proposer `replay`: recorded proposals of another study, in order, one after the other.

For comparing policies on equal proposals, and for tests. A recorded patch is applied to the
incumbent of now, wherever its lines stand there by now; one whose lines are gone, or were changed,
is passed over and counted. It keeps no truth: where it was is told by the experiments that are of
its proposals, whose `origin` says their place.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proposer.constants import turned_constants
from proposer.edits import Edit, EditProblem, apply_edits
from proposer.proposal import Context, Proposal, ProposerDone, Scalar, TaskKind
from trainer.trial import ExperimentId

_FILE = re.compile(r"^diff --git a/(.+) b/(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One proposal of another study."""

    hypothesis: str
    patch: str
    """Its diff over the incumbent that it was made on."""
    category: str = ""
    experiment: str = ""
    """What it was there."""


def record(
    *,
    experiment: ExperimentId,
    proposer: str,
    hypothesis: str,
    category: str,
    patch: str,
    parameters: Mapping[str, Scalar],
) -> str:
    """Return a proposal as a line of JSON, for `read_recorded`."""
    facts = {
        "experiment": experiment,
        "proposer": proposer,
        "hypothesis": hypothesis,
        "category": category,
        "patch": patch,
        "parameters": dict(parameters),
    }
    return json.dumps(facts, ensure_ascii=False)


def read_recorded(text: str) -> list[Recorded]:
    """Read lines of JSON as `record` writes them; raises ValueError, which names the line."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            facts = json.loads(line)
            recorded = Recorded(
                hypothesis=str(facts["hypothesis"]),
                patch=str(facts["patch"]),
                category=str(facts.get("category", "")),
                experiment=str(facts.get("experiment", "")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} is no recorded proposal ({error})") from None
        found.append(recorded)
    return found


class Replay:
    """See Proposer for the contract. `used` are the origins of the experiments there are."""

    def __init__(
        self, *, name: str, proposals: Sequence[Recorded], used: Sequence[str] = ()
    ) -> None:
        self._name = name
        self._proposals = list(proposals)
        places = [int(o.rpartition("/")[2]) for o in used if o.startswith(f"{name}/")]
        self._next = max(places, default=-1) + 1
        self._passed_over = 0

    @property
    def name(self) -> str:
        """See Proposer."""
        return self._name

    @property
    def tasks(self) -> frozenset[TaskKind]:
        """None: it has no ideas of its own."""
        return frozenset()

    @property
    def advice(self) -> str:
        """None."""
        return ""

    @property
    def passed_over(self) -> int:
        """How many proposals did not fit what is the incumbent by now."""
        return self._passed_over

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        """Return the next recorded proposals that fit.

        Raises:
            ProposerDone: all were played; it says how many did not fit.
        """
        found: list[Proposal] = []
        while len(found) < count and self._next < len(self._proposals):
            place, self._next = self._next, self._next + 1
            proposal = self._proposal(context, place)
            if proposal is None:
                self._passed_over += 1
            else:
                found.append(proposal)
        if not found:
            missed = f", of which {self._passed_over} did not fit" if self._passed_over else ""
            raise ProposerDone(f"all {len(self._proposals)} were played{missed}")
        return found

    def _proposal(self, context: Context, place: int) -> Proposal | None:
        recorded = self._proposals[place]
        try:
            edits = apply_edits(context.files, _edits(recorded.patch))
        except EditProblem:
            return None
        parameters = turned_constants(context.files, {**context.files, **edits})
        return Proposal(
            edits=edits,
            hypothesis=recorded.hypothesis,
            category=recorded.category,
            parameters=parameters,
            origin=f"{self._name}/{place}",
        )


def _edits(patch: str) -> list[Edit]:
    """Return a patch of several files as one edit for each."""
    starts = list(_FILE.finditer(patch))
    ends = [start.start() for start in starts[1:]] + [len(patch)]
    return [
        Edit(path=start[2], diff=patch[start.start() : end])
        for start, end in zip(starts, ends, strict=True)
    ]
