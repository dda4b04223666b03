# Completes invoke for syntho-deploy: source <(invoke completion --shell=bash)

_syntho_invoke() {
    local line="${COMP_LINE:0:COMP_POINT}" found word candidate
    # where tasks.py is another project's, what invoke itself knows
    found=$("$1" completion --words="$line" 2>/dev/null) || found=$(compgen -W "$("$1" --complete -- "${COMP_WORDS[@]}" 2>/dev/null)" -- "$2")
    word="${line##* }"
    COMPREPLY=()
    while IFS= read -r candidate; do
        # bash takes a = for the end of a word, and replaces only what comes after it
        [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && candidate="${candidate#*=}"
        [[ -n $candidate ]] && COMPREPLY+=("$candidate")
    done <<< "$found"
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o default -F _syntho_invoke invoke inv
