"""The queue of trials: leases with fencing tokens, in memory, over Redis, and as workers see it."""
