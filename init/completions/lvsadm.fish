# Completion of lvsadm for fish. Options are those of its own help.

function __lvsadm_saved
    lvsadm -Sn 2>/dev/null | string replace --regex --filter $argv[1] '$1'
end
function __lvsadm_before
    contains -- (commandline --tokenize --cut-at-cursor)[-1] $argv
end

complete --command lvsadm --no-files
complete --command lvsadm --condition 'test (count (commandline -opc)) -eq 1' --arguments 'status drain ready sysctl proc'
complete --command lvsadm --condition 'not __lvsadm_before -s -b -t -u -f -r' \
    --arguments "(lvsadm --help 2>/dev/null | string match --regex --all -- '--[a-z0-9-]+' | sort -u)"
complete --command lvsadm --condition '__lvsadm_before -s --scheduler' \
    --arguments 'rr wrr lc wlc sed nq lblc lblcr dh sh mh fo ovf twos'
complete --command lvsadm --condition '__lvsadm_before -b --sched-flags' \
    --arguments 'sh-fallback sh-port mh-fallback mh-port'
complete --command lvsadm --condition '__lvsadm_before --tun-type' --arguments 'ipip gue gre'
complete --command lvsadm --condition '__lvsadm_before --server-gone' --arguments 'keep reschedule reset auto'
complete --command lvsadm --condition '__lvsadm_before -t --tcp-service' --arguments "(__lvsadm_saved '^-A -t (\S+).*')"
complete --command lvsadm --condition '__lvsadm_before -u --udp-service' --arguments "(__lvsadm_saved '^-A -u (\S+).*')"
complete --command lvsadm --condition '__lvsadm_before -f --fwmark-service' --arguments "(__lvsadm_saved '^-A -f (\S+).*')"
complete --command lvsadm --condition '__lvsadm_before -r --real-server drain ready' \
    --arguments "(__lvsadm_saved '.* -r (\S+).*' | sort -u)"
complete --command lvsadm --condition '__lvsadm_before proc' --arguments 'ip_vs ip_vs_conn ip_vs_stats'
