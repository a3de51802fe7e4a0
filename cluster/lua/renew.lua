-- Have every lease last until ARGV[1] at least. ARGV: expiry.
for _, token in ipairs(redis.call('ZRANGE', EXPIRY, 0, -1)) do
  redis.call('ZADD', EXPIRY, 'XX', 'GT', ARGV[1], token)
end
return 1
