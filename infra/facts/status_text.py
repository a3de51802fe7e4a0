"""Lines of `status`, in words. Pure."""

from infra.facts.fact_records import StatusFacts
from infra.facts.plain_text import duration, number


def believed(facts: StatusFacts) -> str:
    """Say what the incumbent is taken to score truly, where a judge has beliefs."""
    belief = facts["incumbent"]["belief"]
    return f"{number(belief['mean'])} ± {belief['sd']:.2g}" if belief else ""


def noise(facts: StatusFacts) -> str:
    """Say how much two runs of one tree differ, and how well that is known."""
    found = facts["noise"]
    if found is None:
        return ""
    sure = f"{found['sigma']:.2g} a run, known within {100 / (2 * found['dof']) ** 0.5:.0f} %"
    return sure + (", one outlier left out" if found["outlier"] else "")


def queue(facts: StatusFacts) -> str:
    """Count what waits and what runs, and the time on slots so far."""
    counts = facts["queue"]
    used = duration(3600 * facts["slot_hours"])
    submitted = f"{counts['submitted']} submitted, " if counts["submitted"] else ""
    submitted += f"{counts['held']} held for approval, " if counts["held"] else ""
    said = f"{counts['ready']} ready, {counts['running']} running, {used} of slots used"
    return submitted + said
