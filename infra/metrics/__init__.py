"""Metrics of a study for Prometheus."""
