#!/bin/sh
# What contract/test_examples.c cannot do on every system: signals, and an
# input that stays open.
# shellcheck source=tests/support/words.sh
. "$NPIPE_TEST_SOURCE/tests/support/words.sh"

# await WHAT COMMAND...: until the command succeeds.
await() {
  what=$1
  shift
  tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -gt 100 ] && fail "$what"
    sleep 0.1
  done
}

ended() {
  ! kill -0 "$1" 2>/dev/null
}

mkfifo input || exit 1
for signal in INT TERM; do
  server_start
  example client "$name" - <input >answers 2>client.err &
  client=$!
  exec 3>input
  echo "the first line" >&3
  await "an answer is not shown at once" grep -q "the first line" answers
  await "a request is not logged at once" grep -q "the first line" server.log

  # A shell without job control starts programs in the background with SIGINT
  # ignored; the server handles it nevertheless.
  kill -"$signal" "$server"
  wait "$server"
  code=$?
  server=
  [ "$code" -eq 0 ] || fail "the server ended with $code after SIG$signal"
  [ -s server.err ] && fail "the server complained"

  await "the client waits for its input though the server has gone" \
    ended "$client"
  wait "$client"
  code=$?
  [ "$code" -eq 1 ] || fail "the client without a server ended with $code"
  exec 3>&-
  [ -z "$(find "$NPIPE_DIR" -type s)" ] || fail "a socket is left behind"
  echo "SIG$signal: as it should be"
done

# One that was killed leaves its name; the next takes it over.
server_start
kill -KILL "$server"
wait "$server" 2>/dev/null
server_start
(example client "$name" "once more") >answers || fail "no answer"
grep -q "once more" answers || fail "another answer"
echo "SIGKILL: the name could be taken again"
