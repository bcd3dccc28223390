#!/bin/sh
# Makes certs/ with a certificate authority, a server and a client certificate.
exec hodei certs generate "$@"
