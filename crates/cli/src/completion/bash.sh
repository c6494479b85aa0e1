# bash completion for dhow: the program is asked what may come next
_dhow()
{
    local line=${COMP_LINE:0:COMP_POINT} words=() word cut out directive candidate
    # Readline breaks words at : and =, which are parts of names here.
    read -r -a words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]} - 1]}
    out=$("${words[0]}" __completeNoDesc "${words[@]:1}" 2> /dev/null) || return 0
    directive=${out##*:}
    out=${out%:*}
    [[ $word == -*=* ]] && word=${word#*=}
    cut=${word%"${word##*:}"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ -n $candidate && $candidate == "$word"* ]] && COMPREPLY+=("${candidate#"$cut"}")
    done <<< "$out"
    if ((directive & 2)) || [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:] ]]; then
        compopt -o nospace 2> /dev/null
    fi
    if (((directive & 4) == 0)); then
        compopt -o default 2> /dev/null
    fi
    return 0
}
complete -F _dhow dhow
