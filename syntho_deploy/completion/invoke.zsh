# Completes invoke for syntho-deploy, after compinit: source <(invoke completion --shell=zsh)

_syntho_invoke() {
    local -a found
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    # where tasks.py is another project's, what invoke itself knows
    found=(${(f)"$($words[1] completion --words="$line" 2>/dev/null)"}) || found=(${(f)"$($words[1] --complete -- $words 2>/dev/null)"})
    (( $#found )) || { _files; return }
    compadd -S '' -- ${(M)found:#*=}
    compadd -- ${found:#*=}
}
compdef _syntho_invoke invoke inv
