"""What proposers brought, what they cost, and what came of it, as JSON can hold it. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import reduce

from cluster.ledger.ledger import Ledger
from cluster.state.events import CallReserved, CallSettled, Recorded
from cluster.state.experiment import Experiment, Kind, Status
from cluster.state.state import ProposerAccount, StudyState
from cluster.state.winners import brought, on_tree
from infra.facts.proposer_records import CallFacts, CostFacts, ProposerFacts, TaskFacts, TokenFacts
from proposer.purse import Usage

_PAGE = 500
"""Events that are looked through at once: a call is not long before what came of it."""


def confirmed_wins(state: StudyState) -> list[Experiment]:
    """Return the proposals that count as confirmed wins, oldest on the branch first.

    Of each patch on the incumbent's tree the effect is that of the step that brought it there, as
    its verdict believed it; under a judge without beliefs, what it measured.
    """
    if not state.lineage:
        return []
    found = {}
    for step in on_tree(state, state.lineage[-1]):
        origin = state.experiments[brought(state, step)[-1]]
        effect = step.effect.mean if step.effect else step.delta
        if origin.kind is Kind.PROPOSAL and not origin.reverts and (effect or 0.0) > 0:
            found[origin.id] = origin
    return list(found.values())


def proposer_facts(state: StudyState) -> list[ProposerFacts]:
    """Return what each proposer brought and cost; people, who submit, are none."""
    names = {*state.accounts, *state.troubled, *state.exhausted} - {"", "baseline", "user"}
    wins = Counter(win.proposer for win in confirmed_wins(state))
    hours: defaultdict[str, float] = defaultdict(float)
    kept: Counter[str] = Counter()
    for experiment in state.experiments.values():
        hours[experiment.proposer] += experiment.seconds / 3600
        kept[experiment.proposer] += experiment.status is Status.KEPT
    return [
        _facts(state, name, kept=kept[name], wins=wins[name], hours=hours[name])
        for name in sorted(names)
    ]


def cost_facts(state: StudyState) -> CostFacts:
    """Return what models cost in all, and what a confirmed win did."""
    accounts = state.accounts.values()
    usd = sum(account.usd for account in accounts)
    wins = len(confirmed_wins(state))
    used = reduce(Usage.plus, (account.usage for account in accounts), Usage())
    return {
        "calls": sum(account.calls for account in accounts),
        "open_calls": len(state.reserved),
        "tokens": _tokens(used),
        "usd": usd,
        "reserved_usd": sum(plan.usd for plan in state.reserved.values()),
        "refused": state.refused.proposer if state.refused else "",
        "wins": wins,
        "usd_per_win": usd / wins if wins else None,
        "gpu_hours_per_win": state.slot_seconds / 3600 / wins if wins else None,
    }


def task_facts(experiment: Experiment, max_fixes: int) -> TaskFacts | None:
    """Return what an experiment was asked for; `max_fixes` is 0 where it is not known."""
    kind, _, name = experiment.task.partition("/")
    if not name:
        return None
    is_fix = kind == "fix"
    return {
        "kind": kind,
        "experiment": name,
        "number": experiment.fixes if is_fix else 0,
        "most": max_fixes if is_fix else 0,
    }


def call_events(ledger: Ledger, experiment: Experiment) -> list[Recorded]:
    """Return the events of the call that an experiment came of, oldest first; none without one."""
    call = experiment.origin.partition("/")[0]
    found: list[Recorded] = []
    last = experiment.story[0][0] if call else 0
    while last > 0 and not any(isinstance(one.event, CallReserved) for one in found):
        first = max(0, last - _PAGE)
        page = ledger.read(first, limit=last - first)
        found = [one for one in page if _is_of(one, call)] + found
        last = first
    return found


def call_facts(events: Sequence[Recorded]) -> CallFacts | None:
    """Return what call_events found, as facts."""
    reserved = next((one.event for one in events if isinstance(one.event, CallReserved)), None)
    settled = next((one.event for one in events if isinstance(one.event, CallSettled)), None)
    if reserved is None:
        return None
    return {
        "call": reserved.call,
        "model": reserved.plan.model,
        "purpose": reserved.plan.purpose,
        "usd": settled.usd if settled else reserved.plan.usd,
        "proposals": settled.proposals if settled else 0,
        "tokens": _tokens(settled.usage if settled else Usage()),
    }


def _is_of(recorded: Recorded, call: str) -> bool:
    event = recorded.event
    return isinstance(event, CallReserved | CallSettled) and event.call == call


def _facts(state: StudyState, name: str, *, kept: int, wins: int, hours: float) -> ProposerFacts:
    account = state.accounts.get(name, ProposerAccount())
    trouble = state.troubled.get(name)
    return {
        "name": name,
        "proposals": account.proposals,
        "kept": kept,
        "wins": wins,
        "calls": account.calls,
        "tokens": _tokens(account.usage),
        "usd": account.usd,
        "usd_per_win": account.usd / wins if wins else None,
        "gpu_hours": hours,
        "gpu_hours_per_win": hours / wins if wins else None,
        "trouble": {
            "reason": trouble.reason,
            "until": trouble.until.isoformat(),
            "in_a_row": trouble.in_a_row,
        }
        if trouble
        else None,
        "exhausted": state.exhausted.get(name, ""),
    }


def _tokens(usage: Usage) -> TokenFacts:
    return {
        "input": usage.input,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
        "output": usage.output,
    }
