//! What should be. Pure.

use std::fmt;
use std::net::IpAddr;

use shared::host::sysctl::Sysctl;

/// The state of a real server that direct routing asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// To be on `lo`.
    pub vips: Vec<IpAddr>,
    /// Settings with their values, to be set before the first VIP.
    pub settings: Vec<(Sysctl, &'static str)>,
}

impl Plan {
    /// VIPs on `lo`, and none of these interfaces speaks of them in ARP.
    ///
    /// The kernel takes the larger value of `all` and the interface, so `all` alone would do; the
    /// interfaces are set too, so that it still holds when somebody puts `all` back.
    pub fn direct_routing(vips: &[IpAddr], interfaces: &[String]) -> Plan {
        let mut unique: Vec<IpAddr> = Vec::new();
        for vip in vips {
            if !unique.contains(vip) {
                unique.push(*vip);
            }
        }
        let everywhere = std::iter::once("all").chain(interfaces.iter().map(String::as_str));
        let settings = everywhere
            .flat_map(|interface| {
                [
                    (
                        Sysctl::ipv4_conf(interface, "arp_ignore"),
                        ANSWER_FOR_OWN_INTERFACE,
                    ),
                    (
                        Sysctl::ipv4_conf(interface, "arp_announce"),
                        SPEAK_WITH_OWN_ADDRESS,
                    ),
                ]
            })
            .collect();
        Plan {
            vips: unique,
            settings,
        }
    }
}

/// The first label `lo:N` that nobody uses.
pub fn free_label(used: &[String]) -> String {
    (0..)
        .map(|number| format!("lo:{number}"))
        .find(|label| !used.contains(label))
        .expect("there are more numbers than labels")
}

/// A line of the status: what is, and whether it is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    text: String,
    good: bool,
}

impl Line {
    /// As it should be.
    pub fn good(text: impl Into<String>) -> Line {
        Line {
            text: text.into(),
            good: true,
        }
    }

    /// Not as it should be.
    pub fn bad(text: impl Into<String>) -> Line {
        Line {
            text: text.into(),
            good: false,
        }
    }

    /// Whether it is as it should be.
    pub fn is_good(&self) -> bool {
        self.good
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<4} {}",
            if self.good { "ok" } else { "BAD" },
            self.text
        )
    }
}

/// `arp_ignore` 1: answer only for addresses of the interface that was asked.
const ANSWER_FOR_OWN_INTERFACE: &str = "1";
/// `arp_announce` 2: never ask with an address of another interface.
const SPEAK_WITH_OWN_ADDRESS: &str = "2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_name_all_and_the_interfaces() {
        let vip: IpAddr = "192.0.2.1".parse().unwrap();
        let plan = Plan::direct_routing(&[vip, vip], &["eth0".to_owned()]);
        assert_eq!(plan.vips, [vip]);
        let paths: Vec<&str> = plan
            .settings
            .iter()
            .map(|(setting, _)| setting.path())
            .collect();
        let expected = [
            "net/ipv4/conf/all/arp_ignore",
            "net/ipv4/conf/all/arp_announce",
            "net/ipv4/conf/eth0/arp_ignore",
            "net/ipv4/conf/eth0/arp_announce",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn labels_fill_gaps() {
        let used = ["lo", "lo:0", "lo:2"].map(str::to_owned);
        assert_eq!(free_label(&used), "lo:1");
        assert_eq!(free_label(&[]), "lo:0");
    }
}
