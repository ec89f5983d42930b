#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# House rules that no compiler checks. Run from anywhere; prints each breach and exits 1.
# A line that ends in "TIDY-OK: reason" is exempt, and the reason is required.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
pure=(src/wire src/store src/replica src/bootstrap src/auth)

# ban REGEX WHY PATH...: code lines only; comment lines may name what is banned.
ban() {
    local re=$1 why=$2 hits paths=() path
    shift 2
    for path in "$@"; do [ ! -e "$path" ] || paths+=("$path"); done
    [ ${#paths[@]} -gt 0 ] || return 0
    hits=$(grep -rnE --include='*.[ch]' -e "$re" "${paths[@]}" |
        grep -vE 'TIDY-OK: .|^[^:]+:[0-9]+:[[:space:]]*(/\*|\*|//)' || true)
    [ -z "$hits" ] || {
        printf '%s\n    ^ %s\n' "$hits" "$why"
        bad=1
    }
}

word='(^|[^_[:alnum:].>])' # Where a call of a plain function starts.
ban "$word(strcpy|stpcpy|strcat|strncat|v?sprintf|strtok|gets|atoi|atol|atoll|s?rand|random|alloca)\(" \
    'banned function' src tools tests
ban "${word}(strncpy|strtod|strtof|scanf|sscanf|fscanf|system|popen|mktemp|tmpnam)\(" 'banned function' src tools
ban "$word(localtime|gmtime|asctime|ctime|inet_ntoa|gethostbyname|getservbyname|getpw(nam|uid)|ttyname|setenv|putenv)\(" \
    'not safe with threads' src tools
ban "$word(memcmp|bcmp)\(" 'secret_equal for secrets, span_equal for public bytes' \
    src/{auth,bootstrap,client,crypto,http,identity,net,node,registry,replica,service,store,wire}
ban '^ {16,}(if|for|while|switch|do) ' 'nesting: at most 3 levels in a function' src tools
ban 'goto ' 'AUTO and early returns replace goto' src

ban '#include [<"](uv\.h|curl/|mbedtls/(ssl|net_sockets)\.h|pthread\.h|threads\.h|sys/(socket|random|time)\.h|netinet/|poll\.h|unistd\.h|fcntl\.h)' \
    'a pure room does no I/O and starts no thread' "${pure[@]}"
ban '#include "(base/(clock|log)|crypto/random)\.h"' \
    'a pure room gets time and random bytes as arguments, and does not log' "${pure[@]}"
ban "$word(time|clock_gettime|gettimeofday|clock_mono_[mu]s|clock_unix_ms|getrandom|getentropy|random_bytes|uv_[a-z_]+|pthread_[a-z_]+)\(" \
    'a pure room gets time and random bytes as arguments' "${pure[@]}"
ban "$word(f?printf|puts|perror|LOG|LOG_LIMITED|log_line)\(" 'a pure room returns errors and does not log' "${pure[@]}"
ban "$word(f?open|socket|send|recv|getenv|abort|exit)\(" 'a pure room does no I/O' "${pure[@]}"

ban "$word(sleep|usleep|nanosleep)\(" 'wait for the event, not for time' src tests
ban "${word}(f?printf|puts|perror)\(" 'LOG in the node; only programs print' \
    src/{crypto,identity,registry,net,service,http}
ban '#include "\.\./' 'includes name the room' src tests tools

# Everything that is committed and is ours.
mapfile -t files < <(git ls-files -- ':!gen/novakms' ':!LICENSE' ':!tests/vectors' ':!tests/fuzz/corpus' \
    ':!tools/tidy.sh' | while read -r file; do [ ! -f "$file" ] || echo "$file"; done)

hits=$(grep -nIE '\b(TODO|FIXME|XXX|HACK)\b' -- "${files[@]}" | grep -vE 'TODO\(#[0-9]+\)|TIDY-OK: .' || true)
[ -z "$hits" ] || {
    printf '%s\n    ^ %s\n' "$hits" 'TODO(#issue) or nothing'
    bad=1
}

for file in "${files[@]}"; do
    case $file in
    *.c | *.h)
        [[ $(head -n 1 "$file") == '/* SPDX-License-Identifier: Apache-2.0 */' ]] || {
            echo "$file: the first line is not the SPDX line"
            bad=1
        }
        lines=$(wc -l <"$file")
        [ "$lines" -le 700 ] || {
            echo "$file: $lines lines, limit 700"
            bad=1
        }
        [[ $file != *.h ]] || grep -q '^#pragma once$' "$file" || {
            echo "$file: no #pragma once"
            bad=1
        }
        ;;
    esac
    # Text ends in a newline and has no blanks at line ends.
    if grep -Iq . "$file"; then
        ! grep -nE '[[:blank:]]+$' "$file" /dev/null || {
            echo '    ^ blanks at the end of a line'
            bad=1
        }
        [ -z "$(tail -c 1 "$file")" ] || {
            echo "$file: no newline at the end"
            bad=1
        }
    fi
done
exit $bad
