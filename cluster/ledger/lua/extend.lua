-- Keep a lease alive. ARGV: token, incarnation, TRIAL|ATTEMPT, expiry. Returns the answer to the heartbeat.
if not holds(ARGV[1], ARGV[2], ARGV[3]) then return 'gone' end
redis.call('ZADD', EXPIRY, ARGV[4], ARGV[1])
return redis.call('HGET', ANSWERS, ARGV[1]) or 'go_on'
