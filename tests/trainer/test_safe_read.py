"""What a candidate may leave and how little of it is read; by openat2 and by the way without it."""

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainer import safe_read
from trainer.safe_read import SafeFolder, Unsafe

SECRET = b"the labels"


def missing_call(code: int) -> Callable[..., int]:
    def openat2(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return openat2


@pytest.fixture(params=["openat2", "unknown to the kernel", "refused by the container"])
def out(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder that a candidate writes to, beside one that it must not learn of."""
    if request.param != "openat2":
        code = errno.ENOSYS if "kernel" in request.param else errno.EPERM
        monkeypatch.setattr(safe_read, "_openat2", missing_call(code))
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "labels").write_bytes(SECRET)
    folder = tmp_path / "out"
    folder.mkdir()
    # Whatever waits for a pipe's other end is interrupted rather than hang the tests.
    signal.alarm(20)
    yield folder
    signal.alarm(0)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def read(folder: Path, name: str, most_bytes: int = 1000) -> bytes:
    with SafeFolder(folder) as safe:
        return safe.read(name, most_bytes)


def test_this_kernel_has_the_call_so_that_both_ways_are_tested(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with SafeFolder(tmp_path) as safe:
        os.close(safe_read._openat2(safe._root, "a", os.O_RDONLY))


def test_plain_files_are_read(out: Path) -> None:
    (out / "deep" / "er").mkdir(parents=True)
    (out / "deep" / "er" / "a.bin").write_bytes(b"x" * 1000)
    (out / "empty").touch()
    assert read(out, "deep/er/a.bin") == b"x" * 1000
    assert read(out, "empty") == b""


def test_names_need_not_be_utf8(out: Path) -> None:
    (out / os.fsdecode(b"\xff\n")).write_bytes(b"x")
    with SafeFolder(out) as safe:
        (found,) = safe.files()
        assert safe.read(found.name, 1) == b"x"


def test_a_file_is_read_from_anywhere_in_it(out: Path) -> None:
    (out / "a").write_bytes(b"0123456789")
    with SafeFolder(out) as safe:
        assert b"".join(safe.chunks("a", 10, start=7)) == b"789"
        assert b"".join(safe.chunks("a", 10, start=70)) == b""


def test_what_is_not_there_is_said_as_such(out: Path) -> None:
    for name in ("nothing", "no/thing"):
        with pytest.raises(FileNotFoundError):
            read(out, name)
    with pytest.raises(FileNotFoundError):
        SafeFolder(out / "nothing")


@pytest.mark.parametrize("target", ["../ours/labels", "inside"])
def test_a_link_is_not_followed_wherever_it_leads(target: str, out: Path) -> None:
    (out / "inside").write_bytes(b"x")
    (out / "a").symlink_to(target)
    assert (out / "a").read_bytes(), "an ordinary open would"
    with pytest.raises(Unsafe, match="symbolic link"):
        read(out, "a")


def test_a_folder_that_is_a_link_is_not_entered(out: Path, tmp_path: Path) -> None:
    (out / "sub").symlink_to(tmp_path / "ours")
    assert (out / "sub" / "labels").read_bytes() == SECRET
    with pytest.raises(Unsafe):
        read(out, "sub/labels")
    with SafeFolder(out) as safe:
        assert [(each.name, each.problem) for each in safe.files()] == [
            ("sub", "is a symbolic link")
        ]


def test_the_folder_itself_may_not_be_a_link(out: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(Unsafe):
        SafeFolder(tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(Unsafe):
        SafeFolder(tmp_path / "file")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../ours/labels", "a/../../ours/labels", "/etc/passwd", "a//b", "a\0b"]
)
def test_only_names_within_the_folder_are_names(name: str, out: Path) -> None:
    (out / "a").mkdir()
    with pytest.raises(Unsafe, match="no name within"):
        read(out, name)


def test_a_pipe_a_socket_a_folder_and_a_device_are_refused_at_once(out: Path) -> None:
    os.mkfifo(out / "pipe")
    (out / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(out)  # a socket's address has to be short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    for name, word in [("pipe", "pipe"), ("folder", "folder"), ("socket", "socket")]:
        with pytest.raises(Unsafe, match=word):
            read(out, name)
    with SafeFolder(Path("/dev")) as devices, pytest.raises(Unsafe, match="device"):
        devices.read("null", 10)


def test_a_file_with_a_second_name_is_refused(out: Path, tmp_path: Path) -> None:
    os.link(tmp_path / "ours" / "labels", out / "a")
    with pytest.raises(Unsafe, match="2 names"):
        read(out, "a")


def test_a_file_behind_a_file_is_refused(out: Path) -> None:
    (out / "a").touch()
    with pytest.raises(Unsafe, match="no folder"):
        read(out, "a/b")


def test_another_file_system_is_not_entered() -> None:
    with SafeFolder(Path("/")) as safe, pytest.raises(Unsafe, match="file system"):
        safe.read("proc/version", 1000)


def test_another_file_system_is_not_entered_without_the_call_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(safe_read, "_openat2", missing_call(errno.ENOSYS))
    test_another_file_system_is_not_entered()


def test_a_large_file_is_refused_before_it_is_read_sparse_or_not(out: Path) -> None:
    with (out / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Unsafe, match="1099511627776 bytes, more than 1000"):
        read(out, "huge")
    (out / "a").write_bytes(b"x" * 1001)
    with pytest.raises(Unsafe, match="1001 bytes, more than 1000"):
        read(out, "a")


def test_a_file_that_grows_while_it_is_read_is_given_up(out: Path) -> None:
    (out / "a").write_bytes(b"x" * 1000)
    with SafeFolder(out) as safe:
        chunks = safe.chunks("a", 1000)
        assert next(chunks) == b"x" * 1000
        with (out / "a").open("ab") as file:
            file.write(b"y")
        with pytest.raises(Unsafe, match="grew"):
            next(chunks)


def test_copies_are_of_content_alone(out: Path, tmp_path: Path) -> None:
    (out / "a").write_bytes(b"x" * 3_000_000)
    (out / "a").chmod(0o6777)
    target = tmp_path / "ours" / "copy"
    with SafeFolder(out) as safe:
        safe.copy("a", target, 3_000_000)
        assert target.read_bytes() == b"x" * 3_000_000
        assert target.stat().st_mode & 0o7111 == 0
        with pytest.raises(FileExistsError):
            safe.copy("a", target, 3_000_000)
    assert target.exists()


def test_a_copy_that_is_refused_leaves_nothing(out: Path, tmp_path: Path) -> None:
    (out / "a").symlink_to("/etc/hostname")
    target = tmp_path / "ours" / "copy"
    with SafeFolder(out) as safe, pytest.raises(Unsafe):
        safe.copy("a", target, 1000)
    assert not target.exists()


def test_everything_is_listed_with_what_is_wrong_with_it(out: Path) -> None:
    (out / "sub" / "empty").mkdir(parents=True)
    (out / "a").write_bytes(b"xy")
    (out / "sub" / "b").write_bytes(b"xyz")
    os.mkfifo(out / "sub" / "pipe")
    with SafeFolder(out) as safe:
        for _ in range(2):  # listing again begins at the beginning
            found = {each.name: (each.size, each.problem) for each in safe.files()}
            assert found == {"a": (2, ""), "sub/b": (3, ""), "sub/pipe": (0, "is a pipe")}


def test_a_listing_without_an_end_is_given_up(out: Path) -> None:
    for number in range(5):
        (out / str(number)).touch()
    with SafeFolder(out) as safe:
        assert len(list(safe.files(5))) == 5
        with pytest.raises(Unsafe, match="more than 4"):
            list(safe.files(4))
    (out / "/".join("d" * 70)).mkdir(parents=True)
    with SafeFolder(out) as safe, pytest.raises(Unsafe, match="deeper than 64"):
        list(safe.files())


def test_links_are_read_as_text(out: Path, tmp_path: Path) -> None:
    (out / "sub").mkdir()
    (out / "sub" / "a").symlink_to("../../ours/labels")
    (out / "file").touch()
    with SafeFolder(out) as safe:
        assert safe.read_link("sub/a") == b"../../ours/labels"
        with pytest.raises(Unsafe, match="no symbolic link"):
            safe.read_link("file")
        with pytest.raises(FileNotFoundError):
            safe.read_link("sub/b")


def test_no_descriptor_is_left_open(out: Path) -> None:
    (out / "sub").mkdir()
    (out / "sub" / "a").write_bytes(b"xy")
    (out / "link").symlink_to("sub")
    before = open_descriptors()
    with SafeFolder(out) as safe:
        list(safe.files())
        safe.read("sub/a", 2)
        for name, most in [("link/a", 9), ("sub/a", 1), ("sub/b", 9), ("sub/a/c", 9), ("sub", 9)]:
            with pytest.raises((Unsafe, FileNotFoundError)):
                safe.read(name, most)
        safe.close()
    assert open_descriptors() == before
