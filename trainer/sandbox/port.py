"""What the rest of `trainer` needs of a sandbox."""

from typing import Protocol

from trainer.run_folder import RunFolder
from trainer.run_records import RunRequest


class Sandbox(Protocol):
    """A way to run trials: with everything of this machine around them, or hardly anything.

    One object serves the trials of one slot, one after the other. It starts nothing: it describes
    runs, for the supervisor to start.
    """

    @property
    def name(self) -> str:
        """What `[trial] sandbox` calls it."""
        ...

    @property
    def owner(self) -> int | None:
        """Number of the user and group to whom run folders must belong; None: whoever we are."""
        ...

    def seen(self, run: RunFolder) -> RunFolder:
        """Return where a trial finds its run folder."""
        ...

    def confine(self, request: RunRequest, run: RunFolder) -> RunRequest:
        """Return the same run, inside; `request` names paths as `seen` gives them."""
        ...
