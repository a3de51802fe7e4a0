"""What surrounds: command line, views, Prometheus, embedded server, composition root."""
