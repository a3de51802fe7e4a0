"""What surrounds: command line, live view, Prometheus, embedded server, and the composition root."""
