#!/bin/sh
# Plain byte pipes between npipe and Node's net module: both roles, both
# directions, binary data, and the end on both sides.
command -v node >/dev/null 2>&1 || {
  echo "skipped: there is no node"
  exit 77
}
# shellcheck source=tests/unix/plain_common.sh
. "$NPIPE_TEST_SOURCE/tests/unix/plain_common.sh"
node="node '$here/plain_peer.js'"
tool="'$tool'"

one "Node sends to our server" \
  "$tool server '$socket' receive" "$node client '$socket' send" up
one "Node receives from our server" \
  "$tool server '$socket' send" "$node client '$socket' receive" down
one "Node asks our server" \
  "$tool server '$socket' echo" "$node client '$socket' exchange" round-client
one "our server asks Node" \
  "$tool server '$socket' exchange" "$node client '$socket' echo" round-server
one "our client sends to Node" \
  "$node server '$socket' receive" "$tool client '$socket' send" up
one "our client receives from Node" \
  "$node server '$socket' send" "$tool client '$socket' receive" down
one "our client asks Node" \
  "$node server '$socket' echo" "$tool client '$socket' exchange" round-client
one "Node as a server asks our client" \
  "$node server '$socket' exchange" "$tool client '$socket' echo" round-server
finish
