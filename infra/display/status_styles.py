"""How statuses and conditions of slots look in a list."""

STYLES = {
    "kept": "green",
    "merged": "green",
    "winner": "cyan",
    "merging": "cyan",
    "held": "cyan",
    "running": "bold",
    "busy": "bold",
    "discarded": "dim",
    "idle": "dim",
    "closed": "dim",
    "suspect": "magenta",
    "rejected": "red",
    "crashed": "red",
    "timed_out": "red",
    "pruned": "dim",
    "short": "dim",
    "blocked": "red",
    "lost": "yellow",
    "conflicted": "yellow",
    "dropped": "yellow",
    "cancelled": "yellow",
    "joined": "green",
    "stopped": "dim",
    "draining": "yellow",
    "quarantined": "red",
    "left": "dim",
    "refused": "red",
}
"""Of rich, by word."""
WITH_REASON = frozenset(
    {
        "suspect",
        "rejected",
        "crashed",
        "timed_out",
        "pruned",
        "cancelled",
        "lost",
        "conflicted",
        "dropped",
    }
)
"""Statuses of which a list tells why."""
