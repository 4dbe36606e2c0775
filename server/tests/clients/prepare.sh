#!/usr/bin/env bash
# Builds the program of one language and prints how to run it, a word a line: see README.md. Exit code 3: something is missing here.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD language=$1
target=${KETCH_CLIENTS_DIR:-$HOME/.cache/ketch-clients}/$language

needs() {
    command -v "$1" >/dev/null || { echo "no $1 here" >&2; exit 3; }
}

fetched() {
    "$@" >&2 || { echo "packages cannot be fetched: $*" >&2; exit 3; }
}

# Does the slow part once for each state of the named files.
once() {
    local files=$1 stamp
    shift
    stamp=$(cat $files | sha256sum)
    [[ -f $target/stamp && $(<"$target/stamp") == "$stamp" ]] && return
    rm -rf "$target"
    mkdir -p "$target"
    "$@" >&2
    echo "$stamp" >"$target/stamp"
}

go_program() {
    needs go
    fetched go -C go mod download
    go build -C go -o "$target/client" . >&2
    echo "$target/client"
}

python_packages() {
    python3 -m venv "$target"
    fetched "$target/bin/pip" install --quiet --disable-pip-version-check -r python/requirements.txt
}

python_program() {
    needs python3
    once python/requirements.txt python_packages
    printf '%s\n' "$target/bin/python" "$here/python/main.py"
}

rust_program() {
    needs cargo
    needs protoc
    fetched cargo fetch --quiet --locked --manifest-path rust/Cargo.toml
    cargo build --quiet --locked --manifest-path rust/Cargo.toml --target-dir "$target" >&2
    echo "$target/debug/client"
}

node_packages() {
    cp node/package.json node/package-lock.json "$target"
    fetched npm ci --prefix "$target" --no-audit --no-fund
}

node_program() {
    needs node
    needs npm
    once "node/package.json node/package-lock.json" node_packages
    cp node/main.js "$target"
    printf '%s\n' node "$target/main.js"
}

java_packages() {
    fetched mvn --batch-mode --quiet -f java/pom.xml dependency:copy-dependencies "-DoutputDirectory=$target/lib"
    javac -cp "$target/lib/*" -d "$target/classes" java/Main.java
}

java_program() {
    needs javac
    needs mvn
    once "java/pom.xml java/Main.java" java_packages
    printf '%s\n' java -cp "$target/classes:$target/lib/*" Main
}

"${language}_program"
