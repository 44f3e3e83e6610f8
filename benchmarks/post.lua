-- SPDX-License-Identifier: Apache-2.0
-- For wrk: sends the file that is the first argument, under the headers that are the others, and prints what it
-- measured as one line of JSON, because wrk's own output is rounded. Times are in microseconds.

function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.method = "POST"
   wrk.body = file:read("*a")
   file:close()
   for i = 2, #args do
      local name, value = args[i]:match("^([^:]+): (.*)$")
      wrk.headers[name] = value
   end
end

function done(summary, latency)
   local e = summary.errors
   io.write(string.format(
      '{"requests": %d, "microseconds": %d, "errors": %d, "p50": %.1f, "p90": %.1f, "p99": %.1f}\n',
      summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
      latency:percentile(50), latency:percentile(90), latency:percentile(99)))
end
