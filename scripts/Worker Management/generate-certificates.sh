#!/bin/sh
# Makes certs/ with a certificate authority, a server and a client certificate.
command -v hodei >/dev/null || { printf 'error: hodei is not in PATH\nhint: make build && PATH="$PWD/bin:$PATH" "%s"\n' "$0" >&2; exit 127; }
exec hodei certs generate "$@"
