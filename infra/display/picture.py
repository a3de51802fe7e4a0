"""Keeps `progress.png` and `progress.svg` up to date while a study runs.

Draws in a process of its own (infra.display.drawing): matplotlib takes half a second and 60 MB to
import, which the controller should not pay, and a renderer that fails or hangs must not harm the
study.
"""

import logging
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.ledger.codec import to_json
from cluster.nodes.environment import allowed_environment
from cluster.state.events import Recorded
from cluster.state.experiment import Kind
from cluster.state.state import StudyState
from eval.metric import Metric
from infra.facts.fates import End, Fate, all_ends, ends_by
from infra.facts.plain_text import one_line
from trainer.trial import ExperimentId

PROGRAM = "from infra.display.drawing import main; raise SystemExit(main())"
INTERVAL_S = 5.0
SHARE = 0.05
"""Of one core's time, at most so much goes into pictures: a long study is drawn less often."""
RENDER_S = 60.0
"""A renderer that takes longer is killed."""
MOST_LABEL = 44

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One experiment in the picture."""

    experiment: ExperimentId
    kind: Kind
    fate: Fate
    value: float | None
    """None for a crash."""
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the renderer is told."""

    metric: Metric
    png: str
    svg: str
    points: tuple[Point, ...]
    """In order of their fates."""


class PictureObserver:
    """Draws the picture when something has changed. Implements cluster.controller.ports.Observer.

    Args:
        metric: the study's metric.
        png: path of the bitmap.
        svg: path of the drawing.
        interval_s: seconds between two renderings, at least.
    """

    def __init__(
        self, metric: Metric, *, png: Path, svg: Path, interval_s: float = INTERVAL_S
    ) -> None:
        self._metric = metric
        self._png = png.absolute()
        self._svg = svg.absolute()
        self._interval_s = interval_s
        self._points: list[Point] = []
        self._drawn = 0
        """How many of the points the latest picture was to show."""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def observe(self, recorded: Recorded, state: StudyState) -> None:
        """See Observer; a new dot is drawn soon, by another thread."""
        points = _points(ends_by(recorded, state))
        if points:
            self._points += points
            self._wake.set()

    def resume(self, state: StudyState) -> None:
        """See Observer."""
        self._points += _points(all_ends(state))
        self._wake.set()
        self._thread.start()

    def close(self) -> None:
        """See Observer; draws what has changed since the last picture, and waits for it."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._draw()

    def _work(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            start = time.monotonic()
            if self._draw():
                spent = time.monotonic() - start
                self._closing.wait(max(self._interval_s, spent / SHARE))

    def _draw(self) -> bool:
        """Draw what there is; return False if that has been done."""
        points = tuple(self._points)
        if len(points) == self._drawn:
            return False
        self._drawn = len(points)
        self._render(points)
        return True

    def _render(self, points: tuple[Point, ...]) -> None:
        order = Order(metric=self._metric, png=str(self._png), svg=str(self._svg), points=points)
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", PROGRAM],
                input=to_json(order),
                capture_output=True,
                check=False,
                env=allowed_environment(),
                cwd=self._png.parent,
                timeout=RENDER_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            _log.warning("the progress picture was not drawn: %s", error)
            return
        if done.returncode:
            words = one_line(done.stderr[-500:].decode("utf-8", "replace"))
            _log.warning("the progress picture was not drawn: %s", words)


def _points(ends: list[End]) -> list[Point]:
    return [
        Point(
            experiment=end.experiment.id,
            kind=end.experiment.kind,
            fate=end.fate,
            value=end.value,
            label=one_line(end.experiment.hypothesis.replace("->", "→"), MOST_LABEL),
        )
        for end in ends
        if end.fate not in {Fate.UNKNOWN, Fate.PRUNED}
    ]
