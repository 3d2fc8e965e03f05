//! Chains of nftables that forwarded packets pass (include/uapi/linux/netfilter/nf_tables.h). Those of
//! `iptables-nft`, which is most hosts' `iptables`, are among them; those of `iptables-legacy` are not.

use netlink_packet_core::{NetlinkSerializable, NlasIterator};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::addr::Family;

use super::request::{Fault, Netlink, NetlinkError};

/// A base chain of the hook `forward` that packets of IPv4, of IPv6 or of both pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardChain {
    /// As `nft` calls it: `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// What no rule decides about is dropped.
    pub drops: bool,
}

impl ForwardChain {
    /// Whether packets of a family pass it.
    pub fn is_passed_by(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.family != "ip6",
            Family::V6 => self.family != "ip",
        }
    }

    /// All of the namespace.
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, and where the kernel knows no nftables.
    pub fn list() -> Result<Vec<ForwardChain>, NetlinkError> {
        let mut netlink = Netlink::of(NETLINK_NETFILTER)?;
        netlink.dump(&GetChains, "list chains of nftables", |kind, body| {
            if kind == NEW_CHAIN {
                chain(body)
            } else {
                Ok(None)
            }
        })
    }
}

/// Of all families.
#[derive(Debug, Clone, Copy)]
struct GetChains;

impl NetlinkSerializable for GetChains {
    fn message_type(&self) -> u16 {
        GET_CHAIN
    }

    fn buffer_len(&self) -> usize {
        FAMILY_HEADER
    }

    /// Family, version and resource are all 0.
    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

/// None if it is another kind of chain.
fn chain(body: &[u8]) -> Result<Option<ForwardChain>, Fault> {
    let family = match body.first() {
        Some(&NFPROTO_IPV4) => "ip",
        Some(&NFPROTO_IPV6) => "ip6",
        Some(&NFPROTO_INET) => "inet",
        _ => return Ok(None),
    };
    let (mut table, mut name) = (String::new(), String::new());
    let (mut hook, mut policy) = (None, None);
    for attribute in NlasIterator::new(body.get(FAMILY_HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind() {
            CHAIN_TABLE => table = text(attribute.value()),
            CHAIN_NAME => name = text(attribute.value()),
            CHAIN_POLICY => policy = number(attribute.value()),
            CHAIN_HOOK => {
                for part in NlasIterator::new(attribute.value()) {
                    let part = part?;
                    if part.kind() == HOOK_NUMBER {
                        hook = number(part.value());
                    }
                }
            }
            _ => {}
        }
    }
    let drops = policy == Some(NF_DROP);
    Ok((hook == Some(NF_INET_FORWARD)).then_some(ForwardChain {
        family,
        table,
        name,
        drops,
    }))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*value.first_chunk()?))
}

/// `struct nfgenmsg`
const FAMILY_HEADER: usize = 4;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// Messages of the subsystem nftables, 10.
const NEW_CHAIN: u16 = (10 << 8) | 3;
const GET_CHAIN: u16 = (10 << 8) | 4;

// `enum nft_chain_attributes`, `enum nft_hook_attributes`.
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;

const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::host::tests::in_namespace;

    #[test]
    fn chains_of_forwarded_packets_and_their_policy() {
        in_namespace(|| {
            assert_eq!(ForwardChain::list().unwrap(), []);
            for line in [
                "iptables -P FORWARD DROP",
                "iptables -P INPUT DROP",
                "ip6tables -P FORWARD DROP",
                "iptables -t mangle -A FORWARD -j ACCEPT",
            ] {
                let status = Command::new("sh").args(["-c", line]).status().unwrap();
                assert!(status.success(), "{line}");
            }
            let chain = |family, table: &str, drops| ForwardChain {
                family,
                table: table.to_owned(),
                name: "FORWARD".to_owned(),
                drops,
            };
            let mut chains = ForwardChain::list().unwrap();
            chains.sort_by_key(|chain| (chain.table.clone(), chain.family));
            let expected = [
                chain("ip", "filter", true),
                chain("ip6", "filter", true),
                chain("ip", "mangle", false),
            ];
            assert_eq!(chains, expected);
            for (family, expected) in [(Family::V4, [true, false]), (Family::V6, [false, true])] {
                let passed = [0, 1].map(|at: usize| chains[at].is_passed_by(family));
                assert_eq!(passed, expected);
            }
        });
    }
}
