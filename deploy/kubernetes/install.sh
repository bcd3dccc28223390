#!/bin/sh
# Does what "hodei install" does, with kubectl alone: applies the manifests beside
# this script to the cluster of the current context. It has none of the other's
# choices, deletes nothing that an older version left, and does not look whether
# anybody's Pods meet what it enforces. Arguments go to kubectl; besides those that
# choose a cluster there are --force-conflicts, and --dry-run=server, which can't
# check what is in a namespace that does not exist yet, and then ends with 1:
#
#   ./install.sh --context prod
set -eu
cd "$(dirname "$0")"

# What only apply knows is kept from the other commands, which would refuse it.
dry='' force=''
for argument; do
  shift
  case $argument in
  --dry-run=*) dry=$argument ;;
  --force-conflicts | --force-conflicts=*) force=$argument ;;
  *) set -- "$@" "$argument" ;;
  esac
done

# Who makes a namespace notes it there: "hodei uninstall" deletes no other.
for namespace in hodei-system hodei-jobs-workers; do
  found=$(kubectl get namespace "$namespace" --ignore-not-found --output=name "$@")
  if [ -z "$found" ]; then
    kubectl create --field-manager=hodei "$@" ${dry:+"$dry"} -f - <<EOF
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  annotations:
    hodei.io/created-by: hodei
EOF
  fi
done
exec kubectl apply --server-side --field-manager=hodei "$@" ${dry:+"$dry"} ${force:+"$force"} -f rbac.yaml -f network-policy.yaml
