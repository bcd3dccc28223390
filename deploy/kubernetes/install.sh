#!/bin/sh
# Does what "hodei install" does, with kubectl alone: applies the manifests beside
# this script to the cluster of the current context. It has none of the other's
# choices, and deletes nothing that an older version left. Arguments go to kubectl:
#
#   ./install.sh --context prod --dry-run=server
set -eu
cd "$(dirname "$0")"
exec kubectl apply --server-side --field-manager=hodei -f rbac.yaml -f network-policy.yaml "$@"
