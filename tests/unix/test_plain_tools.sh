#!/bin/sh
# Plain byte pipes between npipe and what every administrator has: socat, and
# the nc that knows -U. Both roles, both directions, binary data, and the end
# on both sides. The strangers close only their sending side when their input
# ends and then wait for answers: what was written before is answered.
have_socat=no
have_nc=no
command -v socat >/dev/null 2>&1 && have_socat=yes
command -v nc >/dev/null 2>&1 && nc -h 2>&1 | grep -q -e '-[A-Za-z]*U' &&
  nc -h 2>&1 | grep -q -e '-[A-Za-z]*N' && have_nc=yes
if [ "$have_socat$have_nc" = nono ]; then
  echo "skipped: there is neither socat nor an nc with -U and -N"
  exit 77
fi
# shellcheck source=tests/unix/plain_common.sh
. "$NPIPE_TEST_SOURCE/tests/unix/plain_common.sh"
tool="'$tool'"

if [ "$have_socat" = yes ]; then
  connect="UNIX-CONNECT:'$socket'"
  listen="UNIX-LISTEN:'$socket'"
  one "socat sends to our server" \
    "$tool server '$socket' receive" "socat -u STDIN $connect" up
  one "socat receives from our server" \
    "$tool server '$socket' send" "socat -u $connect STDOUT" down
  one "socat asks our server" \
    "$tool server '$socket' echo" "socat -t 20 STDIO $connect" round-client
  one "our server asks socat" \
    "$tool server '$socket' exchange" "socat $connect EXEC:cat" round-server
  one "our client sends to socat" \
    "socat -u $listen STDOUT" "$tool client '$socket' send" up
  one "our client receives from socat" \
    "socat -u STDIN $listen" "$tool client '$socket' receive" down
  one "our client asks socat" \
    "socat $listen EXEC:cat" "$tool client '$socket' exchange" round-client
else
  echo "left out: there is no socat"
fi

if [ "$have_nc" = yes ]; then
  one "nc sends to our server" \
    "$tool server '$socket' receive" "nc -N -U '$socket'" up
  one "nc receives from our server" \
    "$tool server '$socket' send" "nc -d -U '$socket'" down
  one "nc asks our server" \
    "$tool server '$socket' echo" "nc -N -U '$socket'" round-client
  one "our client sends to nc" \
    "nc -d -l -U '$socket'" "$tool client '$socket' send" up
  one "our client receives from nc" \
    "nc -N -l -U '$socket'" "$tool client '$socket' receive" down
else
  echo "left out: there is no nc with -U and -N"
fi
finish
