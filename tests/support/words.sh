# shellcheck shell=sh
# The main job on real input: every line of a real text through the example
# client and the example server, and what comes back compared byte for byte.
# Read by unix/test_words.sh and win/test_words.sh, not run.
#
# The text is what the machine's packages ship, in this order, until there are
# enough lines: /usr/share/common-licenses (prose, with empty lines),
# dictionaries of /usr/share/dict and /usr/share/hunspell, then the headers of
# /usr/include (code, with many empty lines).
set -u
: "${NPIPE_BUILD_DIR:?}"
examples=$NPIPE_BUILD_DIR/examples
emulator=${NPIPE_TEST_EMULATOR:-}
name=npipe-words-$$
server=
LC_ALL=C
export LC_ALL

# Not in TMPDIR, whose path is long on some systems.
dir=$(mktemp -d /tmp/npipe-test.XXXXXX) || exit 1
cd "$dir" || exit 1
# Names are files of this directory then; Windows has its own place for them.
NPIPE_DIR=$dir/pipes
export NPIPE_DIR
mkdir -m 700 "$NPIPE_DIR"

clean_up() {
  [ -n "$server" ] && kill "$server" 2>/dev/null
  cd / && rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

fail() {
  echo "FAILED: $*"
  [ -s server.err ] && cat server.err
  exit 1
}

# In place of this shell, so that $! is the program.
example() {
  program=$examples/$1
  shift
  if [ -n "$emulator" ]; then
    exec sh "$emulator" "$program.exe" "$@"
  elif [ -e "$program.exe" ]; then
    exec "$program.exe" "$@"
  else
    exec "$program" "$@"
  fi
}

# text_make LINES_MIN LINES_MAX: writes the file text.
text_make() {
  {
    for folder in common-licenses dict hunspell; do
      [ -d "/usr/share/$folder" ] &&
        find "/usr/share/$folder" -type f ! -name '*.gz' | sort
    done
    [ -d /usr/include ] && find /usr/include -type f -name '*.h' | sort
  } >files
  # Some files end without a newline; what the client prints never does.
  xargs -n 50 cat <files 2>/dev/null | head -n "$2" >text
  [ -z "$(tail -c 1 text)" ] || echo >>text
  lines=$(wc -l <text | tr -d ' ')
  if [ "$lines" -lt "$1" ]; then
    echo "skipped: this machine has only $lines lines of text to send;" \
      "the package wamerican (words) has more"
    exit 77
  fi
  echo "the text: $(wc -l <text | tr -d ' ') lines," \
    "$(grep -c '^$' text) of them empty, $(wc -c <text | tr -d ' ') bytes," \
    "the longest has $(awk '{ if (length > n) n = length } END { print n }' text)"
}

server_start() {
  : >server.log
  example server "$name" >server.log 2>server.err </dev/null &
  server=$!
  tries=0
  until grep -q '^waiting for clients of' server.log; do
    kill -0 "$server" 2>/dev/null || fail "the server has ended"
    tries=$((tries + 1))
    [ "$tries" -gt 300 ] && fail "the server does not begin"
    sleep 0.1
  done
}

# send FILE: through one client; what comes back is FILE.answers.
send() (
  example client "$name" - <"$1" >"$1.answers"
)

same() {
  cmp "$1" "$1.answers" || fail "$1: what came back is not what was sent"
}

# send_parts FILE N: as N clients at once, each with its part of the lines.
send_parts() {
  split -l "$(($(wc -l <"$1") / $2 + 1))" "$1" part.
  pids=
  for part in part.??; do
    send "$part" &
    pids="$pids $!"
  done
  for pid in $pids; do
    wait "$pid" || fail "one of $2 clients ended with $?"
  done
  for part in part.??; do same "$part"; done
  cat part.??.answers >"$1.answers"
  same "$1"
}

# seconds COMMAND...: runs it and prints how long it took, with the lines.
timed() {
  what=$1
  shift
  begin=$(date +%s)
  "$@" || fail "$what: exit code $?"
  echo "$what: $(($(date +%s) - begin)) s"
}

# The server has said one line at the beginning and one for each request.
log_has() {
  logged=$(wc -l <server.log | tr -d ' ')
  [ "$logged" -eq $(($1 + 1)) ] ||
    fail "the server printed $logged lines, not $(($1 + 1))"
}
