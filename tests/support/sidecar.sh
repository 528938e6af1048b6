#!/usr/bin/env bash
# Speaks as a sidecar that is a shell script does: one curl for each line, then the status.
set -euo pipefail

say() { # PATH JSON
  curl --silent --show-error --fail --noproxy '*' --request POST "$OPEN_DISPATCH_URL/webhooks/$1" \
    --header 'Content-Type: application/json' --header "Authorization: Bearer $JOB_TOKEN" \
    --data "$2" --output /dev/null
}

say status "{\"jobId\": \"$JOB_ID\", \"status\": \"running\", \"exitCode\": 0, \"error\": \"\"}"
for ((n = 1; n <= LINES_TO_PRINT; n++)); do
  say logs "{\"jobId\": \"$JOB_ID\", \"text\": \"line $n ✓ \\\"quoted\\\"\"}"
done
say status "{\"jobId\": \"$JOB_ID\", \"status\": \"failed\", \"exitCode\": 3, \"error\": \"Agent exited with code 3\"}"
