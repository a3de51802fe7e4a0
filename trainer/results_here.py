"""What becomes of results on the machine where they are wanted: they stay where they are kept."""

from trainer.trial import TrialSpec


class ResultsHere:
    """trainer.ports.ResultSink of the head's own slots: there is nothing to be done."""

    def follow(self, run: TrialSpec) -> None:
        """See ResultSink."""

    def left(self, trial: TrialSpec) -> None:
        """See ResultSink."""

    def close(self) -> None:
        """See ResultSink."""
