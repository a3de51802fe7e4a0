"""Each machine that makes no sandbox is told why, what cures it, and how to do without."""

from dataclasses import replace
from pathlib import Path

import pytest

from trainer.sandbox.diagnosis import WITHOUT, Cause, Facts, diagnose
from trainer.sandbox.failed import Failed
from trainer.sandbox.probe import is_mapped, probe

DOCUMENT = Path(__file__).parents[3] / "docs" / "sandbox.md"
REFUSED = Failed(path="/usr/bin/bwrap", said="bwrap: No permissions to create new namespace")
NO_PROC = Failed(path="bwrap", said="bwrap: Can't mount proc on /newroot/proc: Not permitted")
NO_STAGE = Failed(path="bwrap", said="[Errno 1] a mount namespace cannot be made: Not permitted")
STRANGE = Failed(path="bwrap", said="bwrap: Unexpected {braces} and capabilities")
FINE = Facts(
    system="Linux",
    machine="x86_64",
    release="6.8.0-45-generic",
    has_filter=True,
    is_root=False,
    may_mount=False,
    has_trial_user=True,
    has_user_namespaces=True,
    most_namespaces=63000,
    unprivileged_allowed=None,
    apparmor_restricts=0,
    is_filtered=False,
    container="",
    attempts=[STRANGE],
)
ROOT = {"is_root": True, "may_mount": True}


@pytest.mark.parametrize(
    ("facts", "cause", "word"),
    [
        ({"system": "Darwin"}, Cause.NOT_LINUX, "Linux"),
        ({"release": "4.4.0-19041-Microsoft", "has_user_namespaces": False}, Cause.WSL1, "wsl"),
        ({"machine": "riscv64", "has_filter": False}, Cause.NO_FILTER, "aarch64"),
        ({"attempts": []}, Cause.NO_BUBBLEWRAP, "apt install bubblewrap"),
        ({"has_user_namespaces": False}, Cause.NOT_IN_KERNEL, "CONFIG_USER_NS"),
        ({"most_namespaces": 0}, Cause.NONE_ALLOWED, "user.max_user_namespaces=15000"),
        ({"unprivileged_allowed": 0}, Cause.ROOT_ALONE, "unprivileged_userns_clone=1"),
        ({"unprivileged_allowed": 0, **ROOT}, Cause.ROOT_ALONE, "unprivileged_userns_clone=1"),
        (
            {"apparmor_restricts": 1, "attempts": [REFUSED]},
            Cause.APPARMOR,
            "apparmor_restrict_unprivileged_userns=0",
        ),
        # Docker as it is, with root and with a plain user in it; then with seccomp switched off.
        (
            {"container": "Docker", "is_filtered": True, "is_root": True, "attempts": [NO_STAGE]},
            Cause.CONTAINER,
            "seccomp=unconfined",
        ),
        (
            {"container": "RunPod", "is_filtered": True, "attempts": [REFUSED]},
            Cause.CONTAINER,
            "rent a whole VM",
        ),
        (
            {"container": "Docker", **ROOT, "attempts": [NO_PROC]},
            Cause.CONTAINER,
            "systempaths=unconfined",
        ),
        # A container that allows it, on a machine whose AppArmor does not.
        (
            {"container": "Docker", "apparmor_restricts": 1, "attempts": [REFUSED]},
            Cause.APPARMOR,
            "sysctl",
        ),
        ({"is_root": True, "attempts": [NO_STAGE]}, Cause.WEAK_ROOT, "CAP_SYS_ADMIN"),
        ({**ROOT, "has_trial_user": False}, Cause.NARROW_ROOT, "plain user"),
        ({"release": "5.15.90.1-microsoft-standard-WSL2"}, Cause.UNKNOWN, "report"),
        ({}, Cause.UNKNOWN, "{braces}"),
    ],
)
def test_each_cause_has_its_cure(facts: dict[str, object], cause: Cause, word: str) -> None:
    diagnosis = diagnose(replace(FINE, **facts))  # type: ignore[arg-type]
    assert diagnosis.cause is cause
    assert word in diagnosis.text()
    assert diagnosis.text().splitlines()[-1] == WITHOUT
    assert "incumbent run --sandbox none" in WITHOUT


def test_what_bwrap_said_is_told_as_well() -> None:
    assert REFUSED.said in diagnose(replace(FINE, attempts=[REFUSED])).found


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.UNKNOWN])
def test_every_cause_is_documented(cause: Cause) -> None:
    assert f"| {cause} |" in DOCUMENT.read_text("utf-8")


def test_this_machine_can_be_looked_at() -> None:
    facts = probe([STRANGE], environ={"RUNPOD_POD_ID": "x"})
    assert facts.system == "Linux"
    assert facts.container == "RunPod"
    assert facts.has_user_namespaces
    assert facts.attempts == [STRANGE]


def test_a_user_that_the_namespace_has_not() -> None:
    assert is_mapped(65529, "         0          0 4294967295\n")
    assert is_mapped(65529, "0 1000 1\n1 100000 65536\n")
    assert not is_mapped(65529, "         0       1000          1\n")
