//! What is, and what should be: one line each. Pure.

use std::fmt;
use std::net::IpAddr;

/// What was found in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whom it concerns.
    pub(crate) about: About,
    /// The thing, and how it is.
    pub(crate) text: String,
    /// How good that is.
    pub(crate) verdict: Verdict,
}

/// Whom a finding concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// Whether the host keeps silent about VIPs in ARP.
    Arp,
    /// One VIP.
    Vip(IpAddr),
    /// What else serving needs.
    Host,
}

/// How good a finding is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should be.
    Right,
    /// Worth knowing.
    Note,
    /// Not as it should be; what mends it, if the text does not say so itself.
    Wrong(Option<String>),
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Finding {
    /// Whether it is not as it should be.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self.verdict, Verdict::Wrong(_))
    }
}

impl Findings {
    /// One line: what is, and, if that is not right, what should be and what mends it.
    pub(crate) fn line(
        &mut self,
        about: About,
        (what, is): (&str, &str),
        should_be: Result<(), &str>,
        cure: impl FnOnce() -> String,
    ) {
        let (text, verdict) = match should_be {
            Ok(()) => (format!("{what}: {is}"), Verdict::Right),
            Err(other) => (
                format!("{what}: {is}, should be {other}"),
                Verdict::Wrong(Some(cure())),
            ),
        };
        self.0.push(Finding {
            about,
            text,
            verdict,
        });
    }

    /// One line that says by itself what is wrong and what mends it.
    pub(crate) fn wrong(&mut self, about: About, text: impl fmt::Display) {
        self.0.push(Finding {
            about,
            text: text.to_string(),
            verdict: Verdict::Wrong(None),
        });
    }

    /// One line that is worth knowing.
    pub(crate) fn note(&mut self, text: impl fmt::Display) {
        self.0.push(Finding {
            about: About::Host,
            text: text.to_string(),
            verdict: Verdict::Note,
        });
    }

    /// All that is not as it should be.
    pub(crate) fn all_wrong(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(|finding| finding.is_wrong())
    }

    /// Whether all is as it should be.
    pub(crate) fn are_right(&self) -> bool {
        self.all_wrong().next().is_none()
    }

    /// For `status`: `ok` or `wrong` and what is.
    pub(crate) fn status(&self) -> String {
        self.lines(|finding| match finding.verdict {
            Verdict::Wrong(_) => format!("wrong  {}\n", finding.text),
            _ => format!("ok     {}\n", finding.text),
        })
    }

    /// For `check`: also what mends it.
    pub(crate) fn diagnosis(&self) -> String {
        self.lines(|Finding { text, verdict, .. }| match verdict {
            Verdict::Right => format!("ok     {text}\n"),
            Verdict::Note => format!("note   {text}\n"),
            Verdict::Wrong(None) => format!("WRONG  {text}\n"),
            Verdict::Wrong(Some(cure)) => format!("WRONG  {text}: {cure}\n"),
        })
    }

    fn lines(&self, line: impl Fn(&Finding) -> String) -> String {
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line() {
        let mut findings = Findings::default();
        findings.line(About::Host, ("lo", "up"), Ok(()), || unreachable!());
        assert!(findings.are_right());
        findings.note("a word");
        assert!(findings.are_right());
        let cure = || "ip link set dev lo up".to_owned();
        findings.line(About::Host, ("lo", "down"), Err("up"), cure);
        findings.wrong(About::Arp, "an address is elsewhere: remove it");
        assert!(!findings.are_right());
        assert_eq!(
            findings.status(),
            "ok     lo: up\nok     a word\nwrong  lo: down, should be up\n\
             wrong  an address is elsewhere: remove it\n"
        );
        assert_eq!(
            findings.diagnosis(),
            "ok     lo: up\nnote   a word\nWRONG  lo: down, should be up: ip link set dev lo up\n\
             WRONG  an address is elsewhere: remove it\n"
        );
    }
}
