"""What guards the ports of a study that other machines may join, and a firewall for exactly these.

Ray listens on all addresses whatever it is told. What it asks for on each port was tried from
another machine (tests/security): a token on all but those that only tell numbers. Knows tables of
listeners. Looks at nothing itself, and connects to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network

from cluster.nodes.ray_ports import RayPorts
from infra.checks.listeners import Listener

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

    table: str
    """What nftables is to call them: those of another study are left as they are."""
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
            f"add table inet {self.table}",
            f"flush table inet {self.table}",
            f"add chain inet {self.table} input {{ type filter hook input priority 0; }}",
            f"add rule inet {self.table} input {known}",
            f"add rule inet {self.table} input {others}",
        ]
        return [f"sudo nft '{rule}'" for rule in rules]

    def nft_undo(self) -> list[str]:
        """Return what takes them away again."""
        return [f"sudo nft 'delete table inet {self.table}'"]

    def ufw(self) -> list[str]:
        """Return the commands for ufw, whose first rule that fits decides."""
        return [f"sudo ufw {rule}" for rule in self._ufw_rules()]

    def ufw_undo(self) -> list[str]:
        """Return what takes them away again."""
        return [f"sudo ufw delete {rule}" for rule in self._ufw_rules()]

    def _ufw_rules(self) -> list[str]:
        everything = [*self.nodes, *self.closed]
        return [
            *(
                f"allow proto tcp from {self.subnet} to any port {ports}"
                for ports in _in_ufw(self.nodes)
            ),
            *(f"deny proto tcp to any port {ports}" for ports in _in_ufw(everything)),
        ]

    def lines(self) -> list[str]:
        """Return both for people."""
        return [
            f"To let machines of {self.subnet} come to these ports, and nobody else:",
            *(f"  {command}" for command in self.nft()),
            "or, where ufw is in charge:",
            *(f"  {command}" for command in self.ufw()),
            "To take that away again:",
            *(f"  {command}" for command in self.nft_undo()),
            "or",
            *(f"  {command}" for command in self.ufw_undo()),
        ]

    def facts(self) -> dict[str, object]:
        """Return both for programs."""
        return {
            "subnet": self.subnet,
            "ports_for_nodes": list(self.nodes),
            "ports_for_nobody": list(self.closed),
            "nft": self.nft(),
            "nft_undo": self.nft_undo(),
            "ufw": self.ufw(),
            "ufw_undo": self.ufw_undo(),
        }


def firewall(
    listeners: Sequence[Listener], subnet: str, *, table: str, ports: RayPorts | None
) -> Firewall | None:
    """Return the rules for what can be reached of a study; None if nothing can be.

    Args:
        listeners: What listens for it on this machine.
        subnet: Where its other machines are.
        table: What no other rules of this machine are called.
        ports: Those that its Ray has whenever it is started; None for one of an older Incumbent.
    """
    reachable = [each for each in listeners if each.is_reachable]
    if not reachable or not subnet:
        return None
    nodes = {each.port for each in reachable if role_of(each).is_for_nodes}
    closed = {each.port for each in reachable} - nodes
    block = range(ports.first, ports.last + 1) if ports else range(0)
    return Firewall(
        table=table,
        subnet=subnet,
        nodes=[*_outside(block, nodes), *([_span(ports.for_nodes)] if ports else [])],
        closed=[*_outside(block, closed), *([_span(ports.agents)] if ports else [])],
    )


def _outside(block: range, ports: set[int]) -> list[str]:
    return [str(port) for port in sorted(ports) if port not in block]


def _span(ports: range) -> str:
    return f"{ports[0]}-{ports[-1]}"


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
