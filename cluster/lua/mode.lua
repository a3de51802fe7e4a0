-- Set what workers are told when they ask for work. ARGV: epoch, mode.
if is_fenced(ARGV[1]) then return fenced() end
redis.call('HSET', META, 'mode', ARGV[2])
return 1
