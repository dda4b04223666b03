# Completes invoke for syntho-deploy: invoke completion --shell=fish | source

function __syntho_invoke
    set -l before (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    # where tasks.py is another project's, what invoke itself knows
    $before[1] completion --words=(string join ' ' -- $before "$current") 2>/dev/null
    or $before[1] --complete -- $before "$current" 2>/dev/null
end
complete --command invoke --no-files --arguments '(__syntho_invoke)'
complete --command inv --no-files --arguments '(__syntho_invoke)'
