-- Who calls, and which cluster gets the request. Before this text stand sha256.lua and three tables:
--   keys = nil (none are asked for), or {[id] = {name = "…", digest = "64 hex digits", cluster = "…" or nil}}
--   public = {[path] = true}: what needs no key
--   defaults = nil (Triton's newest), or {[model] = "version"}: what a direct call means that names no version
local SERVICE, TRITON_GRPC, TRITON_HTTP = "service", "triton-grpc", "triton-http"
local NOBODY = { 0, 0, 0, 0, 0, 0, 0, 0 }

for _, entry in pairs(keys or {}) do
  local words = {}
  for hex in string.gmatch(entry.digest, "%x%x%x%x%x%x%x%x") do words[#words + 1] = tobit(tonumber(hex, 16)) end
  entry.digest = words
end

-- All eight words are compared, whichever differ, and a key of unknown id costs what a wrong one costs.
local function same(digest, wanted)
  local difference = 0
  for i = 1, 8 do difference = bor(difference, bxor(digest[i], wanted[i])) end
  return difference == 0
end

local function sent_key(headers)
  local authorization = headers:get("authorization")
  if authorization and string.lower(string.sub(authorization, 1, 7)) == "bearer " then
    return string.sub(authorization, 8)
  end
  return headers:get("x-api-key")
end

local function owner_of(key)
  if #key > 128 then return nil end
  local entry = keys[string.match(key, "^ganvas_(%x%x%x%x%x%x%x%x)_") or ""]
  if same(sha256(key), entry and entry.digest or NOBODY) then return entry end
  return nil
end

-- The name in a client's certificate, or the address of its host: more connections must not mean more shares.
local function anonymous(handle)
  local tls = handle:streamInfo():downstreamSslConnection()
  if tls and tls:peerCertificatePresented() then
    local uris, names = tls:uriSanPeerCertificate(), tls:dnsSansPeerCertificate()
    local subject = tls:subjectPeerCertificate() or ""
    local name = uris and uris[1] or names and names[1] or string.match(subject, "CN=([^,]+)") or subject
    return "cert:" .. string.sub(string.gsub(name, "[^%w._:/@-]", "_"), 1, 120)
  end
  local address = handle:streamInfo():downstreamRemoteAddress()
  local host = string.match(address, "^(.*):%d+$") or address
  return string.match(host, "^%[(.*)%]$") or host -- as routes.py has it
end

local function cluster_of(path)
  if string.find(path, "^/ganvas%.v1%.") or string.find(path, "^/grpc%.") then return SERVICE end
  if string.find(path, "^/inference%.") then return TRITON_GRPC end
  if string.find(path, "^/v2") then return TRITON_HTTP end
  return nil
end

-- By gRPC direct.lua does the same. No version has the number 0, so it is not found.
local function with_version(path)
  local model, rest = string.match(path, "^/v2/models/([%w_.-]+)(.*)$")
  if not model or string.find(rest, "^/versions/") then return path end
  return "/v2/models/" .. model .. "/versions/" .. (defaults[model] or "0") .. rest
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = string.match(headers:get(":path") or "", "^[^?]*")
  local cluster = cluster_of(path)
  -- Only this gateway says who calls.
  headers:remove("x-ganvas-caller")
  headers:remove("x-ganvas-cluster")
  if not cluster then return end -- no route: 404
  local caller
  if keys and not public[path] then
    local key = sent_key(headers)
    local owner = key and owner_of(key)
    if not owner then
      local message = key and "the API key is not valid: it was mistyped, or revoked." or "this server asks for an API key."
      handle:respond({ [":status"] = "401", ["www-authenticate"] = 'Bearer realm="ganvas"' },
        message .. " Send the metadata 'authorization: Bearer KEY'; './ganvas keys add NAME' makes a key.")
      return
    end
    caller, cluster = owner.name, owner.cluster or cluster
    handle:streamInfo():dynamicMetadata():set("ganvas", "key", caller) -- for the counter of requests
  end
  -- What is behind the gateway has no use for a key, and might log it.
  headers:remove("authorization")
  headers:remove("x-api-key")
  headers:replace("x-ganvas-caller", caller or anonymous(handle))
  headers:replace("x-ganvas-cluster", cluster)
  if defaults then headers:replace(":path", with_version(headers:get(":path"))) end
end
