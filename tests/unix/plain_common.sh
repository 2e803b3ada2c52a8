# shellcheck shell=sh disable=SC2034 # the tests use what is set here
# What the tests of plain byte pipes share; read by them, not run.
#
# try NAME SERVER CLIENT: both are shell commands that name $socket; the server
# reads server.in and writes server.out, the client client.in and client.out.
set -u
: "${NPIPE_TEST_BIN:?}"
tool=$NPIPE_TEST_BIN/tool_plain
here=$NPIPE_TEST_SOURCE/tests/unix
# Not in TMPDIR, whose path is long on some systems.
dir=$(mktemp -d /tmp/npipe-test.XXXXXX) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
socket=$dir/plain.sock
failures=0
runs=0

await_socket() {
  tries=0
  while [ ! -S "$socket" ]; do
    kill -0 "$1" 2>/dev/null || return 1
    tries=$((tries + 1))
    [ "$tries" -gt 200 ] && return 1
    sleep 0.05
  done
}

# run_pair SERVER CLIENT: both must end with 0.
run_pair() {
  rm -f "$socket" server.out client.out
  sh -c "exec $1" <server.in >server.out 2>server.err &
  server=$!
  if ! await_socket "$server"; then
    echo "the server does not listen"
    kill "$server" 2>/dev/null
    wait "$server"
    return 1
  fi
  timeout 30 sh -c "exec $2" <client.in >client.out 2>client.err
  client_code=$?
  # A server whose client has gone has to end; if not, that is the failure.
  (sleep 30; kill "$server") 2>/dev/null >/dev/null &
  guard=$!
  wait "$server"
  server_code=$?
  kill "$guard" 2>/dev/null
  wait "$guard" 2>/dev/null
  [ "$client_code" -eq 0 ] && [ "$server_code" -eq 0 ] && return 0
  echo "exit codes: server $server_code, client $client_code"
  return 1
}

# one NAME SERVER CLIENT WHAT: WHAT tells where the data has to arrive.
#   up: client.in in server.out; down: server.in in client.out;
#   round-client: client.in in client.out; round-server: the same of the server
one() {
  for input in big one empty; do
    cp "$input" server.in
    cp "$input" client.in
    runs=$((runs + 1))
    if run_pair "$2" "$3" >why 2>&1; then
      case $4 in
        up | round-server) cmp "$input" server.out ;;
        down | round-client) cmp "$input" client.out ;;
      esac >why 2>&1 && continue
    fi
    failures=$((failures + 1))
    echo "FAILED: $1 ($input)"
    cat why server.err client.err
  done
  echo "$1"
}

finish() {
  echo "$runs runs, $failures failures"
  [ "$failures" -eq 0 ]
  exit
}

head -c 3000000 /dev/urandom >big
printf '\0' >one
: >empty
