"""A server that is reached by TLS, with a certificate of a test's own authority."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

NO_TLS = "no redis-server with TLS, or no openssl, is installed here"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsServer:
    """A server with a port of each kind, and where its certificates are."""

    folder: Path
    plain: int
    tls: int
    strict: int
    """With TLS, and for those alone who show a certificate."""

    def url(self, *, host: str = "localhost", port: int = 0, **parameters: str) -> str:
        query = "&".join(f"{name}={self.folder / value}" for name, value in parameters.items())
        return f"rediss://{host}:{port or self.tls}?{query}".rstrip("?")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def openssl(folder: Path, *args: str) -> None:
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (shutil.which("openssl") and shutil.which("redis-server")):
        pytest.skip(NO_TLS)
    folder = tmp_path_factory.mktemp("tls")
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(folder, *new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test")
    openssl(folder, *new, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    sign = ("x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key")
    sign = (*sign, "-CAcreateserial", "-extfile", "names", "-out")
    openssl(folder, *sign, "own.pem")
    return folder


@pytest.fixture(scope="module")
def tls(certificates: Path) -> Iterator[TlsServer]:
    made = TlsServer(folder=certificates, plain=free_port(), tls=free_port(), strict=free_port())
    own = ("--tls-cert-file", "own.pem", "--tls-key-file", "own.key", "--save", "")
    own = (*own, "--tls-ca-cert-file", "ca.pem", "--bind", "127.0.0.1")
    anyone = ("--port", str(made.plain), "--tls-port", str(made.tls), "--tls-auth-clients", "no")
    strict = ("--port", "0", "--tls-port", str(made.strict), "--tls-auth-clients", "yes")
    servers = [
        subprocess.Popen(["redis-server", *own, *more], cwd=certificates, stdout=subprocess.PIPE)
        for more in (anyone, strict)
    ]
    for server in servers:
        assert server.stdout is not None
        for line in server.stdout:
            if b"Ready to accept" in line:
                break
            if b"TLS" in line and b"Fail" in line:
                pytest.skip(NO_TLS)
    yield made
    for server in servers:
        server.terminate()
        server.communicate()
