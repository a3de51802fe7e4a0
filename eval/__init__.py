"""What judges: metrics, scores and verdicts. Pure; knows nothing of processes, git or Ray."""
