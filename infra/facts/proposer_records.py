"""The shapes of what `--json` prints of proposers and of what they cost."""

from typing import TypedDict


class TokenFacts(TypedDict):
    """Tokens of calls of models; each kind has its own price."""

    input: int
    """Neither read from the cache nor written to it."""
    cache_read: int
    cache_write: int
    output: int


class TroubleFacts(TypedDict):
    """Why a proposer is left alone for a while."""

    reason: str
    until: str
    in_a_row: int
    """How often it could not answer since it last did."""


class ProposerFacts(TypedDict):
    """What one proposer brought, and what that cost."""

    name: str
    proposals: int
    """Experiments and refusals that came of its answers."""
    kept: int
    """Its experiments and merges of them that were promoted."""
    wins: int
    """Confirmed wins: see CostFacts."""
    calls: int
    tokens: TokenFacts
    usd: float
    usd_per_win: float | None
    gpu_hours: float
    """Hours that its trials held slots, replicates and merges included."""
    gpu_hours_per_win: float | None
    trouble: TroubleFacts | None
    exhausted: str
    """Why it has nothing more to suggest; empty if it may have."""


class CostFacts(TypedDict):
    """What calls of models cost, and what a confirmed win costs.

    A confirmed win is a patch that was promoted, is on the branch now, and is still believed to be
    an improvement; one that was taken out again is none, nor is a revert.
    """

    calls: int
    """Calls that have ended."""
    open_calls: int
    tokens: TokenFacts
    usd: float
    """Of calls that have ended; of one whose end nobody knows, what was reserved for it."""
    reserved_usd: float
    """The most that the calls on their way can cost."""
    refused: str
    """The proposer whose call a limit did not allow last; empty if there was none."""
    wins: int
    usd_per_win: float | None
    gpu_hours_per_win: float | None


class CallFacts(TypedDict):
    """The call of a model that an experiment came of."""

    call: str
    model: str
    purpose: str
    usd: float
    """Of the whole call, for all that it proposed; what was reserved, while it has not ended."""
    proposals: int
    """How many proposals its reply holds."""
    tokens: TokenFacts


class TaskFacts(TypedDict):
    """What an experiment was asked for, where it is not its proposer's own idea."""

    kind: str
    """fix or compose."""
    experiment: str
    """What crashed, or the winner that conflicts."""
    number: int
    """Of a fix: the how many-th in a row it is; else 0."""
    most: int
    """How many in a row there may be ([proposals] max_fixes); 0 where that is not known."""
