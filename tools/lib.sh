# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts in tools/ share; sourced by them, after `set -euo pipefail`.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# say TEXT: one progress line.
say() { printf '==> %s\n' "$*"; }

# die TEXT: one sentence to stderr, exit 1.
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# jobs_max: how many compilers or tests at once.
jobs_max() { nproc; }

# debian_release: 12, 13, or nothing on any other system.
debian_release() {
    local id='' version=''
    [ -r /etc/os-release ] && {
        # shellcheck disable=SC1091
        id=$(. /etc/os-release && echo "${ID:-}")
        # shellcheck disable=SC1091
        version=$(. /etc/os-release && echo "${VERSION_ID:-}")
    }
    [ "$id" = debian ] && case $version in 12 | 13) echo "$version" ;; esac
    return 0
}

# build_tree DIR [CMAKE OPTION...] [-- TARGET...]: configures and builds. Shows one line for every
# tenth of the work; everything is in DIR/build.log, whose end is printed on failure.
build_tree() {
    local dir=$1 options=() launcher=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    [ $# -gt 0 ] && shift
    command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
    mkdir -p "$dir"
    if ! cmake -S "$ROOT" -B "$dir" -G Ninja "${launcher[@]}" "${options[@]}" >"$dir/build.log" 2>&1; then
        tail -n 40 "$dir/build.log" >&2
        die "cmake failed; the whole log is in $dir/build.log"
    fi
    if ! ninja -C "$dir" -j "$(jobs_max)" -k "${NOVA_FAILURES_MAX:-1}" "$@" 2>&1 | tee -a "$dir/build.log" | ninja_progress; then
        grep -A 30 -m 3 -E '(error|warning): ' "$dir/build.log" >&2 || tail -n 40 "$dir/build.log" >&2
        die "the build failed; the whole log is in $dir/build.log"
    fi
}

# ninja_progress: passes on the first of ninja's lines in each tenth of the work.
ninja_progress() {
    awk '/^\[[0-9]+\/[0-9]+\]/ {
        split(substr($1, 2, length($1) - 2), at, "/")
        tenth = int(at[1] * 10 / at[2])
        if (tenth > shown || at[1] == at[2]) { print "    " $0; fflush() }
        if (tenth > shown) shown = tenth
    }'
}

# stopwatch NAME COMMAND...: runs it and leaves "NAME seconds" in the array STAGES.
STAGES=()
stopwatch() {
    local name=$1 from=$SECONDS status=0
    shift
    "$@" || status=$?
    STAGES+=("$(printf '%-28s %4d s  %s' "$name" $((SECONDS - from)) \
        "$([ $status = 0 ] && echo ok || echo FAILED)")")
    return $status
}

# program BUILD-DIRECTORY NAME: the path of a program that was built there.
program() {
    local path
    path=$(find "$1" -name "$2" -type f -executable -print -quit)
    [ -n "$path" ] || die "$2 was not built in $1"
    echo "$path"
}

# junit_counts FILE: "passed failed skipped" of a pytest report.
junit_counts() {
    /usr/bin/python3 - "$1" <<'END'
import sys
import xml.etree.ElementTree as tree

total = failed = skipped = 0
for suite in tree.parse(sys.argv[1]).getroot().iter("testsuite"):
    total += int(suite.get("tests", 0))
    failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    skipped += int(suite.get("skipped", 0))
print(max(total - failed - skipped, 0), failed, skipped)
END
}
