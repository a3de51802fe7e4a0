"""Final runs as the ledger tells them: full trainings, and what the test labels said. Pure.

A final run belongs to no experiment's story: nothing is judged by it. One that was broken off is
carried on by the next, as long as the same is asked for.
"""

from dataclasses import dataclass, replace

from cluster.state.hidden_label_events import FinalBegun, FinalReported, FinalRunEnded
from trainer.trial import Ending, TrialId, TrialOutcome

LOOKED = "the test labels were looked at"
"""How the message of a tag begins to say so: a ledger that is rebuilt goes by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """One final run: its trainings, and its report once there is one."""

    begun: FinalBegun
    runs: tuple[FinalRunEnded, ...] = ()
    reported: FinalReported | None = None

    @property
    def name(self) -> str:
        """`final-1`: what people and tags call it."""
        return f"final-{self.begun.final}"

    def trial(self, seed: int) -> TrialId:
        """Return what the training with a seed is called, e.g. `final-1.2`."""
        return TrialId(f"{self.name}.{seed}")

    def scored(self) -> dict[int, TrialOutcome]:
        """Return the outcome of each training that was scored, by its seed."""
        return {run.seed: run.outcome for run in self.runs if run.outcome.ending is Ending.SCORED}

    def failed(self) -> tuple[FinalRunEnded, ...]:
        """Return the latest ending of each training that was not scored."""
        latest = {run.seed: run for run in self.runs}
        return tuple(run for seed, run in sorted(latest.items()) if seed not in self.scored())

    def values(self) -> tuple[float, ...]:
        """Return the metric of each scored training, by order of seeds."""
        outcomes = self.scored()
        found = (outcomes[seed].value for seed in sorted(outcomes))
        return tuple(value for value in found if value is not None)


def numbered(finals: tuple[Final, ...], number: int) -> Final:
    """Return the final run of a number; raises KeyError if there is none."""
    found = {final.begun.final: final for final in finals}
    return found[number]


def next_number(finals: tuple[Final, ...]) -> int:
    """Return the number of the next final run."""
    return 1 + max((final.begun.final for final in finals), default=0)


def to_carry_on(finals: tuple[Final, ...], wanted: FinalBegun) -> Final | None:
    """Return the last final run if it has no report and the same is asked for; else None."""
    last = finals[-1] if finals else None
    if last is None or last.reported is not None:
        return None
    return last if replace(wanted, final=last.begun.final) == last.begun else None


def looks(finals: tuple[Final, ...], labels: str) -> int:
    """Return how often these test labels were looked at: each report with a score is a look.

    One of which a tag alone is left, after a ledger was rebuilt, may have been of any labels: it
    counts as of these.
    """
    reports = [final.reported for final in finals if final.reported is not None]
    known = sum(bool(report.test) and report.labels == labels for report in reports)
    return known + sum(bool(report.looks) and not report.labels for report in reports)


def begun(finals: tuple[Final, ...], event: FinalBegun) -> tuple[Final, ...]:
    """Add a final run."""
    return (*finals, Final(begun=event))


def changed(finals: tuple[Final, ...], event: FinalRunEnded | FinalReported) -> tuple[Final, ...]:
    """Note what came of a training, or the report."""
    if isinstance(event, FinalReported):
        return tuple(replace(f, reported=event) if _is_of(f, event) else f for f in finals)
    return tuple(replace(f, runs=(*f.runs, event)) if _is_of(f, event) else f for f in finals)


def _is_of(final: Final, event: FinalRunEnded | FinalReported) -> bool:
    return final.begun.final == event.final
