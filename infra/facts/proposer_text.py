"""What proposers bring and cost, in words. Pure."""

from collections.abc import Iterator

from infra.facts.fact_records import ShowFacts, StatusFacts
from infra.facts.plain_text import counted, dollars, number, on_the_clock, one_line, signed
from infra.facts.proposer_records import CallFacts, ProposerFacts, TaskFacts, TokenFacts

_VERBS = {"fix": "mend", "compose": "compose"}


def task_words(task: str) -> str:
    """Return what a task asks for, e.g. "mend e12"; empty for no task."""
    kind, _, experiment = task.partition("/")
    return f"{_VERBS.get(kind, kind)} {experiment}".strip()


def models(facts: StatusFacts) -> str:
    """Say what calls of models came to, and how much of the limits that is."""
    costs, limits = facts["models"], facts["limits"]
    if not costs["calls"] and not costs["open_calls"]:
        return ""
    of = f" of {dollars(limits['usd'])}" if limits.get("usd") else ""
    most = f" of {limits['tokens']:,.0f}" if limits.get("tokens") else ""
    said = f"{dollars(costs['usd'])}{of}, {counted(costs['calls'], 'call')}"
    said += f", {_total(costs['tokens']):,} tokens{most}"
    if costs["open_calls"]:
        said += f"; {costs['open_calls']} on the way, at most {dollars(costs['reserved_usd'])}"
    refused = costs["refused"]
    return said + (f"; a limit holds {refused} back" if refused else "")


def per_win(facts: StatusFacts) -> str:
    """Say what a confirmed win costs, once a patch is on the branch."""
    costs = facts["models"]
    hours, usd = costs["gpu_hours_per_win"], costs["usd_per_win"]
    if hours is None or not hours:
        return ""
    paid = f" and {dollars(usd)}" if usd else ""
    return f"{hours:.3g} h of slots{paid}, {counted(costs['wins'], 'confirmed win')}"


def proposers(facts: StatusFacts) -> Iterator[tuple[str, str, str]]:
    """Yield a label, what each proposer brought, and its trouble; none of a tuner alone."""
    found = facts["proposers"]
    if len(found) == 1 and not found[0]["calls"] and not found[0]["trouble"]:
        return
    for index, one in enumerate(found):
        label = "" if index else "proposer"
        yield label, f"{one_line(one['name'])}: {_brought(one)}", _trouble(one)


def call_words(call: CallFacts | None) -> str:
    """Say which call an experiment came of, and what that cost."""
    if call is None:
        return ""
    shared = f" for {call['proposals']} proposals" if call["proposals"] > 1 else ""
    tokens = f"{_total(call['tokens']):,} tokens"
    model = one_line(call["model"])
    return (
        f"{call['call']} of {model}, to {call['purpose']}: {dollars(call['usd'])}{shared}, {tokens}"
    )


def asked_words(task: TaskFacts | None) -> str:
    """Say what an experiment was asked for."""
    if task is None:
        return ""
    if task["kind"] != "fix":
        return f"composes {task['experiment']} with the incumbent"
    most = f" of {task['most']}" if task["most"] else ""
    return f"mends {task['experiment']}, fix {task['number']}{most}"


def expectation(facts: ShowFacts) -> str:
    """Return the effect that its author expected, beside the measured one."""
    expected = facts["expected_effect"]
    if expected is None:
        return ""
    measured = facts["delta"]
    beside = f"; measured {signed(measured)}" if measured is not None else ""
    return f"{signed(expected)}{beside}"


def _brought(one: ProposerFacts) -> str:
    said = f"{one['proposals']} proposed, {one['kept']} kept"
    said += f", {counted(one['wins'], 'confirmed win')}" if one["wins"] else ""
    said += f", {number(one['gpu_hours'])} h of slots" if one["gpu_hours"] else ""
    if one["calls"]:
        said += f", {counted(one['calls'], 'call')}, {dollars(one['usd'])}"
    if one["usd_per_win"]:
        said += f" ({dollars(one['usd_per_win'])} a win)"
    return said


def _trouble(one: ProposerFacts) -> str:
    if one["exhausted"]:
        return f"has nothing more: {one_line(one['exhausted'])}"
    trouble = one["trouble"]
    if trouble is None:
        return ""
    until = on_the_clock(trouble["until"], "%H:%M")
    return f"in trouble until {until}: {one_line(trouble['reason'])}"


def _total(tokens: TokenFacts) -> int:
    return tokens["input"] + tokens["cache_read"] + tokens["cache_write"] + tokens["output"]
