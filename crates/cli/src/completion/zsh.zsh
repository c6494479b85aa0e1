#compdef dhow
# zsh completion for dhow: the program is asked what may come next
_dhow()
{
    local out line name text directive
    local -a lines candidates
    out=$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2> /dev/null) || return 1
    lines=("${(@f)out}")
    directive=${lines[-1]#:}
    lines[-1]=()
    for line in $lines; do
        name=${line%%$'\t'*}
        text=
        [[ $line == *$'\t'* ]] && text=${line#*$'\t'}
        candidates+=("${name//:/\\:}${text:+:$text}")
    done
    [[ ${words[CURRENT]} == -*=* ]] && compset -P '*='
    if (($#candidates)); then
        if ((directive & 2)); then
            _describe dhow candidates -S ''
        else
            _describe dhow candidates
        fi
    fi
    if (((directive & 4) == 0)); then
        _files
    fi
}
if [[ $funcstack[1] == _dhow ]]; then
    _dhow "$@"
else
    compdef _dhow dhow
fi
