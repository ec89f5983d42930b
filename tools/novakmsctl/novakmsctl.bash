# SPDX-License-Identifier: Apache-2.0
# Completion of novakmsctl for bash. The options come from its own --help, so that they cannot be
# behind it.

_novakmsctl_options() {
    "$1" "${@:2}" --help 2>/dev/null | sed -n 's/^  \(--[a-z-]*\).*/\1/p'
}

_novakmsctl_command() { # The command among the words before the cursor, if there is one yet.
    local i skip=no
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [ $skip = yes ]; then
            skip=no
            continue
        fi
        case ${COMP_WORDS[i]} in
        --json | --help | --version | --) ;;
        --*=*) ;;
        --*) skip=yes ;;
        *)
            echo "${COMP_WORDS[i]}"
            return
            ;;
        esac
    done
}

_novakmsctl() {
    local program=$1 word=$2 before=$3 command
    command=$(_novakmsctl_command)
    COMPREPLY=()
    case $before in
    --format | --key-format)
        mapfile -t COMPREPLY < <(compgen -W "hex base64 raw" -- "$word")
        return
        ;;
    --kdf)
        mapfile -t COMPREPLY < <(compgen -W "nova-v1 nova-v2" -- "$word")
        return
        ;;
    --durability)
        mapfile -t COMPREPLY < <(compgen -W "local one-peer quorum" -- "$word")
        return
        ;;
    --identity | --registry | --file | --out)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --dev-dir)
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        return
        ;;
    identity)
        mapfile -t COMPREPLY < <(compgen -W "new show" -- "$word")
        return
        ;;
    --server | --server-wallet | --rpc-url | --kms-app-id | --chain-id | --timeout | --ttl | --context | --length | \
        --prefix | --limit)
        return
        ;;
    esac
    if [[ $word == -* ]]; then
        # shellcheck disable=SC2086 # Empty is no word.
        mapfile -t COMPREPLY < <(compgen -W "$(_novakmsctl_options "$program" $command)" -- "$word")
    elif [ -z "$command" ]; then
        local commands="derive put get delete list whoami status nodes identity"
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
    elif [ "$command" = identity ]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}

complete -o filenames -F _novakmsctl novakmsctl
