"""No sandbox: a trial runs as the worker's user, with that user's files and network."""

from trainer.run_folder import RunFolder
from trainer.run_records import RunRequest


class NoneSandbox:
    """trainer.sandbox.port.Sandbox for those who ask for none."""

    name = "none"
    owner = None

    def seen(self, run: RunFolder) -> RunFolder:
        """See Sandbox."""
        return run

    def confine(self, request: RunRequest, run: RunFolder) -> RunRequest:  # noqa: ARG002 - nothing to do
        """See Sandbox."""
        return request
