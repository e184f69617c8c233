-- A bound for each message of a stream that cannot be held until it is whole. Before this text: max_bytes.
-- A gRPC message says its length in its first five bytes; a message too long is cut off there: its flag byte becomes
-- one that gRPC does not know, upon which the receiver ends the stream without taking the message in.
local BROKEN = "\255\0\0\0\0"

function envoy_on_request(handle)
  local missing, header, broken = 0, "", false
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    local at = 0
    while at < length and not broken do
      if missing > 0 then
        local step = math.min(missing, length - at)
        missing, at = missing - step, at + step
      else
        local step = math.min(5 - #header, length - at)
        header, at = header .. chunk:getBytes(at, step), at + step
        if #header == 5 then
          local _, a, b, c, d = string.byte(header, 1, 5)
          missing, header = ((a * 256 + b) * 256 + c) * 256 + d, ""
          broken = missing > max_bytes
        end
      end
    end
    if broken then chunk:setBytes(BROKEN) end
  end
end
