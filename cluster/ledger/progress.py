"""Where running trials stand: heartbeats and curve points. Not events; lost without harm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from cluster.ledger.codec import from_json, to_json
from cluster.ledger.redis_store import RedisStore, translated
from trainer.ports import Progress
from trainer.trial import TrialId, TrialSpec

MOST_POINTS = 200
"""Curve points kept of an attempt: one for each percent of its budget, the latest, and as many of
what it runs on beyond. So a curve keeps its beginning, and one of hours is read as quickly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a running trial said at one moment."""

    elapsed_s: float
    points: Mapping[str, float]


class ProgressStore:
    """The latest progress of each running trial, and the curve of every attempt at one."""

    def __init__(self, store: RedisStore) -> None:
        self._client = store.client
        self._latest = store.key("progress")
        self._curve = store.key("curve:")
        self._phase = store.key("phase")
        self._notice = store.key("notice")

    def record(self, spec: TrialSpec, progress: Progress) -> None:
        """Store what a heartbeat brought."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hset(self._latest, spec.trial, to_json(progress))
        if progress.points:
            point = Point(elapsed_s=progress.elapsed_s, points=progress.points)
            percent = int(100 * progress.elapsed_s / spec.budget_s)
            place = str(min(percent, MOST_POINTS - 1))
            pipeline.hset(self._curve_key(spec.trial, spec.attempt), place, to_json(point))
        with translated():
            pipeline.execute()

    def forget(self, trial: TrialId) -> None:
        """Drop the latest progress of a trial that has ended; its curve stays."""
        with translated():
            self._client.hdel(self._latest, trial)

    def latest(self) -> Mapping[TrialId, Progress]:
        """Return the latest progress of each running trial."""
        with translated():
            entries = cast("dict[bytes, bytes]", self._client.hgetall(self._latest))
        return {TrialId(k.decode()): from_json(Progress, v) for k, v in entries.items()}

    def set_phase(self, text: str) -> None:
        """Say what the controller is at, for people: "starting Ray"."""
        with translated():
            self._client.set(self._phase, text)

    def phase(self) -> str:
        """Return what the controller is at; empty if it never said."""
        return self._text(self._phase)

    def set_notice(self, text: str) -> None:
        """Say what people should know for as long as it holds; "" takes it back."""
        with translated():
            self._client.set(self._notice, text)

    def notice(self) -> str:
        """Return the standing notice; empty if there is none."""
        return self._text(self._notice)

    def _text(self, key: str) -> str:
        with translated():
            text = cast("bytes | None", self._client.get(key))
        return text.decode() if text else ""

    def curve(self, trial: TrialId, attempt: int) -> list[Point]:
        """Return the curve points of one attempt at a trial, oldest first."""
        with translated():
            entries = cast("list[bytes]", self._client.hvals(self._curve_key(trial, attempt)))
        points = (from_json(Point, entry) for entry in entries)
        return sorted(points, key=lambda point: point.elapsed_s)

    def stored(self, trial: TrialId, attempt: int) -> Mapping[str, str]:
        """Return a curve as it is kept, for another store; empty if there is none."""
        with translated():
            entries = self._client.hgetall(self._curve_key(trial, attempt))
        found = cast("dict[bytes, bytes]", entries)
        return {place.decode(): point.decode() for place, point in found.items()}

    def restore(self, trial: str, attempt: int, points: Mapping[str, str]) -> None:
        """Keep what `stored` has returned elsewhere."""
        if points:
            with translated():
                self._client.hset(
                    self._curve_key(TrialId(trial), attempt), mapping=dict(points.items())
                )

    def _curve_key(self, trial: TrialId, attempt: int) -> str:
        return f"{self._curve}{trial}/{attempt}"
