#!/usr/bin/env bash
# publish.sh NUMBER COMMAND runs a command, and publishes each line that it writes to builds/NUMBER. It ends as the
# command does, whatever becomes of the push server.
url=${PUSH_URL:-http://localhost:3000} build=$1 command=("${2?publish.sh NUMBER COMMAND}" "${@:3}")
patiently=(--retry 30 --retry-delay 1 --retry-max-time 30 --retry-connrefused --no-show-error)

post() { # says why if it cannot publish
  answer=$(curl -sS -X POST --connect-timeout 5 -H "Authorization: Bearer $PUBLISH_TOKEN" -w ' %{http_code}' "$url/sse?topic=builds/$build$1" "${@:2}")
  [[ $answer == *202 ]] || { echo "Not published: $answer" >&2; return 1; }
}
upload() { # publishes what it reads, and waits half a minute for a push server that has gone away
  post '' -H 'Content-Type: text/plain' -T - && return
  post '' "${patiently[@]}" -d 'message=[The push server was away: lines may be missing here]' && upload
}

post '&event=start' --data-urlencode "command=${command[*]}" || exec "${command[@]}"
echo "The log is at $url/builds/?$build" >&2
trap : INT TERM # they end the command, and its log still says how it ended
exec 3>&1
"${command[@]}" 2>&1 | (trap '' INT TERM; tee /dev/fd/4 4>&1 >&3 | (upload; cat > /dev/null))
code=${PIPESTATUS[0]}
post '&event=exit&end=true' "${patiently[@]}" -d "code=$code" -d "seconds=$SECONDS"
exit "$code"
