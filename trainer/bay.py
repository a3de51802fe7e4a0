"""Half of a slot: where one trial runs, or is made ready while another runs in the other half.

Knows a supervisor of its own, and the materialiser that both halves share. Does not know leases.
"""

from pathlib import Path

from eval.seeds import Reseed
from trainer.frozen import FrozenCheck
from trainer.materialise import Materialiser
from trainer.run_records import RunProgress, RunReport, RunRequest
from trainer.supervisor_client import Supervisor
from trainer.trial import TrialSpec


class Bay:
    """Holds one trial at most: prepared, then running, then ended and to be tidied."""

    def __init__(self, materialiser: Materialiser, supervisor: Supervisor) -> None:
        self._materialiser = materialiser
        self._supervisor = supervisor
        self._spec: TrialSpec | None = None
        self._request: RunRequest | None = None

    @property
    def is_prepared(self) -> bool:
        """Say whether it holds a trial."""
        return self._spec is not None

    def holds(self, spec: TrialSpec) -> bool:
        """Say whether that is this very trial."""
        return self._spec == spec

    def prepare(self, spec: TrialSpec) -> None:
        """Make a trial ready instead of any other, with a process that waits for it where possible.

        Raises what Materialiser.materialise raises, and RuntimeError.
        """
        if self.holds(spec):
            return
        self.clear()
        self._hold(spec, self._materialiser.materialise(spec, is_ahead=True))
        self._supervisor.arm(self._request_held())

    def load(self, spec: TrialSpec) -> None:
        """Make a trial ready that is to be started now; raises as `prepare` does."""
        if not self.holds(spec):
            self.clear()
            self._hold(spec, self._materialiser.materialise(spec))

    def start(self) -> None:
        """Start the trial that it holds; raises RuntimeError."""
        self._supervisor.start(self._request_held())

    def poll(self, timeout_s: float) -> RunProgress | RunReport | None:
        """See Supervisor.poll."""
        return self._supervisor.poll(timeout_s)

    def cancel(self) -> None:
        """See Supervisor.cancel."""
        self._supervisor.cancel()

    @property
    def out(self) -> Path:
        """See Materialiser.out, of a trial that has ended."""
        if self._spec is None:
            raise RuntimeError("there is no trial that could have left anything")
        return self._materialiser.out(self._spec)

    @property
    def reseeds(self) -> tuple[Reseed, ...]:
        """See Materialiser.reseeds, of a trial that it holds."""
        return self._materialiser.reseeds(self._spec) if self._spec is not None else ()

    def inspect(self) -> FrozenCheck:
        """Say what became of the frozen files of a trial that has ended: Materialiser.inspect."""
        if self._spec is None:
            raise RuntimeError("there is no trial to be inspected")
        try:
            return self._materialiser.inspect(self._spec)
        except (OSError, LookupError, RuntimeError) as error:
            # Somebody should look: a trial that can prevent the check must not gain by it.
            return FrozenCheck(changed=(f"frozen files could not be checked ({error})",))

    def keep_caches(self) -> None:
        """See Materialiser.keep_caches, of a trial that has ended well."""
        if self._spec is not None:
            self._materialiser.keep_caches(self._spec)

    def tidy(self) -> None:
        """Keep what the trial left, once it has ended, and be free for the next."""
        if self._spec is not None:
            self._materialiser.tidy(self._spec)
        self._spec = self._request = None

    def clear(self, *, is_over: bool = False) -> None:
        """Drop a trial that was prepared and has not run, or all that one left but its log."""
        self._supervisor.disarm()
        if self._spec is not None:
            self._materialiser.drop(self._spec, is_over=is_over)
        self._spec = self._request = None

    def close(self) -> None:
        """Kill what runs or waits; returns when it is dead."""
        self._supervisor.close()
        self.clear()

    def _hold(self, spec: TrialSpec, request: RunRequest) -> None:
        self._spec, self._request = spec, request

    def _request_held(self) -> RunRequest:
        if self._request is None:
            raise RuntimeError("there is no trial to be started")
        return self._request
