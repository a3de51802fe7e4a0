"""Looks at a slot's cards while a trial runs there.

Knows which processes are the trial's, the study's, or a stranger's. Does not know the driver: that
is behind GpuSampler. How samples become one record is trainer.telemetry's to say.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from trainer.telemetry import GpuSample, GpuTelemetry, Moment, summarise

_MOST_MOMENTS = 512


class GpuSampler(Protocol):
    """Where one card is looked at."""

    def sample(self, uuid: str) -> GpuSample:
        """Return how the card does now, all None for one that is not there; never raises."""
        ...


class GpuWatch:
    """The cards of one slot, for one trial after the other: `begin`, `look` now and then, `end`.

    Memory is told by the marks of the processes that the driver names. Where it names none, as in
    most containers, nobody can say whose memory it is while the trial runs: then strangers are what
    is in use when the trial begins on cards of its own, before it can have touched them.
    """

    def __init__(
        self,
        sampler: GpuSampler,
        uuids: Sequence[str],
        *,
        mark_prefix: str,
        mark_of: Callable[[int], str | None],
        is_shared: bool = False,
        tolerated_mb: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a watch.

        Args:
            sampler: where cards are looked at.
            uuids: the slot's cards.
            mark_prefix: STUDY/SLOT/, with which the marks of the slot's trials begin.
            mark_of: the mark of a process: empty without one, None if there is no such process.
            is_shared: whether other slots have trials on the same card.
            tolerated_mb: MiB that strangers may hold before they count.
            clock: seconds that never go back.
        """
        self._sampler = sampler
        self._uuids = tuple(uuids)
        self._own_prefix = mark_prefix
        self._study_prefix = mark_prefix.partition("/")[0] + "/"
        self._mark_of = mark_of
        self._is_shared = is_shared
        self._tolerated_mb = tolerated_mb
        self._clock = clock
        self._moments: list[Moment] = []
        self._stride = 1
        self._skipped = 0

    def begin(self) -> None:
        """Forget the trial before and look at the cards as this one is told to run."""
        self._moments.clear()
        self._stride, self._skipped = 1, 0
        if self._uuids:
            self._moments.append(self._moment(is_empty=not self._is_shared))

    def look(self) -> None:
        """Look at the cards while the trial runs; of a long trial ever more seldom."""
        self._skipped += 1
        if not self._moments or self._skipped < self._stride:
            return
        self._skipped = 0
        self._moments.append(self._moment())
        if len(self._moments) > _MOST_MOMENTS:
            # Every second sample goes, and the ones that stay stand for twice the time.
            del self._moments[1::2]
            self._stride *= 2

    def end(self) -> GpuTelemetry | None:
        """Look once more, after the trial's end, and tell all; None if nothing was measured."""
        if not self._moments:
            return None
        moments = [*self._moments, self._moment()]
        self._moments.clear()
        return summarise(moments, tolerated_mb=self._tolerated_mb)

    def _moment(self, *, is_empty: bool = False) -> Moment:
        samples = [self._sampler.sample(uuid) for uuid in self._uuids]
        return self._clock(), tuple(self._attributed(card, is_empty) for card in samples)

    def _attributed(self, card: GpuSample, is_empty: bool) -> GpuSample:
        """Return the sample with what its processes say of whose memory it is."""
        marks = {pid: self._mark_of(pid) for pid in card.processes}
        visible = {pid: mark for pid, mark in marks.items() if mark is not None}
        if not visible:
            return replace(card, stranger_mb=card.used_mb) if is_empty else card
        held = {pid: card.processes[pid] for pid in visible}
        own = sum(mb for pid, mb in held.items() if visible[pid].startswith(self._own_prefix))
        strangers = sum(
            mb for pid, mb in held.items() if not visible[pid].startswith(self._study_prefix)
        )
        # A process whose memory the driver does not tell is listed with none.
        return replace(card, own_mb=own or None, stranger_mb=strangers)
