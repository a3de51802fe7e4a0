-- Set what the next heartbeat of a lease is answered. ARGV: claim, answer, tokens.
if is_fenced(ARGV[1]) then return fenced(ARGV[1]) end
for i = 3, #ARGV do
  if redis.call('HEXISTS', LEASES, ARGV[i]) == 1 then redis.call('HSET', ANSWERS, ARGV[i], ARGV[2]) end
end
return 1
