"""What of Incumbent lies and runs on this machine: folders, servers, processes, keys."""
