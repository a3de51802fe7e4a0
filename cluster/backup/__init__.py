"""A study in files, and back out of them or out of what git knows."""
