#!/bin/sh
# Shows npipe at work: installs what is missing, builds, starts the example
# server, sends it messages with the example client and prints what both said.
set -eu

cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)"
programs=build/linux/examples
work=
server=

clean_up() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  [ -z "$work" ] || rm -rf "$work"
}

fail() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

quietly() { # command; its output is shown only if it fails
  if ! "$@" >"$work/log" 2>&1; then
    cat "$work/log" >&2
    fail "this failed: $*"
  fi
}

# The server has said its first line, so its name exists.
await_server() {
  tries=100
  while [ ! -s "$work/server.txt" ]; do
    kill -0 "$server" 2>/dev/null || return 1
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 1
    sleep 0.1
  done
}

client() { # arguments
  printf '$ client'
  printf " '%s'" "$@"
  printf '\n'
  "$programs/client" "$@"
}

sh scripts/setup.sh demo

# A folder of its own for the pipe, so that no other server is in the way. Not
# in TMPDIR, whose path is long on macOS.
work=$(mktemp -d /tmp/npipe-demo.XXXXXX)
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
NPIPE_DIR=$work/pipes
mkdir -m 700 "$NPIPE_DIR"
export NPIPE_DIR

quietly cmake --preset linux
quietly cmake --build --preset linux --target example_server example_client

"$programs/server" mynamedpipe >"$work/server.txt" 2>&1 </dev/null &
server=$!
await_server || {
  cat "$work/server.txt" >&2
  fail "the server did not start"
}

client mynamedpipe 'Hello, pipe!' || fail "the client failed"
client '\\.\pipe\mynamedpipe' 'The same pipe by its Windows name.' ||
  fail "the client failed"

kill "$server"
status=0
wait "$server" || status=$?
server=
printf '$ server mynamedpipe\n'
cat "$work/server.txt"
# 143: ended by our signal. 0: it took the signal as a wish to end.
[ "$status" -eq 0 ] || [ "$status" -eq 143 ] ||
  fail "the server ended with $status"
