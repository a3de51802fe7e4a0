"""Attempts to reach another machine, or a service of this one."""

from functools import partial

from tests.security.attempt import Attempt, Category

_attempt = partial(Attempt, category=Category.NETWORK)
_READ = "connection.settimeout(5)\nseek(connection.recv(100))\nstopped('no answer')\n"

ATTEMPTS = (
    _attempt(
        name="tcp_loopback",
        aim="a service on the loopback address",
        script="import socket\n"
        "connection = socket.create_connection(('127.0.0.1', host['tcp_port']), 5)\n" + _READ,
    ),
    _attempt(
        name="tcp_host_address",
        aim="a service on the machine's own address, as Redis or Ray listen",
        script="import socket\n"
        "if not host['address']: stopped('no address')\n"
        "connection = socket.create_connection((host['address'], host['tcp_port']), 5)\n" + _READ,
        absent=frozenset({"no address"}),
    ),
    _attempt(
        name="tcp_ipv6_loopback",
        aim="a service on the loopback address of IPv6",
        script="import socket\n"
        "if not host['tcp6_port']: stopped('no IPv6')\n"
        "connection = socket.create_connection(('::1', host['tcp6_port']), 5)\n" + _READ,
        absent=frozenset({"no IPv6"}),
    ),
    _attempt(
        name="udp_loopback",
        aim="a datagram and its answer, as a question to a resolver is",
        script="""
import socket
connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
connection.connect(("127.0.0.1", host["udp_port"]))
connection.send(b"?")
"""
        + _READ,
    ),
    _attempt(
        name="cloud_metadata_route",
        aim="the metadata service of a cloud, which hands out credentials",
        script="""
import socket
connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
connection.connect(("169.254.169.254", 80))  # sends nothing; fails without a route
escaped("a route by " + connection.getsockname()[0])
""",
        absent=frozenset({"ENETUNREACH"}),
    ),
    _attempt(
        name="foreign_interfaces",
        aim="a network interface other than the loopback",
        script="""
import socket
names = [name for _, name in socket.if_nameindex() if name != "lo"]
escaped(names) if names else stopped("lo alone")
""",
        absent=frozenset({"lo alone"}),
    ),
    _attempt(
        name="unix_socket",
        aim="a unix socket by its path, as the embedded server, Docker and ssh agents have",
        script="import socket\n"
        "connection = socket.socket(socket.AF_UNIX)\n"
        "connection.connect(host['socket'])\n" + _READ,
    ),
    _attempt(
        name="unix_socket_through_proc",
        aim="a unix socket by way of another process' root folder",
        script="""
import socket
for pid in processes():
    for link in ("root", "cwd"):
        try:
            folder = os.open(f"/proc/{pid}/{link}", os.O_PATH)
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(5)
            connection.connect(f"/proc/self/fd/{folder}" + host["socket"])
            seek(connection.recv(100))
        except OSError:
            pass
stopped("no way")
""",
    ),
    _attempt(
        name="abstract_unix_socket",
        aim="a unix socket without a file, as dbus and X have",
        script="import socket\n"
        "connection = socket.socket(socket.AF_UNIX)\n"
        "connection.connect('\\0' + host['abstract'][::-1])\n" + _READ,
    ),
    _attempt(
        name="vsock",
        aim="the hypervisor, past the network namespace",
        script="""
import socket
connection = socket.socket(socket.AF_VSOCK)
escaped("a socket towards the hypervisor")
""",
        absent=frozenset({"EAFNOSUPPORT"}),
    ),
    _attempt(
        name="packet_socket",
        aim="raw frames on the wire",
        script="import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
        "escaped('a packet socket')",
        capability="CAP_NET_RAW",
    ),
    _attempt(
        name="raw_ip_socket",
        aim="raw IP packets",
        script="import socket\n"
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)\n"
        "escaped('a raw socket')",
        capability="CAP_NET_RAW",
    ),
    _attempt(
        name="network_namespace_of_others",
        aim="to join the network of a process that has one",
        script="""
CLONE_NEWNET = 0x40000000
def join(pid):
    kernel("setns", os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
    return f"the network of {pid}"
any_of([host["victim"], *processes()], join)
""",
        capability="CAP_SYS_ADMIN",
    ),
    _attempt(
        name="sockets_of_the_host_listed",
        aim="who on this machine listens where",
        script="""
for name in ("tcp", "tcp6", "udp", "unix"):
    for line in Path(f"/proc/net/{name}").read_text().splitlines():
        if f":{host['tcp_port']:04X} " in line or host["abstract"][::-1] in line:
            escaped(line)
stopped("none of the host's")
""",
    ),
)
