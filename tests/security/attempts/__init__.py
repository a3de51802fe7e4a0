"""All attempts, and what none of them needs to try because it is known to work."""

from tests.security.attempts import (
    configuration,
    evaluator,
    exhaustion,
    files,
    kernel,
    leftovers,
    network,
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
    *kernel.ATTEMPTS,
    *exhaustion.ATTEMPTS,
    *leftovers.ATTEMPTS,
    *results.ATTEMPTS,
    *evaluator.ATTEMPTS,
    *configuration.ATTEMPTS,
)

__all__ = ["ATTEMPTS", "BOUNDARIES"]
