"""What guards the ports of a study that other machines may join, and a firewall for exactly these.

Ray listens on all addresses whatever it is told, and chooses most of its ports anew at each start.
What it asks for on each was tried from another machine (tests/security): a token on all but those
that only tell numbers. Knows tables of listeners. Looks at nothing itself, and connects to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network

from infra.listeners import Listener

WORKER_PORTS = (10002, 19999)
"""Where Ray puts its workers and drivers, which come and go (`ray start --min-worker-port`)."""
_MOST_PORTS = 15
"""That ufw takes in one rule; a range counts twice."""


class Guard(StrEnum):
    """What a port asks of whoever connects."""

    TOKEN = "token"  # noqa: S105 - the study's: without it nothing is told, and nothing done
    NOTHING = "nothing"  # it tells numbers to everybody, and does nothing
    MODE = "file mode"  # a unix socket in a folder of this user alone
    UNKNOWN = "unknown"  # not ours: a trial's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a port is for."""

    what: str
    guard: Guard
    is_for_nodes: bool = False
    """Whether other machines of the study have to reach it."""


_ROLES = {
    "gcs_server": Role(what="Ray's registry, joined here", guard=Guard.TOKEN, is_for_nodes=True),
    "raylet": Role(what="Ray's node and objects", guard=Guard.TOKEN, is_for_nodes=True),
    "monitor.py": Role(what="numbers of Ray's autoscaler", guard=Guard.NOTHING),
    "ray::RuntimeEnvAgent": Role(what="Ray's agent for workers", guard=Guard.TOKEN),
    "ray::DashboardAgent": Role(what="numbers of Ray's agent", guard=Guard.NOTHING),
    "dashboard.py": Role(what="numbers of Ray's dashboard", guard=Guard.NOTHING),
    "fleet": Role(what="a driver of Ray", guard=Guard.TOKEN, is_for_nodes=True),
    "driver": Role(what="a driver of Ray", guard=Guard.TOKEN, is_for_nodes=True),
    "controller": Role(what="numbers of the study", guard=Guard.NOTHING),
    "redis": Role(what="the ledger", guard=Guard.MODE),
}
_ACTOR = Role(what="an actor of Ray", guard=Guard.TOKEN, is_for_nodes=True)
_STRANGE = Role(what="a trial's own, or not ours", guard=Guard.UNKNOWN)


def role_of(listener: Listener) -> Role:
    """Say what a port is for and what guards it."""
    name = listener.process
    return _ROLES.get(name) or (_ACTOR if name.startswith("ray::") else _STRANGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall:
    """Rules that let the machines of a study in, and nobody else, at its ports alone."""

    subnet: str
    """Where those machines are, e.g. 10.0.0.0/24."""
    nodes: Sequence[str]
    """Ports and ranges (LOW-HIGH) for them."""
    closed: Sequence[str]
    """Those that only this machine itself needs."""

    def nft(self) -> list[str]:
        """Return the commands for nftables; loopback is left alone."""
        family = "ip" if ip_network(self.subnet).version == 4 else "ip6"
        nodes, everything = ", ".join(self.nodes), ", ".join([*self.nodes, *self.closed])
        known = f"{family} saddr {self.subnet} tcp dport {{ {nodes} }} accept"
        others = f'iifname != "lo" tcp dport {{ {everything} }} drop'
        rules = [
            "add table inet incumbent",
            "flush table inet incumbent",
            "add chain inet incumbent input { type filter hook input priority 0; }",
            f"add rule inet incumbent input {known}",
            f"add rule inet incumbent input {others}",
        ]
        return [f"sudo nft '{rule}'" for rule in rules]

    def ufw(self) -> list[str]:
        """Return the commands for ufw, whose first rule that fits decides."""
        everything = [*self.nodes, *self.closed]
        return [
            *(
                f"sudo ufw allow proto tcp from {self.subnet} to any port {ports}"
                for ports in _in_ufw(self.nodes)
            ),
            *(f"sudo ufw deny proto tcp to any port {ports}" for ports in _in_ufw(everything)),
        ]

    def lines(self) -> list[str]:
        """Return both for people."""
        return [
            f"To let machines of {self.subnet} come to these ports, and nobody else:",
            *(f"  {command}" for command in self.nft()),
            "or, where ufw is in charge:",
            *(f"  {command}" for command in self.ufw()),
            "Ray chooses most of these ports anew when it starts: say it again then.",
        ]

    def facts(self) -> dict[str, object]:
        """Return both for programs."""
        return {
            "subnet": self.subnet,
            "ports_for_nodes": list(self.nodes),
            "ports_for_nobody": list(self.closed),
            "nft": self.nft(),
            "ufw": self.ufw(),
        }


def firewall(listeners: Sequence[Listener], subnet: str) -> Firewall | None:
    """Return the rules for what can be reached of a study; None if nothing can be."""
    reachable = [each for each in listeners if each.is_reachable]
    if not reachable or not subnet:
        return None
    nodes = {each.port for each in reachable if role_of(each).is_for_nodes}
    closed = {each.port for each in reachable} - nodes
    low, high = WORKER_PORTS
    return Firewall(
        subnet=subnet,
        nodes=[*(str(port) for port in sorted(nodes) if not low <= port <= high), f"{low}-{high}"],
        closed=[str(port) for port in sorted(closed) if not low <= port <= high],
    )


def _in_ufw(ports: Sequence[str]) -> list[str]:
    """Return lists of ports as ufw writes them, each as long as it takes at most."""
    lists: list[list[str]] = [[]]
    room = _MOST_PORTS
    for port in ports:
        size = 2 if "-" in port else 1
        if size > room:
            lists.append([])
            room = _MOST_PORTS
        lists[-1].append(port.replace("-", ":"))
        room -= size
    return [",".join(each) for each in lists if each]
