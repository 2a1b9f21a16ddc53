-- Requests from files: N.head (path, then headers) and N.body below $REQUESTS, each in its turn.
local requests, turn = {}, 0

function init()
  local folder = os.getenv("REQUESTS")
  for n = 0, tonumber(os.getenv("COUNT")) - 1 do
    local path, headers = nil, { ["Host"] = "bench" }
    for line in io.lines(folder .. "/" .. n .. ".head") do
      if path then
        local name, value = line:match("^([^:]+): (.*)$")
        headers[name] = value
      else
        path = line
      end
    end
    local file = io.open(folder .. "/" .. n .. ".body", "rb")
    requests[n + 1] = wrk.format("POST", path, headers, file:read("*a"))
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary)
  local e = summary.errors
  io.write(string.format("DONE %d %d %d\n", summary.requests,
    e.status + e.connect + e.read + e.write + e.timeout, summary.duration))
end
