#!/usr/bin/env bash
# Builds the real etcd, etcdctl, etcdutl and etcd's load generator `benchmark`, so that tests and comparisons
# can run them beside ketch, and prints the folder that holds them. Nothing of it becomes part of ketch.
#
#   tools/real-etcd.sh [VERSION]        default 3.7.1
#
# The folder is $REAL_ETCD_DIR, or ~/.cache/real-etcd/VERSION. About two minutes and a Go toolchain the first
# time; a look at the folder afterwards. Exit code 3: there is no Go toolchain.
set -euo pipefail

version=${1:-3.7.1}
target=${REAL_ETCD_DIR:-$HOME/.cache/real-etcd/$version}

complete() {
    local tool
    for tool in etcd etcdctl etcdutl; do
        [[ -x $target/$tool ]] || return 1
    done
}

if complete; then
    echo "$target"
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "real-etcd.sh: no Go toolchain found, cannot build etcd $version" >&2
    exit 3
fi

# `go install` refuses modules with replace directives, and etcd has them: a throw-away module that requires
# the four programs at one version is the way around.
module=$(mktemp -d)
trap 'rm -rf "$module"' EXIT
cd "$module"
export GOFLAGS=-mod=mod
go mod init ketch.invalid/real-etcd >&2

declare -A package=(
    [etcd]=go.etcd.io/etcd/server/v3
    [etcdctl]=go.etcd.io/etcd/etcdctl/v3
    [etcdutl]=go.etcd.io/etcd/etcdutl/v3
    [benchmark]=go.etcd.io/etcd/v3/tools/benchmark
)
for tool in etcd etcdctl etcdutl benchmark; do
    go get "${package[$tool]}@v$version" >&2
done
mkdir -p "$target"
for tool in etcd etcdctl etcdutl benchmark; do
    # Under another name first: a build that was cut short never looks complete.
    go build -trimpath -ldflags '-s -w' -o "$target/.$tool.new" "${package[$tool]}" >&2
    mv "$target/.$tool.new" "$target/$tool"
done
"$target/etcd" --version >&2
echo "$target"
