-- What wrk sends: purchases of one line, about 300 bytes each; one a request, or as many as EVENTS says in a batch.
local count, key, events = 0, os.getenv("KEY"), tonumber(os.getenv("EVENTS"))
local media = events > 1 and "application/cloudevents-batch+json" or "application/cloudevents+json"
local head = {["Content-Type"] = media, ["Authorization"] = "Bearer " .. key}
local form = '{"specversion":"1.0","id":"' .. os.getenv("RUN") .. '-%d","source":"till/1","type":"dear.PurchaseRecorded","time":"%s","data":'
  .. '{"reference":"loyalty_card:%d","store":"120","currency":"USD","lines":[{"sku":"apple","quantity":1,"amount_minor":1250}]}}'

local function event()
  count = count + 1
  return form:format(count, os.date("!%Y-%m-%dT%H:%M:%S.000Z"), 1 + count % 20000)
end

function request()
  if events == 1 then return wrk.format("POST", "/v1/events", head, event()) end
  local some = {}
  for i = 1, events do some[i] = event() end
  return wrk.format("POST", "/v1/events", head, "[" .. table.concat(some, ",") .. "]")
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('\n{"requests": %d, "seconds": %f, "half_ms": %f, "p99_ms": %f, "failed": %d}\n', summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
