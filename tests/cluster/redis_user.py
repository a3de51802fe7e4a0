"""A user of a server who may do what the docs say that one needs, and nothing else."""

from cluster.ledger.redis_problems import acl
from cluster.ledger.redis_store import connect

PASSWORD = "s3cret-of-tests"


def restricted(url: str, *, user: str = "incumbent") -> str:
    """Make the user in the server at a unix socket; return the URL by which they come in."""
    admin = connect(url)
    admin.execute_command("ACL", "SETUSER", user, "reset", *acl(user, PASSWORD).split()[1:])
    admin.close()
    return url.replace("unix://", f"unix://{user}:{PASSWORD}@")
