#!/usr/bin/env bash
# Speaks as a sidecar that is a shell script does: one curl for each line, then the status. As the
# entry point of a machine's image it runs COMMAND, and a relay beside it brings what that prints.
set -euo pipefail

say() { # PATH JSON
  curl --silent --show-error --fail --noproxy '*' --request POST "$OPEN_DISPATCH_URL/webhooks/$1" \
    --header 'Content-Type: application/json' --header "Authorization: Bearer $JOB_TOKEN" \
    --data "$2" --output /dev/null
}

say status "{\"jobId\": \"$JOB_ID\", \"status\": \"running\", \"exitCode\": 0, \"error\": \"\"}"
if [[ -n "${COMMAND:-}" ]]; then
  relay="$(dirname "$0")/relay.mjs"
  mkdir --parents "${SPRITE_ROOT:-}$WORKDIR"
  cd "${SPRITE_ROOT:-}$WORKDIR"
  code=0
  bash -c "$COMMAND" 2>&1 | node "$relay" || code="${PIPESTATUS[0]}"
  status=completed
  [[ "$code" -eq 0 ]] || status=failed
  say status "{\"jobId\": \"$JOB_ID\", \"status\": \"$status\", \"exitCode\": $code, \"error\": \"\"}"
  exit "$code"
fi
for ((n = 1; n <= LINES_TO_PRINT; n++)); do
  say logs "{\"jobId\": \"$JOB_ID\", \"text\": \"line $n ✓ \\\"quoted\\\"\"}"
done
say status "{\"jobId\": \"$JOB_ID\", \"status\": \"failed\", \"exitCode\": 3, \"error\": \"Agent exited with code 3\"}"
