-- Prelude of every script: the one way in which events enter the ledger.
--
-- KEYS: 1 meta (hash: seq, epoch, count, mode, mode/NODE)   2 events (stream, ids SEQ-0)   3 ids (hash: event id -> seq)
--       4 ready (sorted set: -priority, COUNT|TRIAL|ATTEMPT)   5 specs (hash: TRIAL|ATTEMPT -> JSON)
--       6 leases (hash: token -> JSON)   7 expiry (sorted set: seconds, token)   8 answers (hash: token -> word)
--       9 reserved (hash: slot -> SECONDS|READY MEMBER)
local META, EVENTS, IDS, READY = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local SPECS, LEASES, EXPIRY, ANSWERS, RESERVED = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]

-- Refuse a controller whose epoch is over. An empty epoch is a writer that is fenced otherwise.
local function is_fenced(epoch)
  return epoch ~= '' and redis.call('HGET', META, 'epoch') ~= epoch
end

-- Say whether the slots of a node may begin trials. `field` is mode/NODE.
local function is_open(field)
  for _, mode in ipairs(redis.call('HMGET', META, 'mode', field)) do
    if mode and mode ~= 'open' then return false end
  end
  return true
end

-- A controller begins its epoch before all else: where there is none, the server has lost its data.
local function fenced()
  return redis.error_reply(redis.call('HEXISTS', META, 'epoch') == 1 and 'FENCED' or 'EMPTIED')
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
