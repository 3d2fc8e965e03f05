# Completion of lvsadm and of ipvsadm's names for bash. Options are those of its own help.

_lvsadm() {
    local program=$1 word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words
    # Addresses have colons, which are words of their own.
    [[ $before == : ]] && return
    case $before in
    -s | --scheduler) words="rr wrr lc wlc sed nq lblc lblcr dh sh mh fo ovf twos" ;;
    -b | --sched-flags) words="sh-fallback sh-port mh-fallback mh-port" ;;
    --tun-type) words="ipip gue gre" ;;
    --server-gone) words="keep reschedule reset auto" ;;
    --then) words="keep reset" ;;
    --start-daemon | --stop-daemon) words="master backup" ;;
    -t | --tcp-service) words=$("$program" -Sn 2>/dev/null | sed -n 's/^-A -t \([^ ]*\).*/\1/p') ;;
    -u | --udp-service) words=$("$program" -Sn 2>/dev/null | sed -n 's/^-A -u \([^ ]*\).*/\1/p') ;;
    -f | --fwmark-service) words=$("$program" -Sn 2>/dev/null | sed -n 's/^-A -f \([^ ]*\).*/\1/p') ;;
    -r | --real-server | drain | ready)
        words=$("$program" -Sn 2>/dev/null | sed -n 's/.* -r \([^ ]*\).*/\1/p' | sort -u)
        ;;
    proc) words="ip_vs ip_vs_conn ip_vs_stats" ;;
    sysctl) words=$("$program" sysctl 2>/dev/null | sed 's/^net.ipv4.vs.\([^ ]*\) .*/\1=/') ;;
    status) words="--json" ;;
    *)
        words=$("$program" --help 2>/dev/null | grep -oE -- '--[a-z0-9-]+' | sort -u)
        if [[ $COMP_CWORD -eq 1 && ${program##*/} == lvsadm ]]; then
            words="$words status drain ready sysctl proc"
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "$word"
    fi
}
complete -F _lvsadm lvsadm ipvsadm ipvsadm-save ipvsadm-restore
