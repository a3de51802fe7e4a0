-- Take a trial that was not leased yet out of the queue. ARGV: claim, member, TRIAL|ATTEMPT, event id,
-- payload. Returns 0 if it is no longer there.
if is_fenced(ARGV[1]) then return fenced(ARGV[1]) end
if redis.call('ZREM', READY, ARGV[2]) == 0 then return 0 end
redis.call('HDEL', SPECS, ARGV[3])
record(ARGV[4], ARGV[5])
return 1
