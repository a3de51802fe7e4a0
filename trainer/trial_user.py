"""As whom trials run on a machine where Incumbent itself runs as root.

Standard library only: the supervisor imports this module in an isolated interpreter.
"""

TRIAL_UIDS = range(65529, 64999, -1)
"""User and group numbers of trials, where Incumbent runs as root, in the order in which they serve.

Each slot of the machine has one of its own (trainer.slots.with_user): the kernel counts some things
by user whatever the namespace, descriptors on their way through unix sockets among them, and what
one trial uses up its neighbours would lack.

They need no entry in /etc/passwd, and nobody should have one by them: Debian reserves 65000 to
65533 and gives none of them out. systemd lends 61184 to 65519 to services while these run, so the
first ten are clear of that, and of others those that are lent are passed over. 65534 is `nobody`,
as whom file servers and other daemons run, which a trial must not be able to signal or to read. All
are below 65536, so that they exist in the user namespace of a rootless container too.
"""

TRIAL_UID = TRIAL_UIDS[0]
"""As whom it is tried whether there can be a sandbox, by those who serve no slot."""
