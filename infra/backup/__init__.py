"""Backups of studies, and studies whose store is lost."""
