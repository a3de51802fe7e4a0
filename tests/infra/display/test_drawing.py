"""The picture itself: what is in it, and that it is the same each time."""

import re
import xml.etree.ElementTree as ET  # our own output is no untrusted input
from pathlib import Path

import pytest
from PIL import Image

from cluster.state.experiment import Kind
from eval.metric import Goal
from infra.display.drawing import draw
from infra.display.picture import Point
from infra.facts.fates import Fate
from tests.infra.study_factory import metric
from trainer.trial import ExperimentId

NASTY = "cost $x^2 \\frac{ $ & <b> \x1b 学習率 %s"


def point(number: int, fate: Fate, value: float | None, label: str = "LR 0.1 → 0.2") -> Point:
    kind = Kind.PROPOSAL if number else Kind.BASELINE
    return Point(
        experiment=ExperimentId(f"e{number}"), kind=kind, fate=fate, value=value, label=label
    )


STUDY = [
    point(0, Fate.KEEP, 0.41, "baseline"),
    point(1, Fate.KEEP, 0.35),
    point(2, Fate.DISCARD, 0.39),
    point(3, Fate.CRASH, None),
    point(4, Fate.DISCARD, 9.7),
    point(5, Fate.MERGED, 0.33),
    point(6, Fate.KEEP, 0.2, NASTY),
]


def texts(svg: Path) -> str:
    """Return the words of a drawing; matplotlib leaves each one as a comment beside its paths."""
    return "\n".join(found.strip() for found in re.findall(r"<!-- (.*?) -->", svg.read_text()))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "progress.png", tmp_path / "progress.svg"


def test_the_title_counts_and_compares(files: tuple[Path, Path]) -> None:
    draw(STUDY, metric(), *files)
    words = texts(files[1])
    assert "6 experiments, 2 kept: val_loss 0.41 → 0.2" in words
    for legend in ("2 kept", "1 discarded", "1 merged", "1 off the scale", "1 crashed"):
        assert legend in words.splitlines()
    assert "val_loss (lower is better)" in words


def test_kept_experiments_are_labelled_and_others_are_not(files: tuple[Path, Path]) -> None:
    draw([*STUDY, point(7, Fate.DISCARD, 0.3, "in vain")], metric(), *files)
    assert re.findall(r'id="label-(e\d+)"', files[1].read_text()) == ["e6", "e1", "e0"]


def test_merges_are_counted_apart(files: tuple[Path, Path]) -> None:
    merge = Point(
        experiment=ExperimentId("e7"), kind=Kind.MERGE, fate=Fate.KEEP, value=0.19, label="both"
    )
    draw([*STUDY, merge], metric(), *files)
    assert "6 experiments and 1 merge, 3 kept: val_loss 0.41 → 0.19" in texts(files[1])


def test_a_small_gain_is_not_rounded_away(files: tuple[Path, Path]) -> None:
    draw([point(0, Fate.KEEP, 0.9979), point(1, Fate.KEEP, 0.997869)], metric(), *files)
    assert "0.9979 → 0.997869" in texts(files[1])


def test_upwards_is_better_if_the_metric_says_so(files: tuple[Path, Path]) -> None:
    found = [point(0, Fate.KEEP, 0.5), point(1, Fate.KEEP, 0.8), point(2, Fate.DISCARD, -40.0)]
    draw(found, metric(Goal.MAXIMIZE, "val_accuracy"), *files)
    words = texts(files[1])
    assert "2 experiments, 1 kept: val_accuracy 0.5 → 0.8" in words
    assert "val_accuracy (higher is better)" in words
    assert "1 off the scale" in words


@pytest.mark.parametrize(
    "points",
    [
        pytest.param([], id="nothing yet"),
        pytest.param([point(0, Fate.CRASH, None)], id="a baseline that crashed"),
        pytest.param([point(0, Fate.KEEP, 0.0)], id="a baseline alone"),
        pytest.param([point(n, Fate.KEEP, 1e-300) for n in range(3)], id="equal and tiny"),
        pytest.param([point(n, Fate.KEEP, -(10.0 ** (300 - n))) for n in range(3)], id="huge"),
    ],
)
def test_any_study_can_be_drawn(points: list[Point], files: tuple[Path, Path]) -> None:
    draw(points, metric(), *files)
    with Image.open(files[0]) as image:
        assert image.size == (1600, 800)
    ET.parse(files[1])  # noqa: S314 - our own output


def test_a_drawing_refers_to_nothing_outside(files: tuple[Path, Path]) -> None:
    draw(STUDY, metric(), *files)
    root = ET.parse(files[1]).getroot()  # noqa: S314 - our own output
    attributes = [
        (name, value) for element in root.iter() for name, value in element.attrib.items()
    ]
    links = [value for name, value in attributes if name.endswith("href")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not [value for _, value in attributes if "url(" in value and "url(#" not in value]
    assert "font-family" not in files[1].read_text()


def test_the_same_points_give_the_same_bytes(tmp_path: Path) -> None:
    pictures = []
    for name in ("one", "two"):
        png, svg = tmp_path / f"{name}.png", tmp_path / f"{name}.svg"
        draw(STUDY, metric(), png, svg)
        pictures.append((png.read_bytes(), svg.read_bytes()))
    assert pictures[0] == pictures[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one.png",
        "one.svg",
        "two.png",
        "two.svg",
    ]
