"""What there is to say of a study's slots as a whole, in words. Pure."""

from infra.fact_records import StatusFacts
from infra.plain_text import one_line, signed


def shifted(facts: StatusFacts) -> str:
    """Name the slots on which the incumbent scored otherwise when it was last run there."""
    found = [slot for slot in facts["slots"] if slot["shift"]]
    return ", ".join(f"{one_line(slot['slot'])} by {signed(slot['shift'])}" for slot in found)


def promotes(facts: StatusFacts) -> str:
    """Name the device class that promotes, where there are others."""
    classes = {slot["device_class"] for slot in facts["slots"]} - {facts["reference_class"]}
    if not classes or not facts["reference_class"]:
        return ""
    others = ", ".join(map(one_line, sorted(classes)))
    return f"{one_line(facts['reference_class'])}; screened on {others}"


def spent(facts: StatusFacts) -> str:
    """Say how the time of slots divides, once there is more than search."""
    hours = {name: float(value) for name, value in facts["spent"].items()}  # type: ignore[arg-type]
    total = sum(hours.values())
    if not total or hours["search"] == total:
        return ""
    shares = (f"{name} {100 * value / total:.0f} %" for name, value in hours.items() if value)
    return ", ".join(shares)
