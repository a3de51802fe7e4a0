"""What proposers bring and cost, in words. Pure."""

_VERBS = {"fix": "mend", "compose": "compose"}


def task_words(task: str) -> str:
    """Return what a task asks for, e.g. "mend e12"; empty for no task."""
    kind, _, experiment = task.partition("/")
    return f"{_VERBS.get(kind, kind)} {experiment}".strip()
