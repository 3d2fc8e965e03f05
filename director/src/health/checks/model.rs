//! What a check is: keepalived's kinds of checkers and their settings, in its words where there are any.

use std::cmp::Ordering;
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use crate::core::operation::ServerKey;

/// A check as it is configured, for any server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    /// What is asked.
    pub kind: Arc<Kind>,
    /// keepalived's `connect_ip`: in place of the server's own address.
    pub address: Option<IpAddr>,
    /// keepalived's `connect_port`: in place of the server's own port.
    pub port: Option<u16>,
    /// keepalived's `bindto`: where it is asked from.
    pub bind: Option<IpAddr>,
    /// When it is asked.
    pub timing: Timing,
}

impl Check {
    /// Whether it is by TLS.
    pub fn is_secure(&self) -> bool {
        matches!(&*self.kind, Kind::Http(Http { tls: Some(_), .. }))
    }
}

/// When a check is made, and what its outcomes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timing {
    /// keepalived's `delay_loop`: from the end of one check to the next.
    pub interval: Duration,
    /// keepalived's `connect_timeout`, but for the whole check: so long until it has failed.
    pub timeout: Duration,
    /// So many more failures after the first one make a server down.
    pub retry: u32,
    /// Before each of these.
    pub delay_before_retry: Duration,
    /// Before the first check, at most: it is chosen at random, so that not all are made at once.
    pub warmup: Duration,
    /// Whether servers are down until the first success, and not up until failures.
    pub alpha: bool,
}

/// What is asked, and what is a good answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A connection is made.
    Tcp,
    /// Pages are asked for, perhaps by TLS.
    Http(Http),
    /// A datagram is sent.
    Udp(Udp),
    /// A name is asked for.
    Dns(Dns),
    /// A mail server greets, and is greeted by this name.
    Smtp {
        /// After `HELO`.
        helo: String,
    },
    /// An ICMP echo request is sent.
    Ping,
    /// A program is run.
    Script(Script),
}

/// keepalived's `HTTP_GET` and `SSL_GET`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Http {
    /// One after another, each time one. Never empty.
    pub urls: Vec<Url>,
    /// What the request says.
    pub version: HttpVersion,
    /// https.
    pub tls: Option<Tls>,
}

/// A version of HTTP (keepalived's `http_protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpVersion {
    /// The default: the server closes after its answer.
    V1_0,
    /// With `Connection: close`.
    V1_1,
}

/// A page, and what it must be like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// Begins with `/`.
    pub path: String,
    /// keepalived's `virtualhost`; without it the address is what the request names.
    pub host: Option<String>,
    /// Status codes that will do; none is any of them.
    pub status: Vec<StatusRange>,
    /// MD5 of the body.
    pub digest: Option<Digest<16>>,
    /// SHA-256 of the body.
    pub sha256: Option<Digest<32>>,
    /// What the body must match.
    pub regex: Option<Pattern>,
    /// Or must not match.
    pub regex_no_match: bool,
}

/// Status codes from the first to the second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusRange(pub u16, pub u16);

impl Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusRange(first, last) if first == last => write!(f, "{first}"),
            StatusRange(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// The sum of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest<const BYTES: usize>(pub [u8; BYTES]);

impl<const BYTES: usize> Digest<BYTES> {
    /// From hexadecimal digits, two of each byte.
    pub fn parse(text: &str) -> Option<Digest<BYTES>> {
        let bytes = hex(text)?;
        bytes.try_into().ok().map(Digest)
    }
}

impl<const BYTES: usize> Display for Digest<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A regular expression over bytes. Two are the same if they are written alike.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let compiled = RegexBuilder::new(text).size_limit(MOST_PATTERN).build();
        // The last line says what is wrong, those before show where.
        compiled.map(Pattern).map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        })
    }

    /// Whether it is found in the text.
    pub fn is_found(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }
}

impl Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Pattern) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Pattern) -> Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

/// How a server's certificate is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tls {
    /// Who vouches for certificates.
    pub trust: Trust,
    /// The name that is asked for and that the certificate is for, in place of the URL's host.
    pub sni: Option<String>,
}

/// Who vouches for certificates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Nobody has to: any certificate will do, as in keepalived.
    Anybody,
    /// The authorities that the host trusts.
    Host,
    /// Those of a file.
    File(PathBuf),
}

/// keepalived's `UDP_CHECK`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Udp {
    /// What is sent; random bytes if it is none.
    pub payload: Option<Vec<u8>>,
    /// What must come back; without it all is well unless the datagram is refused.
    pub reply: Option<Reply>,
}

/// A reply that is required.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reply {
    /// What it begins with; nothing is anything.
    pub pattern: Vec<Nibbles>,
    /// Bytes, at least.
    pub least: u32,
    /// Bytes, at most.
    pub most: u32,
}

/// A byte of a reply: what it must be where the mask has bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nibbles {
    /// The bits.
    pub value: u8,
    /// Those that count.
    pub mask: u8,
}

impl Nibbles {
    /// From hexadecimal digits, two of each byte; `X` is any digit.
    pub fn parse(text: &str) -> Option<Vec<Nibbles>> {
        let digits = digits(text)?.into_iter();
        let nibbles = digits.map(|digit| match digit {
            'x' | 'X' => Some((0, 0)),
            digit => Some((digit.to_digit(16)? as u8, 0xf)),
        });
        let nibbles: Vec<(u8, u8)> = nibbles.collect::<Option<_>>()?;
        let pairs = nibbles.chunks_exact(2).map(|pair| Nibbles {
            value: pair[0].0 << 4 | pair[1].0,
            mask: pair[0].1 << 4 | pair[1].1,
        });
        Some(pairs.collect())
    }
}

/// keepalived's `DNS_CHECK`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dns {
    /// The name that is asked for, with or without a dot at its end.
    pub name: String,
    /// The number of the type of records (RFC 1035, section 3.2.2).
    pub query: u16,
}

impl Dns {
    /// The types of records that keepalived knows, and their numbers.
    pub const TYPES: [(&str, u16); 9] = [
        ("A", 1),
        ("NS", 2),
        ("CNAME", 5),
        ("SOA", 6),
        ("MX", 15),
        ("TXT", 16),
        ("AAAA", 28),
        ("RRSIG", 46),
        ("DNSKEY", 48),
    ];

    /// Whether names of servers can be like this (RFC 1035, section 2.3.4).
    pub fn is_name(name: &str) -> bool {
        let labels = name.strip_suffix('.').unwrap_or(name);
        let is_label = |label: &str| (1..=63).contains(&label.len()) && label.is_ascii();
        labels.is_empty() || labels.len() <= 253 && labels.split('.').all(is_label)
    }
}

/// keepalived's `MISC_CHECK`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Script {
    /// The program, and its arguments. Never empty.
    pub command: Vec<String>,
    /// keepalived's `misc_dynamic`: an exit code from 2 on is a weight and 2.
    pub dynamic: bool,
}

/// A check of one server, whichever services it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// Who is asked.
    pub to: SocketAddr,
    /// What.
    pub check: Check,
}

impl Probe {
    /// Of a server.
    pub fn new(server: &ServerKey, check: &Check) -> Probe {
        let address = check.address.unwrap_or(server.address);
        let port = check.port.unwrap_or(server.port);
        Probe {
            to: SocketAddr::new(address, port),
            check: check.clone(),
        }
    }
}

impl Kind {
    /// Its name in the configuration.
    pub const fn name(&self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Http(Http { tls: None, .. }) => "http",
            Kind::Http(_) => "https",
            Kind::Udp(_) => "udp",
            Kind::Dns(_) => "dns",
            Kind::Smtp { .. } => "smtp",
            Kind::Ping => "ping",
            Kind::Script(_) => "script",
        }
    }

    /// How many rounds it takes until all has been asked for.
    pub fn rounds(&self) -> usize {
        match self {
            Kind::Http(http) => http.urls.len(),
            _ => 1,
        }
    }
}

impl Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, to) = (&*self.check.kind, self.to);
        match kind {
            Kind::Http(http) => {
                let paths: Vec<&str> = http.urls.iter().map(|url| url.path.as_str()).collect();
                write!(f, "{} {to} {}", kind.name(), paths.join(" "))
            }
            Kind::Ping => write!(f, "ping {}", to.ip()),
            Kind::Script(script) => write!(f, "script {} for {to}", script.command.join(" ")),
            Kind::Dns(dns) => write!(f, "dns {to} {:?}", dns.name),
            _ => write!(f, "{} {to}", kind.name()),
        }
    }
}

/// Bytes from hexadecimal digits; blanks between bytes are passed over, as in keepalived.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    let nibbles = Nibbles::parse(text)?;
    let whole = nibbles.iter().all(|nibbles| nibbles.mask == 0xff);
    whole.then(|| nibbles.iter().map(|nibbles| nibbles.value).collect())
}

fn digits(text: &str) -> Option<Vec<char>> {
    let digits: Vec<char> = text
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .collect();
    (!digits.is_empty() && digits.len().is_multiple_of(2)).then_some(digits)
}

/// A compiled expression is no larger, bytes.
const MOST_PATTERN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_written_in_nibbles() {
        let nibbles = |value, mask| Nibbles { value, mask };
        assert_eq!(
            Nibbles::parse("0aXfX0 xx"),
            Some(vec![
                nibbles(0x0a, 0xff),
                nibbles(0x0f, 0x0f),
                nibbles(0, 0x0f),
                nibbles(0, 0)
            ])
        );
        for text in ["", "0", "0g", "abc", "\u{e9}\u{e9}"] {
            assert_eq!(Nibbles::parse(text), None, "{text}");
        }
        assert_eq!(hex("de ad"), Some(vec![0xde, 0xad]));
        assert_eq!(hex("dX"), None);
        assert_eq!(Digest::<2>::parse("beef").unwrap().to_string(), "beef");
        assert_eq!(Digest::<2>::parse("beefed"), None);
    }

    #[test]
    fn names_are_of_labels() {
        let long = format!("{}.example", "a".repeat(64));
        for name in [".", "", "example.org", "example.org.", "_x._udp.example"] {
            assert!(Dns::is_name(name), "{name}");
        }
        for name in ["a..b", ".a", &long, &"a.".repeat(200), "\u{e9}.example"] {
            assert!(!Dns::is_name(name), "{name}");
        }
    }

    #[test]
    fn a_pattern_says_what_is_wrong_with_it() {
        assert!(Pattern::parse("^ok$").unwrap().is_found(b"ok"));
        assert_eq!(Pattern::parse("(").unwrap_err(), "unclosed group");
        assert!(Pattern::parse("(?=x)").unwrap_err().contains("look-around"));
    }
}
