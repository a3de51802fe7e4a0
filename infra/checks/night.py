"""What a run will come to, said before it starts: trials, ideas judged, dollars at most. Pure.

Estimates, and said to be. Knows the configuration, how long trials took so far, and prices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from statistics import median

from cluster.config import StudyConfig
from cluster.state.state import StudyState
from infra.facts.plain_text import counted, dollars, duration
from infra.local.settings import default_cpu_slots
from proposer.config import AgentSource, ClaudeSource

OVERHEAD = 0.1
"""What a trial takes beyond its budget, as a share of it, before any was timed."""

_ASKED = 2
"""Calls for one answer at most: what cannot be taken, or repeats something, is sent back once."""

MostUsd = Callable[[ClaudeSource], float | None]
"""The most that one call of an entry can cost; None where nobody knows its price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What is to be expected until a limit is reached."""

    trials: float
    seconds: float
    """Of one trial."""
    is_measured: bool
    slots: int
    ideas: float
    """Trials that are no replicates: candidates judged."""


def expected(config: StudyConfig, state: StudyState, *, slots: int) -> Night | None:
    """Return what is left to come; None where no limit on time says when it ends.

    Args:
        config: the study's configuration.
        state: what was done so far.
        slots: how many trials run at once.
    """
    limits = config.limits
    left_s = []
    if limits.hours:
        left_s.append(slots * max(0.0, 3600 * limits.hours - state.ran_s))
    if limits.gpu_hours:
        left_s.append(max(0.0, 3600 * limits.gpu_hours - state.slot_seconds))
    if not left_s:
        return None
    timed = [e.seconds / len(e.trials) for e in state.experiments.values() if e.values]
    seconds = median(timed) if timed else config.trial.budget_s * (1 + OVERHEAD)
    trials = min(left_s) / max(seconds, 0.001)
    ideas = trials * (1 - config.judge.replicate_share)
    if limits.experiments:
        ideas = min(ideas, max(0, limits.experiments - state.judged))
    return Night(trials=trials, seconds=seconds, is_measured=bool(timed), slots=slots, ideas=ideas)


def most_usd(
    config: StudyConfig, night: Night | None, price: MostUsd
) -> tuple[float | None, list[str]]:
    """Return what models can cost at most, and which of them nobody knows the price of.

    None where neither a limit nor the number of ideas bounds it.
    """
    sources = [s for s in config.proposer if isinstance(s, ClaudeSource | AgentSource)]
    costs = [price(s) if isinstance(s, ClaudeSource) else s.usd for s in sources]
    unknown = [
        s.model if isinstance(s, ClaudeSource) else s.name or s.kind
        for s, cost in zip(sources, costs, strict=True)
        if cost is None
    ]
    if config.limits.usd:
        return config.limits.usd, unknown
    ideas = float(night.ideas) if night else float(config.limits.experiments)
    if not ideas:
        return None, unknown
    weights = sum(source.weight for source in config.proposer)
    total = 0.0
    for source, cost in zip(sources, costs, strict=True):
        batch = source.batch if isinstance(source, ClaudeSource) else 1
        calls = ceil(ideas * source.weight / weights / batch)
        total += calls * _ASKED * (cost or 0.0)
    return total, unknown


def night_words(config: StudyConfig, state: StudyState, *, slots: int, price: MostUsd) -> list[str]:
    """Return what to expect in at most three lines; none where nothing can be said."""
    night = expected(config, state, slots=slots)
    lines = []
    if night is not None:
        how = "as measured" if night.is_measured else "assumed"
        lines.append(
            f"expect about {night.trials:.0f} trials of {duration(night.seconds)} ({how}) on "
            f"{counted(night.slots, 'slot')}, and {night.ideas:.0f} ideas judged"
        )
    if not any(isinstance(source, ClaudeSource | AgentSource) for source in config.proposer):
        return lines
    usd, unknown = most_usd(config, night, price)
    if usd is not None and config.limits.usd:
        lines.append(f"models may cost {dollars(usd)} in all ([limits] usd)")
    elif usd is not None:
        cure = "; [limits] usd makes it less"
        lines.append(f"models may cost {dollars(usd)}, if every call costs all it can{cure}")
    else:
        lines.append("nothing limits what models may cost: --usd 25 would")
    if unknown:
        cure = "[[price]], or usd of an agent"
        lines.append(f"not counted: nobody knows what {', '.join(unknown)} costs ({cure})")
    return lines


def slots_of(config: StudyConfig, state: StudyState, *, cards: int) -> int:
    """Return how many trials will run at once, as far as that is known before workers start.

    Args:
        config: the study's configuration.
        state: what was done so far.
        cards: how many GPUs this machine has.
    """
    share = config.trial.gpus
    here = max(1, int(cards // share)) if share else default_cpu_slots()
    return config.cluster.slots or len(state.slots) or here
