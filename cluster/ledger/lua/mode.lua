-- Set what workers are told when they ask for work. ARGV: claim, mode, 'mode' for all or mode/NODE.
if is_fenced(ARGV[1]) then return fenced(ARGV[1]) end
redis.call('HSET', META, ARGV[3], ARGV[2])
return 1
