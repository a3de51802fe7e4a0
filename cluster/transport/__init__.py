"""How code comes to nodes, and what trials left comes back, with no file system shared."""
