-- Lease the trial that the caller chose in the queue; the slot's reservation ends. ARGV: member,
-- TRIAL|ATTEMPT, lease, expiry, slot, mode/NODE, event id, payload.
-- Returns the token, 0 if somebody else took it, -1 if the study's mode or the node's is not open.
if not is_open(ARGV[6]) then return -1 end
if redis.call('ZREM', READY, ARGV[1]) == 0 then return 0 end
local token = redis.call('HINCRBY', META, 'count', 1)
redis.call('HDEL', SPECS, ARGV[2])
redis.call('HSET', LEASES, token, ARGV[3])
redis.call('ZADD', EXPIRY, ARGV[4], token)
redis.call('HDEL', RESERVED, ARGV[5])
record(ARGV[7], ARGV[8])
return token
