"""Whether anybody listens at an address, and what an address is. Connects, and says nothing."""

import socket

ANSWER_S = 5.0


def answers(address: str) -> bool:
    """Say whether anybody listens at HOST:PORT; Ray itself would try for a minute and more."""
    try:
        host, port = split(address)
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except (OSError, ValueError):
        return False
    return True


def split(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def is_of_this_machine(address: str) -> bool:
    """Say whether HOST:PORT is one of this machine's own; raises ValueError as `split` does."""
    host, port = split(address)
    try:
        return address_towards(host, port) == host
    except OSError:
        return False


def address_towards(host: str, port: int = 9) -> str:
    """Return the address with which this machine speaks to another; OSError without a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing
        return str(probe.getsockname()[0])
