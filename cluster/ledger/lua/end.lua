-- End a lease and record why. ARGV: token, incarnation, TRIAL|ATTEMPT, event id, payload, latest expiry
-- ('' for any). Returns 1 if that lease was held and expires no later, else 0 and nothing has changed.
if not holds(ARGV[1], ARGV[2], ARGV[3]) then return 0 end
if ARGV[6] ~= '' and tonumber(redis.call('ZSCORE', EXPIRY, ARGV[1])) > tonumber(ARGV[6]) then return 0 end
redis.call('HDEL', LEASES, ARGV[1])
redis.call('ZREM', EXPIRY, ARGV[1])
redis.call('HDEL', ANSWERS, ARGV[1])
record(ARGV[4], ARGV[5])
return 1
