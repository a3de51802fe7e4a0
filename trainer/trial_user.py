"""As whom trials run on a machine where Incumbent itself runs as root.

Standard library only: the supervisor imports this module in an isolated interpreter.
"""

TRIAL_UID = 65529
"""User and group number of trials, where Incumbent runs as root.

It needs no entry in /etc/passwd, and nobody should have one by it: Debian reserves 65000 to 65533
and gives none of them out, systemd's dynamic users end at 65519, and 65534 is `nobody`, as whom
file servers and other daemons run, which a trial must not be able to signal or to read. It is below
65536, so that it exists in the user namespace of a rootless container too.

One number does for all trials of a machine: each has its process and IPC namespace, so that they
cannot see one another, and the limit on processes counts by user namespace.
"""
