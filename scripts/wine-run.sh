#!/bin/sh
# Runs a Windows program under Wine, in a Wine prefix of our own. CTest uses it
# as the emulator of the preset mingw.
#
#   sh scripts/wine-run.sh PROGRAM.exe [ARGUMENT...]
#   sh scripts/wine-run.sh --stop      ends the Wine of this prefix
#
# The prefix is build/wine, or $NPIPE_WINEPREFIX.
#
# The trap that this is for: the first Wine program starts Wine's services, and
# they inherit its output. CTest reads a test's output to the end, and that end
# does not come before the services stop, seconds later. So first a program that
# does nothing is run with harmless handles; the services are its children then.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
WINEPREFIX=${NPIPE_WINEPREFIX:-$root/build/wine}
: "${WINEDEBUG:=-all}"
# Nobody needs .NET, HTML or menu entries here, and Wine would ask for them.
WINEDLLOVERRIDES='mscoree,mshtml=;winemenubuilder.exe='
unset DISPLAY WAYLAND_DISPLAY
export WINEPREFIX WINEDEBUG WINEDLLOVERRIDES

ready=$WINEPREFIX/.npipe-ready
lock=$WINEPREFIX.lock
locked=

unlock() {
  if [ -n "$locked" ]; then
    rm -rf "$lock"
    locked=
  fi
}

# Is the holder of the lock gone? It may not have written its number yet.
lock_is_stale() {
  holder=$(cat "$lock/pid" 2>/dev/null) || return 1
  [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null
}

take_lock() {
  waited_s=0
  until mkdir "$lock" 2>/dev/null; do
    if lock_is_stale || [ "$waited_s" -ge 120 ]; then
      rm -rf "$lock"
      continue
    fi
    sleep 1
    waited_s=$((waited_s + 1))
  done
  locked=1
  echo $$ >"$lock/pid"
}

make_prefix() {
  mkdir -p "$(dirname "$WINEPREFIX")"
  trap unlock EXIT
  trap 'exit 1' HUP INT TERM
  take_lock
  if [ ! -e "$ready" ]; then
    # Half a prefix is no use; but one that was given to us is not ours.
    [ -n "${NPIPE_WINEPREFIX:-}" ] || rm -rf "$WINEPREFIX"
    mkdir -p "$WINEPREFIX"
    if ! wine wineboot --init >"$WINEPREFIX.log" 2>&1 </dev/null; then
      cat "$WINEPREFIX.log" >&2
      echo "wine-run: no Wine prefix could be made in $WINEPREFIX" >&2
      exit 1
    fi
    : >"$ready"
  fi
  unlock
  trap - EXIT HUP INT TERM
}

case ${1:-} in
  '')
    echo "usage: sh scripts/wine-run.sh PROGRAM.exe [ARGUMENT...] | --stop" >&2
    exit 2
    ;;
  --stop)
    if [ -e "$ready" ]; then
      wineserver -k >/dev/null 2>&1 || true
    fi
    exit 0
    ;;
esac

if ! command -v wine >/dev/null 2>&1; then
  echo "wine-run: wine is not installed" >&2
  exit 1
fi
[ -e "$ready" ] || make_prefix
wine cmd /c exit >/dev/null 2>&1 </dev/null || true
exec wine "$@"
