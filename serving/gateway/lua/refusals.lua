-- What the service has just refused is refused here, for as long as it says: with every core computing, a refusal costs
-- the service several times what it costs here. Before this text:
--   named = whether access.lua says who calls
--   most = refusals that are remembered
-- A call says in x-ganvas-work what it asks for: MODEL/COUNT. One that does not always goes to the service, and so does
-- one that asks for less, or has more time, than the refused one of the same caller, path, model and priority.
local LONGEST_MS, SOONEST_MS = 100, 50
local MOST_WORK, MOST_PATH, MOST_MESSAGE = 200, 100, 300 -- characters
local ROUNDING = 1.05 -- of the times that callers with the same deadline send
local ENDLESS_MS = 1e12
local ASK_PART = 0.2 -- of the time that a refusal holds: then one call asks anew, or all that come before its answer would
local UNITS_MS = { H = 3600000, M = 60000, S = 1000, m = 1, u = 1e-3, n = 1e-6 } -- of grpc-timeout

local refusals, num_refusals = {}, 0

local function caller_of(handle, headers)
  if named then return headers:get("x-ganvas-caller") or "" end
  -- The route overwrites what the client calls itself, and only later.
  local address = handle:streamInfo():downstreamRemoteAddress()
  return string.match(address, "^(.*):%d+$") or address
end

local function time_ms(text)
  local number, unit = string.match(text or "", "^(%d+)([HMSmun])$")
  if not number or #number > 8 then return ENDLESS_MS end
  return tonumber(number) * UNITS_MS[unit]
end

-- Who asks for what, and how much: nil if the call does not say, or says nothing that could be meant.
local function work_of(handle, headers)
  local work, path = headers:get("x-ganvas-work"), headers:get(":path")
  if not work or #work > MOST_WORK or #path > MOST_PATH then return nil end
  local model, count = string.match(work, "^([%w_./-]+)/(%d+)$")
  if not model or #count > 9 then return nil end
  local priority = headers:get("x-ganvas-priority") == "bulk" and "bulk" or "any"
  local key = table.concat({ caller_of(handle, headers), path, priority, model }, " ")
  return key, tonumber(count), time_ms(headers:get("grpc-timeout"))
end

-- The refusal that holds now. A clock that was set must not make one hold for longer.
local function known(key, now_ms)
  local refusal = refusals[key]
  local left_ms = refusal and refusal.until_ms - now_ms
  return left_ms and left_ms > 0 and left_ms <= LONGEST_MS and refusal or nil
end

local function remember(key, refusal)
  if not refusals[key] then
    if num_refusals >= most then refusals, num_refusals = {}, 0 end
    num_refusals = num_refusals + 1
  end
  refusals[key] = refusal
end

function envoy_on_request(handle)
  local key, count, time = work_of(handle, handle:headers())
  if not key then return end
  local metadata = handle:streamInfo():dynamicMetadata()
  local now_ms = refusals[key] and tonumber(handle:timestamp())
  local refusal = now_ms and known(key, now_ms)
  local holds = refusal and count >= refusal.count and time <= refusal.time * ROUNDING
  local asks = holds and not refusal.asked and now_ms >= refusal.ask_at_ms
  if asks then refusal.asked = true end
  if asks or not holds then
    metadata:set("ganvas", "work", count .. " " .. time .. " " .. key) -- for the response
    return
  end
  metadata:set("ganvas", "refused", "wait") -- for the counter of requests and the log
  local retry_ms = math.max(SOONEST_MS, refusal.retry_at_ms - now_ms)
  handle:respond({
    [":status"] = "200",
    ["grpc-status"] = "8",
    ["grpc-message"] = string.gsub(refusal.message, "Retry in %d+ ms", "Retry in " .. retry_ms .. " ms"),
    ["grpc-retry-pushback-ms"] = tostring(retry_ms),
  })
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local binding_ms = tonumber(headers:get("x-ganvas-binding-ms") or "")
  if not binding_ms then return end
  local retry_ms = tonumber(headers:get("grpc-retry-pushback-ms") or "")
  local work = (handle:streamInfo():dynamicMetadata():get("ganvas") or {}).work
  if not retry_ms or not work then return end
  local count, time, key = string.match(work, "^(%S+) (%S+) (.*)$")
  count, time = tonumber(count), tonumber(time)
  local now_ms = tonumber(handle:timestamp())
  -- Of two that hold at the same time, the one that more calls are like.
  local other = known(key, now_ms)
  if other and not other.asked and (count > other.count or time < other.time) then return end
  local holds_ms = math.min(binding_ms, retry_ms, LONGEST_MS)
  remember(key, {
    count = count,
    time = time,
    ask_at_ms = now_ms + holds_ms * (1 - ASK_PART),
    until_ms = now_ms + holds_ms,
    retry_at_ms = now_ms + retry_ms,
    message = string.sub(headers:get("grpc-message") or "", 1, MOST_MESSAGE),
  })
end
