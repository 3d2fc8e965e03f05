#compdef lvsadm ipvsadm ipvsadm-save ipvsadm-restore
# Completion of lvsadm and of ipvsadm's names for zsh. Options are those of its own help.

local program=$words[1] before=$words[CURRENT-1]
local -a found
case $before in
-s | --scheduler) found=(rr wrr lc wlc sed nq lblc lblcr dh sh mh fo ovf twos) ;;
-b | --sched-flags) found=(sh-fallback sh-port mh-fallback mh-port) ;;
--tun-type) found=(ipip gue gre) ;;
--server-gone) found=(keep reschedule reset auto) ;;
--then) found=(keep reset) ;;
--start-daemon | --stop-daemon) found=(master backup) ;;
-t | --tcp-service) found=(${(f)"$($program -Sn 2>/dev/null | sed -n 's/^-A -t \([^ ]*\).*/\1/p')"}) ;;
-u | --udp-service) found=(${(f)"$($program -Sn 2>/dev/null | sed -n 's/^-A -u \([^ ]*\).*/\1/p')"}) ;;
-f | --fwmark-service) found=(${(f)"$($program -Sn 2>/dev/null | sed -n 's/^-A -f \([^ ]*\).*/\1/p')"}) ;;
-r | --real-server | drain | ready)
    found=(${(fu)"$($program -Sn 2>/dev/null | sed -n 's/.* -r \([^ ]*\).*/\1/p')"})
    ;;
proc) found=(ip_vs ip_vs_conn ip_vs_stats) ;;
sysctl) found=(${(f)"$($program sysctl 2>/dev/null | sed 's/^net.ipv4.vs.\([^ ]*\) .*/\1=/')"}) ;;
status) found=(--json) ;;
*)
    found=(${(fu)"$($program --help 2>/dev/null | grep -oE -- '--[a-z0-9-]+')"})
    [[ $CURRENT -eq 2 && ${program:t} == lvsadm ]] && found+=(status drain ready sysctl proc)
    ;;
esac
compadd -a found
