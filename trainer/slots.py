"""Which device a worker's slot is: the graphics cards that Ray gave it, or a CPU slot of this host.

Knows locks, cards, and users for trials to run as. Does not know Ray: the indexes of the cards are
handed in.
"""

import grp
import pwd
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from trainer.gpu import Gpu, Gpus, device_class, is_of_study
from trainer.slot_lock import HeldBy, SlotLock, hold_any_cpu, try_hold
from trainer.trial_user import TRIAL_UIDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to run trials on a device."""

    name: str
    """`cpu-0`, `gpu-0`, `gpu-0+1` for two cards; with the worker's number if it shares one."""
    device: str
    device_class: str
    gpu_uuids: tuple[str, ...]
    locks: tuple[SlotLock, ...]
    uid: int | None = None
    """The slot's own user, as whom its trials run; None: as the worker's."""

    def release(self) -> None:
        """Give the device back, and the user."""
        for lock in self.locks:
            lock.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A device that takes no trials at the moment."""

    name: str
    device: str
    device_class: str
    reason: str


def claim_cpu(*, study: str, count: int, worker: int) -> Claim | Unavailable:
    """Take a CPU slot of this host, of which there are `count`."""
    held = hold_any_cpu(count, study)
    if isinstance(held, HeldBy):
        reason = f"all {count} CPU slots are taken, one by {_who(held)}"
        return Unavailable(name=f"cpu-w{worker}", device="cpu", device_class="cpu", reason=reason)
    return Claim(name=held.device, device="cpu", device_class="cpu", gpu_uuids=(), locks=(held,))


def claim_gpus(
    *,
    study: str,
    share: float,
    indexes: Sequence[int],
    worker: int,
    gpus: Gpus,
    busy_mb: float,
    wanted: str = "",
) -> Claim | Unavailable:
    """Take the cards at `indexes`, of each of which a trial uses `share` (above 1: all of it).

    A card that another study holds, or on which strangers hold more than `busy_mb` MiB, is
    unavailable; so is one that is not `wanted`, and such a one is not even locked.
    """
    cards = [card for card in gpus.look() if card.index in indexes]
    name = f"gpu-{'+'.join(map(str, indexes))}" + (f".{worker}" if share < 1 else "")
    if len(cards) != len(indexes):
        reason = f"the driver does not show card {', '.join(map(str, indexes))}"
        return Unavailable(name=name, device="gpu", device_class="gpu", reason=reason)
    label = " + ".join(card.name for card in cards)
    kind = device_class(cards[0].name, share)
    if not all(is_wanted(wanted, card.name, kind) for card in cards):
        reason = f"[trial] device asks for {wanted}"
        return Unavailable(name=name, device=label, device_class=kind, reason=reason)
    locks: list[SlotLock] = []
    for card in cards:
        problem = _stranger(card, study, busy_mb)
        held = try_hold(f"gpu-{card.uuid}", study, exclusive=share >= 1)
        if isinstance(held, HeldBy):
            problem = f"card {card.index} is taken by {_who(held)}"
        else:
            locks.append(held)
        if problem:
            for lock in locks:
                lock.release()
            return Unavailable(name=name, device=label, device_class=kind, reason=problem)
    uuids = tuple(card.uuid for card in cards)
    return Claim(name=name, device=label, device_class=kind, gpu_uuids=uuids, locks=tuple(locks))


def is_wanted(wanted: str, name: str, kind: str) -> bool:
    """Say whether a card is what a study asks for: by a part of its name, or by its device class.

    >>> is_wanted("rtx 4090", "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090 x0.5")
    True
    """
    return wanted.casefold() in name.casefold() or wanted == kind


def with_user(claim: Claim, study: str) -> Claim | Unavailable:
    """Take a user of this host that no other slot has, for root's trials on a claimed device.

    One that the host knows is passed over. Where none is left, the device is given back.
    """
    for uid in TRIAL_UIDS:
        if _is_known(uid):
            continue
        held = try_hold(f"user-{uid}", study, exclusive=True)
        if isinstance(held, SlotLock):
            return replace(claim, uid=uid, locks=(*claim.locks, held))
    claim.release()
    return Unavailable(
        name=claim.name,
        device=claim.device,
        device_class=claim.device_class,
        reason=f"all users for trials, {TRIAL_UIDS[-1]} to {TRIAL_UIDS[0]}, are taken",
    )


def _is_known(uid: int) -> bool:
    """Say whether a user or a group of this host has the number, a running service's included."""
    for find in (pwd.getpwuid, grp.getgrgid):
        with suppress(KeyError):
            find(uid)
            return True
    return False


def _stranger(card: Gpu, study: str, busy_mb: float) -> str:
    held = card.strangers_mb(lambda pid: is_of_study(pid, study))
    return f"strangers hold {held:.0f} MiB on card {card.index}" if held > busy_mb else ""


def _who(held: HeldBy) -> str:
    process = f" (process {held.pid})" if held.pid is not None else ""
    return f"study {held.study}{process}"
