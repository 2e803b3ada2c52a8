#!/bin/sh
# The same as unix/test_words.sh with the Windows programs, under Wine or on
# Windows, with fewer lines: under Wine each costs some calls of its server.
# shellcheck source=tests/support/words.sh
. "$NPIPE_TEST_SOURCE/tests/support/words.sh"

text_make 50000 100000
server_start
timed "one client, $lines lines" send text
same text
log_has "$lines"
timed "four clients at once, $lines lines" send_parts text 4
log_has $((2 * lines))

head -c 200000 /dev/urandom >bytes
echo >>bytes
timed "random bytes" send bytes
same bytes
[ -s server.err ] && fail "the server complained"

kill "$server"
wait "$server" 2>/dev/null
server=
(example client "$name" x) 2>/dev/null
[ $? -eq 3 ] || fail "the name is still there after the end"
echo "all came back"
