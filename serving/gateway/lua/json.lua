-- Triton's JSON parser dies of deep nesting, so nothing deep reaches it. Before this text: max_depth.
-- Only brackets and quotes are visited; the rest of the text is skipped by string.find.
local OPEN, CLOSE, QUOTE = { ["["] = true, ["{"] = true }, { ["]"] = true, ["}"] = true }, '"'

local function after_string(text, at)
  while true do
    local stop = string.find(text, '["\\]', at)
    if not stop then return #text + 1 end
    if string.sub(text, stop, stop) == QUOTE then return stop + 1 end
    at = stop + 2
  end
end

local function too_deep(text)
  local depth, at = 0, string.find(text, '[%[%]{}"]', 1)
  while at do
    local character = string.sub(text, at, at)
    at = at + 1
    if character == QUOTE then
      at = after_string(text, at)
    elseif OPEN[character] then
      depth = depth + 1
      if depth > max_depth then return true end
    elseif CLOSE[character] then
      -- A closing bracket too many must not buy an opening one.
      depth = math.max(depth - 1, 0)
    end
    at = string.find(text, '[%[%]{}"]', at)
  end
  return false
end

local function refuse(handle, message)
  handle:respond({ [":status"] = "400" }, message)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local name = "inference-header-content-length"
  local given = headers:get(name)
  if given and (headers:getNumValues(name) ~= 1 or not string.find(given, "^%d+$") or #given > 9) then
    return refuse(handle, "Inference-Header-Content-Length must be one whole number; got '" .. string.sub(given, 1, 40) .. "'.")
  end
  local body = handle:body()
  if not body then return end
  local length = body:length()
  if given and tonumber(given) > length then
    return refuse(handle, "Inference-Header-Content-Length is " .. given .. ", more than the body's " .. length .. " bytes.")
  end
  if too_deep(body:getBytes(0, given and tonumber(given) or length)) then
    return refuse(handle, "the JSON is nested deeper than " .. max_depth .. " levels.")
  end
end

-- Triton calls a field of the wrong kind its own failure; it is the request's. A model that is away for a while is
-- its failure, or unknown.
function envoy_on_response(handle)
  local status = handle:headers():get(":status")
  if status ~= "500" and status ~= "404" then return end
  local body = handle:body()
  if not body then return end
  local text = body:getBytes(0, math.min(body:length(), 200))
  if string.find(text, '^{"error":"Unable to parse ') or string.find(text, '^{"error":"failed to parse the request JSON') then
    handle:headers():replace(":status", "400")
  elseif string.find(text, '^{"error":"Stub process .+ is not healthy') or string.find(text, "has no available versions", 1, true) then
    handle:headers():replace(":status", "503")
  end
end
