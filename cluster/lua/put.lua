-- Queue a trial. ARGV: epoch, event id, payload, TRIAL|ATTEMPT, spec, -priority.
if is_fenced(ARGV[1]) then return redis.error_reply('FENCED') end
if not record(ARGV[2], ARGV[3]) then return 0 end
local count = redis.call('HINCRBY', META, 'count', 1)
redis.call('HSET', SPECS, ARGV[4], ARGV[5])
redis.call('ZADD', READY, ARGV[6], string.format('%012d|%s', count, ARGV[4]))
return 1
