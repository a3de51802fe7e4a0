"""Cards, the memory strangers hold on them, and the classes within which scores compare."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.gpu import Gpu, GpuProcess, Gpus, NvmlGpus, device_class, device_nodes, is_of_study


class FakeGpus:
    """Cards that a test made up."""

    def __init__(self, *cards: Gpu) -> None:
        self.cards = cards

    def look(self) -> tuple[Gpu, ...]:
        return self.cards


def card(used_mb: float, **processes: float) -> Gpu:
    """A card; the processes are p1=..., p2=..., by number."""
    return Gpu(
        uuid="GPU-a",
        index=0,
        name="NVIDIA H200",
        total_mb=144000,
        used_mb=used_mb,
        processes=[GpuProcess(pid=int(p[1:]), used_mb=mb) for p, mb in processes.items()],
    )


@pytest.mark.parametrize(
    ("gpu", "strangers_mb"),
    [
        (card(0.0), 0),
        (card(900.0), 900),  # a container: nobody is named
        (card(900.0, p1=800.0), 100),  # ours, and some that nobody is named for
        (card(900.0, p1=500.0, p2=400.0), 400),
        (card(900.0, p2=900.0), 900),
        (card(400.0, p1=500.0), 0),  # freed between the two calls
    ],
)
def test_what_is_not_ours_is_strangers(gpu: Gpu, strangers_mb: float) -> None:
    source: Gpus = FakeGpus(gpu)
    (seen,) = source.look()
    assert seen.strangers_mb(lambda pid: pid == 1) == strangers_mb


def test_looking_never_raises_and_leaves_nothing_open() -> None:
    # With or without a driver: both machines run this.
    for _ in range(2):
        for gpu in NvmlGpus().look():
            assert gpu.uuid.startswith("GPU-")
            assert 0 <= gpu.used_mb <= gpu.total_mb


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (1, "NVIDIA H200"),
        (1.0, "NVIDIA H200"),
        (0.5, "NVIDIA H200 x0.5"),
        (2.0, "NVIDIA H200 x2"),
        (0, "cpu"),
    ],
)
def test_scores_compare_on_the_same_share_of_the_same_card(gpus: float, expected: str) -> None:
    assert device_class("NVIDIA H200", gpus) == expected


@pytest.mark.parametrize(
    ("mark", "is_ours"), [("mar5/cpu-0/e1.1", True), ("mar55/cpu-0/e1.1", False), ("", False)]
)
def test_a_process_is_known_by_its_mark(mark: str, is_ours: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        env={**os.environ, "INCUMBENT_TRIAL": mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_of_study(process.pid, "mar5") is is_ours
    assert not is_of_study(process.pid, "mar5")


def test_the_nodes_of_the_leased_cards_and_no_other(tmp_path: Path) -> None:
    a, b, c = (
        replace(card(0.0), uuid=f"GPU-{name}", index=index, minor=minor)
        for index, (name, minor) in enumerate([("a", 3), ("b", 0), ("c", None)])
    )
    for minor, place, number in [
        (3, "gi1/access", 30),
        (3, "gi1/ci0/access", 31),
        (0, "gi1/access", 39),
    ]:
        path = tmp_path / f"gpu{minor}" / "mig" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"DeviceFileMinor: {number}\nDeviceFileMode: 292\n")
    cards = FakeGpus(a, b, c)
    driver = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/dxg")
    assert device_nodes((), cards) == ()
    assert device_nodes(("GPU-a",), cards, capabilities=tmp_path) == (
        *driver,
        "/dev/nvidia3",
        "/dev/nvidia-caps/nvidia-cap30",
        "/dev/nvidia-caps/nvidia-cap31",
    )
    assert device_nodes(("GPU-b",), cards) == (*driver, "/dev/nvidia0")
    assert device_nodes(("GPU-c",), cards) == driver
