#!/bin/sh
# Every line of a real text through examples/client and examples/server: by one
# client, then by four at once. Then bytes that are no text. Then the end: the
# server closes on SIGTERM, and its name is gone.
# shellcheck source=tests/support/words.sh
. "$NPIPE_TEST_SOURCE/tests/support/words.sh"

text_make 100000 400000
server_start
timed "one client, $lines lines" send text
same text
log_has "$lines"
timed "four clients at once, $lines lines" send_parts text 4
log_has $((2 * lines))

head -c 12000000 /dev/urandom >bytes
echo >>bytes
timed "random bytes" send bytes
same bytes

kill -TERM "$server"
wait "$server"
code=$?
server=
[ "$code" -eq 0 ] || fail "the server ended with $code after SIGTERM"
[ -s server.err ] && fail "the server complained"
(example client "$name" x) 2>/dev/null
[ $? -eq 3 ] || fail "the name is still there after the end"
echo "all came back"
