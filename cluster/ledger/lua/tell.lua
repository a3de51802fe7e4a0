-- Append what is no controller's to say. ARGV: id and payload of an event. Refused where no controller
-- has begun an epoch: that is a ledger which was lost, and is to stay empty until somebody brings it back.
if redis.call('HEXISTS', META, 'epoch') == 0 then return fenced('') end
record(ARGV[1], ARGV[2])
return 1
