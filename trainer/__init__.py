"""What runs: trial records, slots, worktrees, environments, and supervised trials."""
