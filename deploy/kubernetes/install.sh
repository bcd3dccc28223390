#!/bin/sh
# Does what "hodei install" does, with kubectl alone: applies the manifests beside
# this script to the cluster of the current context. It has none of the other's
# choices, and deletes nothing that an older version left. Arguments go to kubectl:
#
#   ./install.sh --context prod
set -eu
cd "$(dirname "$0")"

# Who makes a namespace notes it there: "hodei uninstall" deletes no other. What is
# wrong but that it exists, the command after this one tells too.
for namespace in hodei-system hodei-jobs-workers; do
  kubectl create --field-manager=hodei "$@" -f - 2>/dev/null <<EOF || true
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  annotations:
    hodei.io/created-by: hodei
EOF
done
exec kubectl apply --server-side --field-manager=hodei -f rbac.yaml -f network-policy.yaml "$@"
