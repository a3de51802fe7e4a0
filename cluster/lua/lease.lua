-- Lease the trial that the caller saw first in the queue. ARGV: member, TRIAL|ATTEMPT, lease, expiry,
-- event id, payload. Returns the token, 0 if somebody else took it, -1 if the mode is not open.
if (redis.call('HGET', META, 'mode') or 'open') ~= 'open' then return -1 end
if redis.call('ZREM', READY, ARGV[1]) == 0 then return 0 end
local token = redis.call('HINCRBY', META, 'count', 1)
redis.call('HDEL', SPECS, ARGV[2])
redis.call('HSET', LEASES, token, ARGV[3])
redis.call('ZADD', EXPIRY, ARGV[4], token)
record(ARGV[5], ARGV[6])
return token
