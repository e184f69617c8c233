-- Each message of a direct gRPC call: how long it may be, and which version it means when it names none. Before this
-- text: max_bytes, and defaults = nil (Triton's newest) or {[model] = "version"}.
-- A gRPC message says its length in its first five bytes; a message too long is cut off there: its flag byte becomes
-- one that gRPC does not know, upon which the receiver ends the stream without taking the message in.
-- In every request the model's name is field 1, which clients write first, and the version is field 2. Of a field that
-- comes twice the last one counts, so the default stands before the message: a version of the client's own overrides it.
local BROKEN = "\255\0\0\0\0"
local NONE = "0" -- no version has this number: NOT_FOUND

local function number_at(text, at)
  local a, b, c, d = string.byte(text, at, at + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function as_number(value)
  return string.char(math.floor(value / 16777216), math.floor(value / 65536) % 256, math.floor(value / 256) % 256, value % 256)
end

-- The field to put before the message that begins at this place; nil: more of it is needed to tell.
local function default_field(text, at, size)
  if not defaults or size == 0 then return "" end
  local there = math.min(size, #text - at + 1)
  if there < math.min(size, 2) then return nil end
  local tag, length = string.byte(text, at, at + 1)
  local name
  if tag == 10 and length and length < 128 then
    if there < math.min(size, 2 + length) then return nil end
    name = string.sub(text, at + 2, at + 1 + length)
  end
  local version = defaults[name or ""] or NONE
  return "\18" .. string.char(#version) .. version
end

function envoy_on_request(handle)
  handle:headers():remove("content-length")
  local missing, held = 0, ""
  local broken = false
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if broken then
      chunk:setBytes("")
    elseif missing >= length then
      missing = missing - length
    else
      local text = held .. chunk:getBytes(0, length)
      local parts, at = {}, 1
      held = ""
      while at <= #text do
        if missing > 0 then
          local stop = math.min(at + missing - 1, #text)
          parts[#parts + 1] = string.sub(text, at, stop)
          missing, at = missing - (stop - at + 1), stop + 1
        else
          local size = #text - at >= 4 and number_at(text, at + 1)
          if size and size > max_bytes then
            parts[#parts + 1], broken = BROKEN, true
            break
          end
          local compressed = size and string.byte(text, at) ~= 0
          local field = size and (compressed and "" or default_field(text, at + 5, size))
          if not field then
            held = string.sub(text, at)
            break
          end
          parts[#parts + 1] = string.sub(text, at, at) .. as_number(size + #field) .. field
          missing, at = size, at + 5
        end
      end
      chunk:setBytes(table.concat(parts))
    end
  end
end
