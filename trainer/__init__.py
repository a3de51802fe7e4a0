"""What runs: trial records, slots, worktrees, environments, and the supervised execution of a trial."""
