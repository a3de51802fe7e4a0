-- End a lease and record why. ARGV: token, event id, payload, latest expiry ('' for any).
-- Returns 1 if the token held a lease that expires no later, else 0 and nothing has changed.
local expiry = redis.call('ZSCORE', EXPIRY, ARGV[1])
if not expiry then return 0 end
if ARGV[4] ~= '' and tonumber(expiry) > tonumber(ARGV[4]) then return 0 end
redis.call('HDEL', LEASES, ARGV[1])
redis.call('ZREM', EXPIRY, ARGV[1])
redis.call('HDEL', ANSWERS, ARGV[1])
record(ARGV[2], ARGV[3])
return 1
