"""From a repository as it is found to an `incumbent.toml`."""
