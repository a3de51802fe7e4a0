"""A card at one moment, through a driver that tells all, little, or nothing any more.

No driver is needed: pynvml's functions are replaced, under the names that it has. What a real card
says is seen in tests/gpu.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from trainer.gpu import NvmlSampler, mark_of
from trainer.telemetry import GpuSample, ThrottleReason

UUID = "GPU-a"
MIB = 1024 * 1024
NOT_SUPPORTED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
UNKNOWN_FUNCTION = pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
LOST = pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
TELLING = {
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=1000 * MIB, used=300 * MIB),
    "nvmlDeviceGetComputeRunningProcesses": [
        SimpleNamespace(pid=7, usedGpuMemory=200 * MIB),
        SimpleNamespace(pid=8, usedGpuMemory=None),
    ],
    "nvmlDeviceGetGraphicsRunningProcesses": [],
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=93, memory=41),
    "nvmlDeviceGetClockInfo": 1980,
    "nvmlDeviceGetPowerUsage": 612_345,
    "nvmlDeviceGetTotalEnergyConsumption": 9_876_543,
    "nvmlDeviceGetTemperatureV": 71,
    "nvmlDeviceGetTemperature": 72,
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0x8 | 0x40,
}


@dataclass
class Driver:
    """What pynvml answers; an exception is raised instead of returned."""

    answers: dict[str, Any] = field(default_factory=lambda: dict(TELLING))
    handle: Any = "handle"
    opening: Any = None
    opened: int = 0

    def answer(self, name: str) -> Any:
        found = self.answers[name]
        if isinstance(found, Exception):
            raise found
        return found

    def init(self) -> None:
        if self.opening:
            raise self.opening
        self.opened += 1

    def shutdown(self) -> None:
        self.opened -= 1

    def find(self, uuid: str) -> Any:
        assert self.opened, "the library is not open"
        assert uuid == UUID
        if isinstance(self.handle, Exception):
            raise self.handle
        return self.handle


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    for name in TELLING:
        assert hasattr(pynvml, name)
        monkeypatch.setattr(pynvml, name, lambda *_, name=name, **__: made.answer(name))
    monkeypatch.setattr(pynvml, "nvmlInit", made.init)
    monkeypatch.setattr(pynvml, "nvmlShutdown", made.shutdown)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", made.find)
    return made


def test_a_card_that_tells_all_is_sampled_in_our_units(driver: Driver) -> None:
    assert NvmlSampler().sample(UUID) == GpuSample(
        used_mb=300,
        processes={7: 200, 8: 0},
        utilisation_percent=93,
        sm_clock_mhz=1980,
        power_w=612.345,
        energy_j=9876.543,
        temperature_c=71,
        throttle=frozenset(),
    )


@pytest.mark.parametrize("failure", [NOT_SUPPORTED, pynvml.NVMLLibraryMismatchError("old"), LOST])
def test_what_the_driver_does_not_say_is_none(driver: Driver, failure: Exception) -> None:
    driver.answers = dict.fromkeys(TELLING, failure)
    assert NvmlSampler().sample(UUID) == GpuSample()


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilisation_percent"),
        ("nvmlDeviceGetClockInfo", "sm_clock_mhz"),
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetTotalEnergyConsumption", "energy_j"),
        ("nvmlDeviceGetMemoryInfo", "used_mb"),
    ],
)
def test_one_thing_unsaid_leaves_the_others(driver: Driver, name: str, missing: str) -> None:
    driver.answers[name] = NOT_SUPPORTED
    found = NvmlSampler().sample(UUID)
    told = ("utilisation_percent", "sm_clock_mhz", "power_w", "energy_j", "used_mb")
    assert [each for each in told if getattr(found, each) is None] == [missing]


def test_an_older_driver_is_asked_by_older_names(driver: Driver) -> None:
    driver.answers["nvmlDeviceGetTemperatureV"] = UNKNOWN_FUNCTION
    driver.answers["nvmlDeviceGetCurrentClocksEventReasons"] = UNKNOWN_FUNCTION
    found = NvmlSampler().sample(UUID)
    assert found.temperature_c == 72
    assert found.throttle == {ThrottleReason.HW_SLOWDOWN, ThrottleReason.HW_THERMAL}


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x1 | 0x2 | 0x100, set()),  # idle, application clocks, display clocks
        (0x4, {ThrottleReason.POWER_CAP}),
        (0x10, {ThrottleReason.SYNC_BOOST}),
        (0x20, {ThrottleReason.SW_THERMAL}),
        (0x8 | 0x80, {ThrottleReason.HW_SLOWDOWN, ThrottleReason.POWER_BRAKE}),
        (1 << 40, set()),
    ],
)
def test_reasons_are_named(driver: Driver, bits: int, reasons: set[ThrottleReason]) -> None:
    driver.answers["nvmlDeviceGetCurrentClocksEventReasons"] = bits
    assert NvmlSampler().sample(UUID).throttle == reasons


def test_the_library_is_opened_once_for_many_samples(driver: Driver) -> None:
    sampler = NvmlSampler()
    for _ in range(3):
        sampler.sample(UUID)
    assert driver.opened == 1
    sampler.close()
    sampler.close()
    assert driver.opened == 0


def test_a_card_that_vanishes_gives_nothing_and_one_that_is_back_is_seen(driver: Driver) -> None:
    sampler = NvmlSampler()
    assert sampler.sample(UUID).temperature_c == 71
    driver.handle = LOST
    assert sampler.sample(UUID) == GpuSample()
    assert driver.opened == 0, "only opening it anew shows a driver that was loaded anew"
    driver.handle = "handle"
    assert sampler.sample(UUID).temperature_c == 71


def test_without_a_driver_there_is_nothing_to_see(driver: Driver) -> None:
    driver.opening = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert NvmlSampler().sample(UUID) == GpuSample()


def test_no_card_of_that_name_on_this_machine() -> None:
    # With or without a driver: both machines run this.
    assert NvmlSampler().sample("GPU-00000000-0000-0000-0000-000000000000") == GpuSample()


def test_a_process_that_is_gone_has_no_mark() -> None:
    assert mark_of(2**22 + 1) is None  # above the largest number that Linux gives
