"""Lines of `status`, in words. Pure."""

from collections.abc import Mapping

from infra.facts.fact_records import StatusFacts
from infra.facts.plain_text import duration, number


def believed(facts: StatusFacts) -> str:
    """Say what the incumbent is taken to score truly, where a judge has beliefs."""
    belief = facts["incumbent"]["belief"]
    return f"{number(belief['mean'])} ± {belief['sd']:.2g}" if belief else ""


def noise(facts: StatusFacts) -> str:
    """Say how much two runs of one tree differ, how well that is known, and from what."""
    found = facts["noise"]
    if found is None:
        return ""
    sure = f"{found['sigma']:.2g} a run, known within {100 / (2 * found['dof']) ** 0.5:.0f} %"
    left_out = ", one outlier left out" if found["outlier"] else ""
    return f"{sure}, from {_repeats(facts, found['runs'])}{left_out}"


def _repeats(facts: StatusFacts, runs: Mapping[str, int]) -> str:
    """Count the runs that tell of noise, and those of the baseline and of the incumbent apart."""
    if len(runs) == 1:
        return f"{sum(runs.values())} runs of {next(iter(runs))}"
    ends = dict.fromkeys((facts["baseline"]["experiment"], facts["incumbent"]["experiment"]))
    named = "".join(f", {runs[name]} of {name}" for name in ends if name in runs)
    return f"{sum(runs.values())} runs of {len(runs)} experiments{named}"


def queue(facts: StatusFacts) -> str:
    """Count what waits and what runs, and the time on slots so far."""
    counts = facts["queue"]
    used = duration(3600 * facts["slot_hours"])
    submitted = f"{counts['submitted']} submitted, " if counts["submitted"] else ""
    submitted += f"{counts['held']} held for approval, " if counts["held"] else ""
    said = f"{counts['ready']} ready, {counts['running']} running, {used} of slots used"
    return submitted + said
