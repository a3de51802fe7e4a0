"""Where a study is reached by machines that join it: an address of this one, and a port.

Knows addresses and ports of this machine. Does not know Ray, which is told the result.
"""

import errno
import ipaddress

from cluster.config import StudyConfig
from cluster.nodes.ray_cluster import PrivateRay
from cluster.nodes.reach import address_towards, ipv4_of, obstacle_to_listening
from infra.checks.listeners import outside_interfaces
from infra.local.controller_process import find_controller
from infra.local.home import StudyHome, StudyProblem, studies
from infra.local.settings import settings_if_any

AUTO = "auto"
FIRST_PORT, LAST_PORT = 7700, 7799
_FAR = "192.0.2.1"
"""An address of documentation (RFC 5737): the way there is the default route."""


class ListenProblem(ValueError):
    """What `--listen` or `[cluster] listen` says cannot be meant; the message says what to do."""


def placed(config: StudyConfig, home: StudyHome) -> StudyConfig:
    """Return the configuration with HOST:PORT for what `[cluster] listen` leaves open.

    A study keeps its port while that is free, for the sake of machines that joined it. Raises
    ListenProblem, and StudyProblem where there is nothing to listen at.
    """
    wanted = config.cluster.listen
    if not wanted:
        return config
    if config.cluster.address:
        raise ListenProblem(
            "a study either joins a Ray cluster (--address) or has one of its own that others join "
            "(--listen): leave one of them out"
        )
    before = settings_if_any(home)
    known = before.cluster.listen if before else ""
    host, port = _parts(wanted)
    host = host or _own_address()
    if port == 0 and known.rpartition(":")[0] == host:
        port = int(known.rpartition(":")[2])
        port = port if _is_for(home, host, port) else 0
    if port == 0:
        port = _free_port(host, _known_of_others(home))
    elif not _is_for(home, host, port):
        raise StudyProblem(f"port {port} at {host} is taken: say --listen={host}:PORT with another")
    cluster = config.cluster.model_copy(update={"listen": f"{host}:{port}"})
    return config.model_copy(update={"cluster": cluster})


def join_words(home: StudyHome) -> str:
    """Return what to type on another machine for it to join; empty for a study that none can."""
    config = settings_if_any(home)
    if config is None or not config.cluster.listen:
        return ""
    return (
        f"to add a machine, type there: incumbent join {config.cluster.listen} "
        f"(it asks for the token, which is in {home.ray_token})"
    )


def _parts(wanted: str) -> tuple[str, int]:
    """Return address and port; "" and 0 where they are to be found out."""
    if wanted == AUTO:
        return "", 0
    is_of_six = wanted.count(":") > 1
    host, colon, port = (wanted, "", "") if is_of_six else wanted.partition(":")
    try:
        address = ipaddress.IPv4Address(ipv4_of(host))
    except ValueError as error:
        raise ListenProblem(f"--listen={wanted}: {error} ({_own_words()})") from error
    if colon and not (port.isdigit() and 0 < int(port) < 1 << 16):
        raise ListenProblem(f"--listen={wanted}: {port or 'nothing'} is no port")
    if _is_useless(address):
        raise ListenProblem(
            f"--listen={wanted}: other machines need an address to come to ({_own_words()})"
        )
    return str(address), int(port or 0)


def _is_useless(address: ipaddress.IPv4Address) -> bool:
    return address.is_unspecified or address.is_loopback


def _own_address() -> str:
    try:
        return address_towards(_FAR)
    except OSError:
        found = [address for address in outside_interfaces().values() if ":" not in address]
        if not found:
            problem = "this machine has no IPv4 address that others could reach: leave out --listen"
            raise StudyProblem(problem) from None
        return found[0]


def _own_words() -> str:
    own = ", ".join(f"{address} ({name})" for name, address in outside_interfaces().items())
    return f"this machine has {own or 'none but loopback'}"


def _known_of_others(home: StudyHome) -> frozenset[str]:
    """Return where machines know other studies: they would knock there with other tokens."""
    others = (settings_if_any(other) for other in studies() if other != home)
    return frozenset(other.cluster.listen for other in others if other)


def _free_port(host: str, known_of_others: frozenset[str]) -> int:
    for port in range(FIRST_PORT, LAST_PORT + 1):
        if f"{host}:{port}" not in known_of_others and _is_free(host, port):
            return port
    raise StudyProblem(f"all ports from {FIRST_PORT} to {LAST_PORT} are taken at {host}")


def _is_for(home: StudyHome, host: str, port: int) -> bool:
    """Say whether a port is free or held by what runs of the study; raises as `_is_free`."""
    if find_controller(home) is not None:
        return True
    # A controller that was killed leaves its Ray to the next one, with the machines that joined.
    return ray_of(home).is_at(f"{host}:{port}") or _is_free(host, port)


def ray_of(home: StudyHome) -> PrivateRay:
    """Return the Ray of a study, to look for or to end."""
    return PrivateRay(runtime=home.runtime(), directory=home.directory, empty=home.empty)


def _is_free(host: str, port: int) -> bool:
    """Say whether one could listen there; raises ListenProblem if the address is not ours."""
    # Ray listens on all addresses, whatever it is told: so the port has to be free on all of them.
    obstacles = [obstacle_to_listening(address, port) for address in (host, "")]
    if errno.EADDRNOTAVAIL in obstacles:
        raise ListenProblem(f"--listen={host}: that is no address of this machine ({_own_words()})")
    return not any(obstacles)
