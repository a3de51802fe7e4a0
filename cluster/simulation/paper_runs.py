"""What runs of a simulated study come to, and how long they take."""

import math
from random import Random

from cluster.policy.commands import QueueTrial
from cluster.simulation.landscape import Landscape
from cluster.simulation.terrain import Terrain, Tree
from trainer.trial import CrashKind, Ending, Probe, TrialOutcome

_CRASHED = TrialOutcome(ending=Ending.CRASHED, crash=CrashKind.EXCEPTION, reason="crashed")
_OBEYS = Probe(budget_s=1.0, ending=Ending.SCORED, wall_s=1.0, obeys=True)


class PaperRuns:
    """Draws what differs between two runs of one tree."""

    def __init__(self, landscape: Landscape, terrain: Terrain, seed: int) -> None:
        self._landscape, self._terrain, self._seed = landscape, terrain, seed
        self._noise, self._durations = (
            Random(f"{what}/{seed}")  # noqa: S311 - chance, not a secret
            for what in ("noise", "durations")
        )

    def seconds(self, order: QueueTrial, tree: Tree) -> float:
        """Return how long a run takes; on a rung, of its budget."""
        runs = self._landscape.runs
        pace = max(0.1, self._durations.gauss(1.0, runs.spread))
        if self._crashes(order, tree):
            return runs.seconds * pace * runs.crash_at
        return (order.rung_s or runs.seconds) * pace

    def outcome(self, order: QueueTrial, tree: Tree) -> TrialOutcome:
        """Return what a run comes to; on a rung, what it shows by then."""
        if self._crashes(order, tree):
            return _CRASHED
        runs, start = self._landscape.runs, self._landscape.baseline
        noise = self._luck(order.seed) if runs.noise else 0.0
        if order.rung_s is not None:
            shown = start - self._terrain.shown(tree, order.rung_s / runs.seconds) + noise
            return TrialOutcome(ending=Ending.SHORT, short_value=shown, device_class="gpu")
        value = start - self._terrain.improvement(tree) + noise
        probe = _OBEYS if order.smoke is not None and order.smoke.is_probe else None
        return TrialOutcome(ending=Ending.SCORED, value=value, device_class="gpu", probe=probe)

    def _luck(self, seed: int) -> float:
        """Return by how much a run is off: what its seed brings to every tree, and its own."""
        runs = self._landscape.runs
        own = math.sqrt(1 - runs.seed_share) * self._noise.gauss(0.0, runs.noise)
        if not runs.seed_share:
            return own
        common = Random(f"seed/{self._seed}/{seed}")  # noqa: S311 - chance, not a secret
        return own + math.sqrt(runs.seed_share) * common.gauss(0.0, runs.noise)

    def _crashes(self, order: QueueTrial, tree: Tree) -> bool:
        """Say whether a run gets as far as to where its tree crashes."""
        runs = self._landscape.runs
        return tree.crashes and runs.crash_at * runs.seconds <= (order.rung_s or runs.seconds)
