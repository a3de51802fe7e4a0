"""Where running trials stand: heartbeats and curve points. Not events; lost without harm."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from cluster.codec import from_json, to_json
from cluster.redis_store import RedisStore, translated
from trainer.ports import Progress
from trainer.trial import TrialId

MOST_POINTS = 5000
"""Curve points kept per trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a running trial said at one moment."""

    at: datetime
    elapsed_s: float
    points: Mapping[str, float]


class ProgressStore:
    """The latest progress of each running trial, and the curve of every trial."""

    def __init__(self, store: RedisStore) -> None:
        self._client = store.client
        self._latest = store.key("progress")
        self._curve = store.key("curve:")
        self._phase = store.key("phase")
        self._notice = store.key("notice")

    def record(self, trial: TrialId, progress: Progress, now: datetime) -> None:
        """Store what a heartbeat brought."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hset(self._latest, trial, to_json(progress))
        if progress.points:
            point = Point(at=now, elapsed_s=progress.elapsed_s, points=progress.points)
            pipeline.rpush(self._curve + trial, to_json(point))
            pipeline.ltrim(self._curve + trial, -MOST_POINTS, -1)
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

    def curve(self, trial: TrialId) -> list[Point]:
        """Return the curve points of a trial, oldest first."""
        with translated():
            entries = cast("list[bytes]", self._client.lrange(self._curve + trial, 0, -1))
        return [from_json(Point, entry) for entry in entries]
