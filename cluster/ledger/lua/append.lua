-- Append events, all or none. ARGV: claim, then id and payload of each event. Returns the last seq.
if is_fenced(ARGV[1]) then return fenced(ARGV[1]) end
for i = 2, #ARGV, 2 do record(ARGV[i], ARGV[i + 1]) end
return tonumber(redis.call('HGET', META, 'seq') or '0')
