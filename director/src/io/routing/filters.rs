//! Who keeps marked packets from getting here.

use shared::addr::Family;
use shared::host::netlink::ForwardChain;
use tracing::warn;

/// What netfilter drops on its way into the device never gets here. Where the kernel knows no nftables,
/// there is nothing to say.
pub(super) fn warn_of_them(of: Family, device: &str) {
    for chain in ForwardChain::list().unwrap_or_default() {
        if chain.drops && chain.is_passed_by(of) {
            warn!("{}", lost(&chain, device));
        }
    }
}

/// What is wrong with a chain that drops, and how to mend it.
fn lost(chain: &ForwardChain, device: &str) -> String {
    let ForwardChain {
        family,
        table,
        name,
        ..
    } = chain;
    let cure = match (*family, &table[..], &name[..]) {
        ("ip", "filter", "FORWARD") => format!("iptables -I FORWARD -o {device} -j ACCEPT"),
        ("ip6", "filter", "FORWARD") => format!("ip6tables -I FORWARD -o {device} -j ACCEPT"),
        _ => format!("nft insert rule {family} {table} {name} oifname {device} accept"),
    };
    format!(
        "chain {name} of table {table} has the policy DROP: marked packets get to the director only if a \
         rule of it accepts them; {cure}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_filters_is_told_how_to_let_marked_packets_through() {
        for (family, table, name, cure) in [
            (
                "ip",
                "filter",
                "FORWARD",
                "; iptables -I FORWARD -o lvs0 -j ACCEPT",
            ),
            (
                "ip6",
                "filter",
                "FORWARD",
                "; ip6tables -I FORWARD -o lvs0 -j ACCEPT",
            ),
            (
                "inet",
                "wall",
                "fwd",
                "; nft insert rule inet wall fwd oifname lvs0 accept",
            ),
        ] {
            let chain = ForwardChain {
                family,
                table: table.to_owned(),
                name: name.to_owned(),
                drops: true,
            };
            let said = lost(&chain, "lvs0");
            assert!(said.contains(name) && said.contains(table), "{said}");
            assert!(said.ends_with(cure), "{said}");
        }
    }
}
