#!/bin/sh
# Makes certs/ with a certificate authority, a server and a client certificate.
if ! command -v hodei >/dev/null; then
	printf 'error: hodei is not in PATH\nhint: make build && PATH="$PWD/bin:$PATH" "%s"\n' "$0" >&2
	exit 127
fi
exec hodei certs generate "$@"
