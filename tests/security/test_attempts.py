"""Every attempt is stopped, by root's worker and a plain user's; and each would succeed bare."""

import ast
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.security.attempt import Attempt, Boundary, Category, Control
from tests.security.attempts import ATTEMPTS, BOUNDARIES
from tests.security.campaign import Campaign, Case, Place
from tests.security.runner import Runner
from trainer.run_records import Enforcement

_CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_FOWNER": 3,
    "CAP_SETUID": 7,
    "CAP_LINUX_IMMUTABLE": 9,
    "CAP_NET_RAW": 13,
    "CAP_SYS_MODULE": 16,
    "CAP_SYS_RAWIO": 17,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_BOOT": 22,
    "CAP_SYS_NICE": 23,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYS_TIME": 25,
    "CAP_MKNOD": 27,
    "CAP_SETFCAP": 31,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
}


def is_stopped(sandbox: Runner, attempt: Attempt) -> None:
    aftermath = sandbox.run(attempt)
    if attempt.careless is not None:
        assert attempt.careless(aftermath), "nobody was misled: this tests nothing"
    is_boundary = attempt.is_exact and aftermath.report.limits_by is Enforcement.WATCHDOG
    assert bool(attempt.judge(aftermath)) is is_boundary, attempt.judge(aftermath)
    assert sandbox.world.is_victim_well()
    assert sandbox.world.has_changed() == ""


def succeeds_without_the_sandbox(no_sandbox: Runner, attempt: Attempt) -> None:
    if attempt.capability and not has_capability(attempt.capability):
        pytest.skip(f"without a sandbox it takes {attempt.capability}")
    if attempt.control is Control.PLAIN:
        aftermath = no_sandbox.run_plain(attempt)
    else:
        aftermath = no_sandbox.run(attempt, attempt.harmless)
    if aftermath.said("STOPPED") in attempt.absent:
        pytest.skip(f"this machine has no such thing: {aftermath.said('STOPPED')}")
    assert attempt.judge(aftermath)


def is_not_stopped(sandbox: Runner, boundary: Boundary) -> None:
    assert boundary.judge(sandbox.run(boundary))


def has_capability(name: str) -> bool:
    status = Path("/proc/self/status").read_text()
    (effective,) = (line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAPABILITIES[name] & 1)


def cases(
    check: Callable[[Runner, Any], None],
    attempts: Iterable[Attempt | Boundary],
    *places: Place,
) -> pytest.MarkDecorator:
    found = [
        Case(place=place, attempt=attempt, check=check) for place in places for attempt in attempts
    ]
    return pytest.mark.parametrize("case", found, ids=str)


@cases(is_stopped, ATTEMPTS, Place.ROOT, Place.USER)
def test_is_stopped(campaign: Campaign, case: Case) -> None:
    campaign.result(case)


@cases(
    succeeds_without_the_sandbox,
    [each for each in ATTEMPTS if each.control is not Control.CARELESS],
    Place.BARE,
)
def test_would_succeed_without_the_sandbox(campaign: Campaign, case: Case) -> None:
    campaign.result(case)


@cases(is_not_stopped, BOUNDARIES, Place.ROOT, Place.USER)
def test_nothing_stops_it(campaign: Campaign, case: Case) -> None:
    campaign.result(case)


def test_there_are_attempts_of_every_category() -> None:
    count = Counter(each.category for each in ATTEMPTS)
    assert set(count) == set(Category)
    assert min(count.values()) >= 5
    assert sum(count.values()) >= 60


def test_names_are_unique() -> None:
    names = [each.name for each in (*ATTEMPTS, *BOUNDARIES)]
    assert len(set(names)) == len(names)


def test_scripts_are_python() -> None:
    for each in ATTEMPTS:
        for script in (each.script, each.then, each.harmless):
            ast.parse(script)
