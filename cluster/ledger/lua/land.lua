-- Put what was staged in place of nothing, all or none. KEYS: the study's keys, then as many that are
-- staged, in the same order. Returns 0, and nothing has changed, if there is an event already.
if redis.call('EXISTS', EVENTS) == 1 then return 0 end
local half = #KEYS / 2
for i = 1, half do
  if redis.call('EXISTS', KEYS[half + i]) == 1 then redis.call('RENAME', KEYS[half + i], KEYS[i]) end
end
return 1
