"""What there is to say of a study's slots as a whole, in words. Pure."""

from infra.facts.fact_records import SlotFacts, StatusFacts
from infra.facts.node_facts import RUNNING
from infra.facts.plain_text import one_line, signed


def shifted(facts: StatusFacts) -> str:
    """Name the slots on which the incumbent scored otherwise when it was last run there."""
    found = [slot for slot in facts["slots"] if slot["shift"]]
    return ", ".join(f"{one_line(slot['slot'])} by {signed(slot['shift'])}" for slot in found)


def in_use(facts: StatusFacts) -> list[SlotFacts]:
    """Return the slots that are there: not those that were given up, as all are after a run."""
    return [slot for slot in facts["slots"] if slot["state"] != "closed"]


def blocked(facts: StatusFacts) -> str:
    """Tell in full why slots take no work; the list of slots has no room for it.

    Of a node as a whole it is told once, beside.
    """
    well = {node["node"] for node in facts["nodes"] if node["state"] in {RUNNING, "joined"}}
    slots = (slot for slot in facts["slots"] if slot["node"] in well)
    found = [slot for slot in slots if slot["state"] == "blocked"]
    return "; ".join(f"{one_line(slot['slot'])}: {one_line(slot['note'])}" for slot in found)


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
