"""All attempts, and what is known to have no remedy."""

from tests.security.attempts import (
    configuration,
    evaluator,
    exhaustion,
    files,
    kernel,
    leftovers,
    network,
    outliving,
    processes,
    results,
    secrets,
)
from tests.security.attempts.boundaries import BOUNDARIES

ATTEMPTS = (
    *network.ATTEMPTS,
    *secrets.ATTEMPTS,
    *files.ATTEMPTS,
    *processes.ATTEMPTS,
    *outliving.ATTEMPTS,
    *kernel.ATTEMPTS,
    *exhaustion.ATTEMPTS,
    *leftovers.ATTEMPTS,
    *results.ATTEMPTS,
    *evaluator.ATTEMPTS,
    *configuration.ATTEMPTS,
)

__all__ = ["ATTEMPTS", "BOUNDARIES"]
