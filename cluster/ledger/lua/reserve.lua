-- Keep a busy slot's wish in place of its last one. ARGV: slot, mode/NODE, wish ('' for none).
-- Returns 1 if there is one now, 0 if none was wished or the mode is not open.
redis.call('HDEL', RESERVED, ARGV[1])
if ARGV[3] == '' or not is_open(ARGV[2]) then return 0 end
redis.call('HSET', RESERVED, ARGV[1], ARGV[3])
return 1
