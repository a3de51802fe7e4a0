"""Labels are for the scorer alone: refuses them where a trial could see them.

Knows paths and what a sandbox shows. Does not know what is in the file.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from trainer.environment import EnvironmentFailed, is_there, user_path
from trainer.run_records import Bind
from trainer.sandbox.confine import BubblewrapSandbox, system_view
from trainer.sandbox.port import Sandbox

SCORE = "[score]"
"""The section that most labels are named in; the others are [holdout] and [final]."""
NEEDS_SANDBOX = (
    '[metric] source = "predictions" needs a sandbox: without one a trial runs as you, and reads '
    'your labels. Run with --sandbox bubblewrap, or use source = "printed"'
)
_MOVE = "Keep them elsewhere, and name that place there"


class LabelsShown(EnvironmentFailed):
    """A trial could see the labels, or nobody can; the message says why, and the cure."""


def place_of(labels: str, section: str = SCORE) -> Path:
    """Return where the labels are, by no link; EnvironmentFailed if there is no such file."""
    key = f"{section} labels"
    path = user_path(labels, key)
    if not (is_there(labels, key) and path.is_file()):
        raise LabelsShown(f"{key}: there is no file {path} on this node. Put it there")
    return path.resolve()


def check_apart(labels: Path, places: Mapping[str, Path], section: str = SCORE) -> None:
    """Raise LabelsShown if the labels lie in one of the places, which are named in words."""
    for what, place in places.items():
        if labels.is_relative_to(place.resolve()):
            raise LabelsShown(
                f"{section} labels: {labels} lies within {what}, which trials see. {_MOVE}"
            )


def check_hidden(labels: Path, sandbox: Sandbox, section: str = SCORE) -> BubblewrapSandbox:
    """Return the sandbox; raises LabelsShown if a trial in it could read the labels."""
    if not isinstance(sandbox, BubblewrapSandbox):
        raise LabelsShown(NEEDS_SANDBOX)
    check_apart(labels, {bind.source: Path(bind.source) for bind in _shown(sandbox)}, section)
    names = labels.stat().st_nlink
    if names != 1:
        raise LabelsShown(
            f"{section} labels: {labels} has {names} names (hard links), and a trial might see "
            f"another. Make a copy of its own: cp {labels} {labels}.copy"
        )
    uid = sandbox.owner
    if uid is not None and not labels.stat().st_mode & 0o004:
        raise LabelsShown(
            f"{section} labels: {labels} is for its owner alone, and the scorer runs as user "
            f"{uid}, for Incumbent runs as root. Let it be read: chmod o+r {labels} "
            "(trials see it as little as before)"
        )
    return sandbox


def _shown(sandbox: BubblewrapSandbox) -> Iterable[Bind]:
    system, _ = system_view()
    return (*system, *sandbox.shown)
