-- Set what workers are told when they ask for work. ARGV: epoch, mode, 'mode' for all or mode/NODE.
if is_fenced(ARGV[1]) then return fenced() end
redis.call('HSET', META, ARGV[3], ARGV[2])
return 1
