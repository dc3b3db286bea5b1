-- One bucket of a rate limit: GCRA as a debt that the time reduces. It is the only script, and it uses one key.
-- KEYS[1]: the bucket. ARGV: tokens and microseconds of the rate, burst, tokens to take, 'take' or 'add'.
-- Returns whether it admits, the wait in microseconds, and the debt. The wait and the lifetime fit into 64 bits.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local tokens, period, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local debt = 0
local stored = redis.call('GET', KEYS[1])
if stored then
  local owed, at = string.match(stored, '^(%S+) (%S+)$')
  owed, at = tonumber(owed), tonumber(at)
  if owed and at then
    -- The clock may have been set back.
    debt = math.max(0, owed - math.max(0, now - at) * tokens / period)
  end
end
local excess = debt + wanted - burst
if ARGV[5] == 'take' and excess > 1e-9 then
  return {0, string.format('%.0f', math.min(math.ceil(excess * period / tokens), 1e18)), string.format('%.17g', debt)}
end
debt = math.max(0, debt + wanted)
local lifetime = math.min(math.max(1, math.ceil(debt * period / tokens / 1000)), 1e15)
redis.call('SET', KEYS[1], string.format('%.17g %.0f', debt, now), 'PX', string.format('%.0f', lifetime))
return {1, '0', string.format('%.17g', debt)}
