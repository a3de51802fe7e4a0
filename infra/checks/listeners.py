"""What listens on this machine on behalf of its studies, and how to keep other machines out.

Knows sockets, and of which processes a study consists: its controller and the fleet below it, the
session of its own Ray, its trials, its embedded server. Connects to none of them. `doctor` tells
what is found here; it exists apart because it looks at processes, and doctor at the machine.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

import psutil

from cluster.nodes.ray_cluster import PrivateRay, RayProcess
from infra.local.controller_process import ControllerFacts, find_controller
from infra.local.embedded_server import EmbeddedServer
from infra.local.home import StudyHome, studies
from infra.local.node_home import memberships
from trainer.gpu import is_of_study

_ADDRESS_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One socket that waits for connections."""

    process: str
    pid: int
    address: str
    """IP address; path of a unix socket."""
    port: int = 0
    """0 for a unix socket."""

    @property
    def is_reachable(self) -> bool:
        """Say whether other machines can connect, firewalls aside."""
        return self.port > 0 and not _is_loopback(self.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningStudy:
    """A study that has live processes on this machine."""

    home: StudyHome
    controller: ControllerFacts | None
    """None if it was killed and left the rest behind."""
    ray: RayProcess | None
    """None while there is none yet, and in a cluster that was joined."""
    listeners: Sequence[Listener]

    @property
    def place(self) -> str:
        """Where other machines may join it, HOST:PORT; empty if it listens to none."""
        return self.ray.place if self.ray else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedStudy:
    """A study on another machine that this one has joined, and what listens here for it."""

    head: str
    """HOST:PORT of its head."""
    node: str
    """What this machine is called there."""
    pid: int
    """The node process."""
    directory: Path
    """Of the membership."""
    listeners: Sequence[Listener]


def joined_studies() -> list[JoinedStudy]:
    """Return the studies of other machines that this one is joined to now, by folder.

    Raises psutil.AccessDenied as `running_studies` does.
    """
    found = []
    for home in memberships():
        status = home.status()
        if status is None or not status.pid:
            continue
        ray = home.ray().find()
        parts = {status.pid: "node", **_children(status.pid, "driver"), **_of_ray(ray)}
        listening = [
            Listener(process=parts[pid], pid=pid, address=address, port=port)
            for pid, address, port in _sockets()
            if port and pid in parts
        ]
        found.append(
            JoinedStudy(
                head=home.head,
                node=status.node,
                pid=status.pid,
                directory=home.directory,
                listeners=sorted(listening, key=lambda each: (each.pid, each.port)),
            )
        )
    return found


def running_studies() -> list[RunningStudy]:
    """Return the studies of this machine that run, by name, with all that listens for them.

    Raises psutil.AccessDenied where the system does not tell (macOS, other than to root).
    """
    alive = [
        (home, controller, ray)
        for home in studies()
        for controller, ray in [(find_controller(home), _find_ray(home))]
        if controller or ray
    ]
    if not alive:
        return []
    sockets = set(_sockets())
    return [
        RunningStudy(
            home=home,
            controller=controller,
            ray=ray,
            listeners=sorted(
                _of_study(home, _parts(home, controller, ray), sockets),
                key=lambda listener: (listener.pid, listener.port),
            ),
        )
        for home, controller, ray in alive
    ]


def firewall_advice(interfaces: Mapping[str, str]) -> list[str]:
    """Return how to keep other machines out, given their ways in: addresses by interface."""
    intro = [
        "A study's own Ray and /metrics listen on loopback alone, its Redis on a unix socket.",
        "With --listen its Ray listens on all addresses, as does one that is joined, on ports that",
        "stay the same; what it asks for is a token, which travels as plain text.",
    ]
    if not interfaces:
        return [*intro, "This machine has no network but loopback: there is nobody to keep out."]
    ways = ", ".join(f"{name} ({address})" for name, address in interfaces.items())
    names = ", ".join(f'"{name}"' for name in interfaces)
    table = "add table inet incumbent"
    chain = "add chain inet incumbent input { type filter hook input priority 0; }"
    rule = f"add rule inet incumbent input iifname {{ {names} }} ct state new tcp dport != 22 drop"
    return [
        *intro,
        f"Others come in by {ways}. To leave them ssh alone, either of",
        "  sudo ufw allow 22/tcp && sudo ufw default deny incoming && sudo ufw enable",
        f"  sudo nft '{table}; {chain}; {rule}'",
    ]


def subnet_of(address: str) -> str:
    """Return the network that an address of this machine is in, e.g. 10.0.0.0/24; "" if none."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.address == address and each.netmask:
                return str(ip_network(f"{address}/{each.netmask}", strict=False))
    return ""


def outside_interfaces() -> dict[str, str]:
    """Return the first address of each network interface that leads out of this machine."""
    states = psutil.net_if_stats()
    found: dict[str, str] = {}
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            plain = address.address.partition("%")[0]  # a link-local one names its interface
            is_ip = address.family in _ADDRESS_FAMILIES
            if is_ip and name in states and states[name].isup and not _is_loopback(plain):
                found.setdefault(name, plain)
    return found


def _of_study(
    home: StudyHome, parts: Mapping[int, str], sockets: Iterable[tuple[int, str, int]]
) -> Iterator[Listener]:
    redis = str(EmbeddedServer(home).socket)
    for pid, address, port in sockets:
        if port and pid in parts:
            yield Listener(process=parts[pid], pid=pid, address=address, port=port)
        elif address == redis:
            yield Listener(process="redis", pid=pid, address=address)


def _find_ray(home: StudyHome) -> RayProcess | None:
    ray = PrivateRay(runtime=home.runtime(), directory=home.directory, empty=home.empty)
    return ray.find()


def _parts(
    home: StudyHome, controller: ControllerFacts | None, ray: RayProcess | None
) -> dict[int, str]:
    """Return the study's processes on this machine, each with what to call it."""
    own: dict[int, str] = {}
    # With a state directory that several hosts share, the number may be another host's.
    if controller and controller.pid and controller.node == socket.gethostname():
        own = {controller.pid: "controller", **_children(controller.pid, "fleet")}
    of_trials = _labels(lambda pid: is_of_study(pid, home.id))
    return {**of_trials, **_of_ray(ray), **own}


def _children(pid: int, label: str) -> dict[int, str]:
    try:
        return {child.pid: label for child in psutil.Process(pid).children()}
    except psutil.Error:
        return {}  # it ended meanwhile


def _of_ray(ray: RayProcess | None) -> dict[int, str]:
    return _labels(lambda pid: os.getsid(pid) == ray.pid) if ray else {}


def _labels(is_wanted: Callable[[int], bool]) -> dict[int, str]:
    """Return the processes that are wanted, each with what to call it."""
    found: dict[int, str] = {}
    for process in psutil.process_iter():
        try:
            if is_wanted(process.pid):
                found[process.pid] = _label(process)
        except (psutil.Error, OSError):
            continue
    return found


def _label(process: psutil.Process) -> str:
    words = process.cmdline()
    if words and words[0].startswith("ray::"):
        return words[0].strip()
    script = next((word for word in words if word.endswith(".py")), "")
    return Path(script).name or process.name()


def _sockets() -> Iterator[tuple[int, str, int]]:
    """Yield process, address and port of each listening socket; unix sockets have port 0."""
    # Those of other users come without a process.
    for found in psutil.net_connections("tcp"):
        if found.pid and found.laddr and found.status == psutil.CONN_LISTEN:
            yield found.pid, _unmapped(found.laddr.ip), found.laddr.port
    for found in psutil.net_connections("unix"):
        if found.pid:
            yield found.pid, str(found.laddr), 0


def _unmapped(address: str) -> str:
    """Return ::ffff:127.0.0.1 as 127.0.0.1: what a socket for both families calls an IPv4 one."""
    found = ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)


def _is_loopback(address: str) -> bool:
    return ip_address(address).is_loopback
