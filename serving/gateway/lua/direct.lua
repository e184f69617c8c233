-- A direct gRPC call that names no version means the default. Before this text: defaults = nil (Triton's newest) or
-- {[model] = "version"}. The request is whole when it gets here, since its size has a bound.
-- Its one message has a flag and its length before it, five bytes. In every request the model's name is field 1, which
-- clients write first, and the version is field 2. Of a field that comes twice the last one counts, so the default stands
-- before the message: a version of the client's own overrides it.
local HEAD, LONGEST_NAME = 5, 127
local NONE = "0" -- no version has this number: NOT_FOUND

local function number_at(text, at)
  local a, b, c, d = string.byte(text, at, at + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function as_number(value)
  return string.char(math.floor(value / 16777216), math.floor(value / 65536) % 256, math.floor(value / 256) % 256, value % 256)
end

local function name_in(message)
  local tag, length = string.byte(message, 1, 2)
  return tag == 10 and length and length <= LONGEST_NAME and string.sub(message, 3, 2 + length) or ""
end

function envoy_on_request(handle)
  local body = defaults and handle:body()
  if not body or body:length() < HEAD then return end
  local length = body:length()
  local start = body:getBytes(0, math.min(length, HEAD + 2 + LONGEST_NAME))
  local version = defaults[name_in(string.sub(start, HEAD + 1))] or NONE
  local field = "\18" .. string.char(#version) .. version
  local size = number_at(start, 2)
  if size > length - HEAD then return end -- a part of a message, which Triton refuses
  local head = string.sub(start, 1, 1) .. as_number(size + #field)
  body:setBytes(head .. field .. body:getBytes(HEAD, length - HEAD))
end
