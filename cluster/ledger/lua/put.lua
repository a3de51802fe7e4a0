-- Queue a trial. ARGV: claim, event id, payload, TRIAL|ATTEMPT, spec, -priority, "" or
-- |SLOT|DEVICE CLASS where it is meant for certain slots, with @NODE behind the slot where it avoids a
-- node: stored with the place in the queue, so that
-- others pass it over without a look at its spec.
if is_fenced(ARGV[1]) then return fenced(ARGV[1]) end
if not record(ARGV[2], ARGV[3]) then return 0 end
local count = redis.call('HINCRBY', META, 'count', 1)
redis.call('HSET', SPECS, ARGV[4], ARGV[5])
redis.call('ZADD', READY, ARGV[6], string.format('%012d|%s', count, ARGV[4]) .. ARGV[7])
return 1
