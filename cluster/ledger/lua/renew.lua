-- Have every lease last until ARGV[1] at least, and ARGV[2] at most. ARGV: expiry, expiry.
for _, token in ipairs(redis.call('ZRANGE', EXPIRY, 0, -1)) do
  redis.call('ZADD', EXPIRY, 'XX', 'GT', ARGV[1], token)
  redis.call('ZADD', EXPIRY, 'XX', 'LT', ARGV[2], token)
end
return 1
