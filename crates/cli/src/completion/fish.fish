# fish completion for dhow: the program is asked what may come next
function __dhow_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    set -l out ($words[1] __complete $words[2..-1] "$last" 2>/dev/null)
    test (count $out) -gt 0; or return 1
    set -l flag (string match -r -- '^-[^=]*=' "$last")
    for line in $out[1..-2]
        printf '%s%s\n' "$flag" $line
    end
    set -l directive (string sub -s 2 -- $out[-1])
    if test (math "$directive % 8") -lt 4
        __fish_complete_path "$last"
    end
end
complete -c dhow -e
complete -c dhow -f -a '(__dhow_complete)'
