-- Find leases by a word of their record, so that a caller need not read all of them. ARGV: the word.
-- Returns token, lease and expiry of each, one after the other.
local found = {}
local leases = redis.call('HGETALL', LEASES)
for i = 1, #leases, 2 do
  if string.find(leases[i + 1], ARGV[1], 1, true) then
    found[#found + 1] = leases[i]
    found[#found + 1] = leases[i + 1]
    found[#found + 1] = redis.call('ZSCORE', EXPIRY, leases[i])
  end
end
return found
