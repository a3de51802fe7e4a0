-- Prelude of every script: the one way in which events enter the ledger.
--
-- KEYS: 1 meta (hash: seq, epoch, count, mode, mode/NODE)   2 events (stream, ids SEQ-0)   3 ids (hash: event id -> seq)
--       4 ready (sorted set: -priority, COUNT|TRIAL|ATTEMPT)   5 specs (hash: TRIAL|ATTEMPT -> JSON)
--       6 leases (hash: token -> JSON)   7 expiry (sorted set: seconds, token)   8 answers (hash: token -> word)
--       9 reserved (hash: slot -> SECONDS|READY MEMBER)
local META, EVENTS, IDS, READY = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local SPECS, LEASES, EXPIRY, ANSWERS, RESERVED = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]

-- Refuse a controller whose epoch is over, or which has read an event that is not there any more: the
-- server was started from an older copy. A claim is 'EPOCH SEQ ID', with 0 for who has read nothing; an
-- empty one is a writer that is fenced otherwise.
local function is_fenced(claim)
  if claim == '' then return false end
  local epoch, seq, id = claim:match('^(%d+) (%d+) (.*)$')
  if redis.call('HGET', META, 'epoch') ~= epoch then return true end
  return seq ~= '0' and redis.call('HGET', IDS, id) ~= seq
end

-- Say whether the slots of a node may begin trials. `field` is mode/NODE.
local function is_open(field)
  for _, mode in ipairs(redis.call('HMGET', META, 'mode', field)) do
    if mode and mode ~= 'open' then return false end
  end
  return true
end

-- A controller begins its epoch before all else: where there is none, the server has lost its data.
local function fenced(claim)
  local epoch = redis.call('HGET', META, 'epoch')
  if not epoch then return redis.error_reply('EMPTIED') end
  return redis.error_reply(epoch == claim:match('^%d+') and 'ROLLEDBACK' or 'FENCED')
end

-- Say whether a worker holds an attempt at a trial (TRIAL|ATTEMPT) under a token. The token alone does
-- not tell: they begin anew where a server has lost its data.
local function holds(token, incarnation, attempt)
  local payload = redis.call('HGET', LEASES, token)
  if not payload then return false end
  local lease = cjson.decode(payload)
  return lease.incarnation == incarnation and lease.spec.trial .. '|' .. lease.spec.attempt == attempt
end

-- Append an event unless its id is known; true if it was appended.
local function record(id, payload)
  if redis.call('HEXISTS', IDS, id) == 1 then return false end
  local seq = redis.call('HINCRBY', META, 'seq', 1)
  redis.call('XADD', EVENTS, seq .. '-0', 'e', payload)
  redis.call('HSET', IDS, id, seq)
  return true
end
