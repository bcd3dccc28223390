# Sourced by cluster and images: where things lie, how they speak, how they fail.
# shellcheck shell=bash disable=SC2034
HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
STATE=${K8S_DIR:-/tmp/hodei-cluster/run}
CACHE=${K8S_CACHE:-/tmp/hodei-cluster/cache}
SELF=$(basename "$0")
STARTED=${EPOCHREALTIME/[.,]/}

trap 'echo "$SELF: line $LINENO failed: $BASH_COMMAND" >&2' ERR

say() { # say MESSAGE: on stderr, with the time since the start
  local tenths=$(( (${EPOCHREALTIME/[.,]/} - STARTED) / 100000 ))
  printf '[%3d.%ds] %s\n' $((tenths / 10)) $((tenths % 10)) "$*" >&2
}

die() { # die MESSAGE [LOG]: with the end of the log that tells why
  echo "$SELF: $1" >&2
  if [ -s "${2:-}" ]; then
    echo "--- the end of $2" >&2
    tail -n 25 "$2" >&2
  fi
  exit 1
}

logged() { # logged SECONDS WHAT LOG CMD...: quiet, bounded, and loud when it fails
  # --foreground: else Ctrl-C would not reach the command
  local seconds=$1 what=$2 log=$3 rc=0
  shift 3
  timeout --foreground -k 10 "$seconds" "$@" >"$log" 2>&1 </dev/null || rc=$?
  [ $rc != 124 ] || die "$what: not done after $seconds s" "$log"
  [ $rc = 0 ] || die "$what: exit status $rc" "$log"
}

packages() { # packages NAME...: installs those of Debian's packages that are missing
  "$HERE/../../tools/packages" "$@" || die "can't go on without $*"
}

lock() { # lock NAME: until this process ends or unlock; one builder at a time
  exec 9>"$CACHE/.lock-$1"
  flock -w 1800 9 || die "another process holds $CACHE/.lock-$1"
}
unlock() { exec 9>&-; }

stamp() { # stamp DIR PATH...: a name for what the files of DIR hold, and for the compiler
  (cd "$1" && shift && {
    go version
    find "$@" -type f ! -name '*_test.go' -print0 | sort -z | xargs -0 sha256sum
  }) | sha256sum | cut -c1-16
}
