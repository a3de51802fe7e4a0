"""What the kernel counts by user: one slot's trial must not use it up for those of others.

It cannot where Incumbent runs as root. A plain user's trials are all that user's: see
docs/security.md.
"""

import time

from tests.trainer.sandbox.conftest import Lodge
from trainer.trial_user import TRIAL_UIDS

SEND = """
import array, os, resource, socket, time

# A process may send no more while its user has more on their way than it may have open itself.
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
pairs = [socket.socketpair() for _ in range(8)]

def send(pair):
    pair[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 99))])
"""
USE_UP = f"""{SEND}
try:
    for pair in pairs: send(pair)
except OSError:
    open("/out/used-up", "w").close()
time.sleep(600)
"""
NEED = f"""{SEND}
send(pairs[0])
print("sent")
"""


def test_descriptors_on_their_way_are_counted_for_each_slot_of_roots(lodge: Lodge) -> None:
    """By them, data loaders hand batches over."""
    ours, others = TRIAL_UIDS[:2] if lodge.uid == 0 else (None, None)

    def need(uid: int | None, name: str) -> str:
        return str(lodge.run(NEED, uid=uid, folder=str(lodge.folder / name))["tail"])

    with lodge.start(USE_UP, uid=ours) as greedy:
        try:
            while not (lodge.out / "used-up").exists():
                assert greedy.poll() is None
                time.sleep(0.01)
            assert "Too many references" in need(ours, "same")
            of_another = need(others, "other")
        finally:
            greedy.kill()
    assert ("sent" if lodge.uid == 0 else "Too many references") in of_another
