//! What directors are told, from what was found. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use shared::agent::{
    CheckReport, EncodeError, Key, Load, MAX_FAULT, MAX_FAULTS, MAX_VIPS, Report, State, VipReport,
    encode,
};

use crate::finding::{About, Findings};
use crate::plan::Facts;
use crate::state::Condition;

/// What was found.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    /// The VIPs that should be here, and whether they are.
    pub(crate) vips: &'a BTreeMap<IpAddr, bool>,
    /// What is beside what should be, after mending.
    pub(crate) findings: &'a Findings,
    /// What was wrong lately, and was mended.
    pub(crate) mended: &'a [String],
    /// The own checks: name, and whether the last look was well; `None`: not looked yet.
    pub(crate) checks: &'a [(String, Option<bool>)],
    /// How busy the host is.
    pub(crate) load: Load,
    /// The weight to ask for.
    pub(crate) weight: Option<u16>,
    /// What the administrator wants.
    pub(crate) condition: Condition,
}

/// Who reports, and when.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    /// The server's name.
    pub(crate) identity: String,
    /// Of this run.
    pub(crate) boot: u64,
    /// Of this report.
    pub(crate) sequence: u64,
    /// Microseconds since 1970.
    pub(crate) time: u64,
    /// To the next report, milliseconds.
    pub(crate) interval: u32,
}

/// The report.
pub(crate) fn compose(sender: Sender, observed: &Observed<'_>) -> Report {
    let arp = |finding: &&crate::finding::Finding| finding.about == About::Arp;
    let others_wrong = observed
        .findings
        .all_wrong()
        .any(|finding| finding.about == About::Host);
    let checks_pass = observed.checks.iter().all(|(_, ok)| *ok == Some(true));
    let wrong = observed
        .findings
        .all_wrong()
        .map(|finding| finding.text.as_str());
    let faults = wrong.chain(observed.mended.iter().map(String::as_str));
    let mut vips: Vec<VipReport> = observed
        .vips
        .iter()
        .map(|(&address, &present)| VipReport { address, present })
        .collect();
    // If some must be left out, then of those that are there.
    vips.sort_by_key(|vip| vip.present);
    vips.truncate(MAX_VIPS);
    Report {
        identity: sender.identity,
        boot: sender.boot,
        sequence: sender.sequence,
        time: sender.time,
        interval: sender.interval,
        state: match observed.condition {
            Condition::Ready => State::Ready,
            Condition::Drain => State::Drain,
            Condition::Maintenance => State::Maintenance,
        },
        weight: observed.weight,
        healthy: checks_pass && !others_wrong,
        arp_suppressed: !observed.findings.all_wrong().any(|finding| arp(&finding)),
        vips,
        checks: observed
            .checks
            .iter()
            .map(|(name, ok)| CheckReport {
                name: name.clone(),
                ok: *ok == Some(true),
            })
            .collect(),
        load: observed.load,
        faults: faults.take(MAX_FAULTS).map(fault).collect(),
    }
}

/// The datagram. With very many names not everything has room: texts for people go first, then checks that
/// pass, then VIPs that are there.
///
/// # Errors
/// It is too long all the same, or against the limits.
pub(crate) fn datagram(mut report: Report, key: Option<&Key>) -> Result<Vec<u8>, EncodeError> {
    loop {
        match encode(&report, key) {
            Err(EncodeError::TooLong(_)) if report.faults.pop().is_some() => {}
            Err(EncodeError::TooLong(_)) if drop_last(&mut report.checks, |check| check.ok) => {}
            Err(EncodeError::TooLong(_)) if drop_last(&mut report.vips, |vip| vip.present) => {}
            outcome => return outcome,
        }
    }
}

/// Where the VIPs are that should be on `lo`.
pub(crate) fn presence(
    vips: impl IntoIterator<Item = IpAddr>,
    facts: &Facts,
) -> BTreeMap<IpAddr, bool> {
    let is_lo = |index: u32| {
        let mut links = facts.links.iter();
        links.any(|link| link.index == index && link.loopback && link.up)
    };
    let present = |vip: IpAddr| {
        let mut addresses = facts.addresses.iter();
        addresses.any(|known| known.prefix.address == vip && is_lo(known.link))
    };
    vips.into_iter().map(|vip| (vip, present(vip))).collect()
}

/// Whether one that can be left out was.
fn drop_last<T>(all: &mut Vec<T>, can_go: impl Fn(&T) -> bool) -> bool {
    match all.iter().rposition(can_go) {
        Some(place) => {
            all.remove(place);
            true
        }
        None => false,
    }
}

/// A text as a fault: one line, and not too long. Paths of settings begin alike.
fn fault(text: &str) -> String {
    let mut text: String = text
        .trim_start_matches("net/ipv4/conf/")
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let mut end = MAX_FAULT.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{address, facts, ip};
    use shared::agent::{MAX_DATAGRAM, decode};

    fn sender() -> Sender {
        Sender {
            identity: "web1".to_owned(),
            boot: 7,
            sequence: 3,
            time: 1_000_000,
            interval: 1000,
        }
    }

    fn report(findings: &Findings, checks: &[(String, Option<bool>)], mended: &[String]) -> Report {
        let vips = [("10.1.0.100", true), ("fd00::1", false)];
        let vips = vips.map(|(vip, present)| (ip(vip), present)).into();
        let observed = Observed {
            vips: &vips,
            findings,
            mended,
            checks,
            load: Load::default(),
            weight: Some(50),
            condition: Condition::Drain,
        };
        compose(sender(), &observed)
    }

    #[test]
    fn a_report_says_what_was_found() {
        let mut findings = Findings::default();
        let good = report(&findings, &[], &[]);
        assert!(good.healthy && good.arp_suppressed);
        assert_eq!(
            (good.state, good.weight, good.sequence),
            (State::Drain, Some(50), 3)
        );
        let absent = VipReport {
            address: ip("fd00::1"),
            present: false,
        };
        assert_eq!(good.vips[0], absent, "what is not there comes first");
        assert_eq!(good.faults, Vec::<String>::new());

        findings.wrong(About::Arp, "net/ipv4/conf/all/arp_ignore: 0, should be 1");
        let mended = ["10.1.0.100/32 on lo: absent".to_owned()];
        let bad = report(&findings, &[], &mended);
        assert!(bad.healthy && !bad.arp_suppressed);
        let expected = [
            "all/arp_ignore: 0, should be 1",
            "10.1.0.100/32 on lo: absent",
        ];
        assert_eq!(bad.faults, expected);

        findings.wrong(
            About::Host,
            "tunnels\u{7}: none".to_owned() + &"\u{e9}".repeat(50),
        );
        let worse = report(&findings, &[], &mended);
        assert!(!worse.healthy);
        assert!(worse.faults[1].starts_with("tunnels : none\u{e9}"));
        assert_eq!(worse.faults[1].len(), 64);
    }

    #[test]
    fn checks_decide_about_health_once_they_have_looked() {
        let findings = Findings::default();
        let healthy = |checks: &[Option<bool>]| {
            let checks: Vec<_> = checks.iter().map(|ok| ("c".to_owned(), *ok)).collect();
            report(&findings, &checks, &[]).healthy
        };
        assert!(healthy(&[Some(true), Some(true)]));
        assert!(!healthy(&[Some(true), None]));
        assert!(!healthy(&[Some(false), Some(true)]));
    }

    #[test]
    fn what_is_well_gives_way_in_a_datagram() {
        let mut report = report(&Findings::default(), &[], &[]);
        report.faults = vec!["f".repeat(64); 4];
        let check = |number: u8, ok| CheckReport {
            name: format!("{number:032}"),
            ok,
        };
        report.checks = (0..16).map(|number| check(number, number != 9)).collect();
        let vip = |number: u16| VipReport {
            address: format!("fd00::{number:x}").parse().unwrap(),
            present: number != 5,
        };
        report.vips = (0..32).map(vip).collect();
        let bytes = datagram(report, None).unwrap();
        assert!(bytes.len() <= MAX_DATAGRAM);
        let sent = decode(&bytes, None).unwrap();
        assert_eq!(sent.faults, Vec::<String>::new());
        assert!(sent.checks.contains(&check(9, false)));
        assert!(sent.vips.contains(&vip(5)));
    }

    #[test]
    fn a_vip_is_there_on_lo_alone() {
        let mut facts = facts();
        facts.addresses.push(address(1, "10.1.0.100/32", None, 76));
        facts.addresses.push(address(2, "10.1.0.101/32", None, 0));
        let vips = ["10.1.0.100", "10.1.0.101", "10.1.0.102"].map(ip);
        let there: Vec<bool> = presence(vips, &facts).into_values().collect();
        assert_eq!(there, [true, false, false]);
        facts.links[0].up = false;
        assert!(!presence([vips[0]], &facts)[&vips[0]]);
    }
}
