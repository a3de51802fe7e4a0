-- Keep a lease alive. ARGV: token, incarnation, expiry. Returns the answer to the heartbeat.
local lease = redis.call('HGET', LEASES, ARGV[1])
if not lease or cjson.decode(lease).incarnation ~= ARGV[2] then return 'gone' end
redis.call('ZADD', EXPIRY, ARGV[3], ARGV[1])
return redis.call('HGET', ANSWERS, ARGV[1]) or 'go_on'
