"""How a trial is kept from everything that is not its own.

`bubblewrap`, `seccomp` and `privileges` are the sandbox itself, and run in the supervisor's
isolated interpreter, on the standard library alone. The others run in the worker, the command line
and `incumbent doctor`: they find out what a trial must see, which bwrap starts, and why none does.
"""
