"""What a machine offers to whoever reaches it: servers on TCP, UDP and unix sockets.

Each one tells the secret to every caller. Knows nothing of trials.
"""

import os
import selectors
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

_PATIENCE_S = 5.0


class Services:
    """One thread that serves them all; a context manager, at its end the thread is gone."""

    def __init__(self, token: str, *paths: Path) -> None:
        self._token = token.encode()
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self.abstract_name = f"incumbent-{token}"
        tcp = self._listen(socket.AF_INET, ("", 0))
        self.tcp_port: int = tcp.getsockname()[1]
        for path in paths:
            self._listen(socket.AF_UNIX, os.fspath(path))
            path.chmod(0o666)
        self._listen(socket.AF_UNIX, f"\0{self.abstract_name}")
        self.udp_port = self._bind_datagrams()
        self.tcp6_port = self._listen_v6()
        self._thread = threading.Thread(target=self._serve, name="services")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waker.send(b".")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        self._waker.close()

    def _listen(self, family: int, address: object) -> socket.socket:
        server = socket.socket(family, socket.SOCK_STREAM)
        server.bind(address)  # type: ignore[arg-type]
        server.listen(16)
        self._selector.register(server, selectors.EVENT_READ, self._greet)
        return server

    def _listen_v6(self) -> int:
        """Return the port on ::1, or 0 on a machine without IPv6."""
        try:
            return int(self._listen(socket.AF_INET6, ("::1", 0)).getsockname()[1])
        except OSError:
            return 0

    def _bind_datagrams(self) -> int:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("", 0))
        self._selector.register(server, selectors.EVENT_READ, self._answer)
        return int(server.getsockname()[1])

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake:
                    return
                with suppress(OSError):  # the caller was killed meanwhile
                    key.data(key.fileobj)

    def _greet(self, server: socket.socket) -> None:
        caller, _ = server.accept()
        with caller:
            caller.settimeout(_PATIENCE_S)
            caller.sendall(self._token)

    def _answer(self, server: socket.socket) -> None:
        _, caller = server.recvfrom(1024)
        server.sendto(self._token, caller)


def own_address() -> str:
    """Return this machine's address towards others; empty without a route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])
