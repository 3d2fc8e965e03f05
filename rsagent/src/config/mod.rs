//! What rsagent is to do: `/etc/lvs/rsagent.toml`, and the command line, which wins. Pure.

mod check;
mod flags;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use shared::agent::{KEY_FILE, MAX_CHECKS, MAX_IDENTITY, MAX_VIPS, PORT};
use shared::config::{Faults, Keys, Notes, Placed, Section, Seen, Words, read, word};

pub(crate) use check::{Check, Kind};
pub(crate) use flags::Flags;

/// What rsagent is to do. The default is that of an empty file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The VIPs.
    pub(crate) vips: Vec<IpAddr>,
    /// Whether the VIPs were named on the command line: then these alone are meant.
    pub(crate) these_alone: bool,
    /// How the director forwards to this host.
    pub(crate) mode: Mode,
    /// Interfaces that the VIPs' clients and director are on; none: found out.
    pub(crate) interfaces: Vec<String>,
    /// UDP port of GUE tunnels.
    pub(crate) tunnel_port: u16,
    /// Who gets reports.
    pub(crate) directors: Vec<SocketAddr>,
    /// Where the key is that vouches for reports.
    pub(crate) key_file: PathBuf,
    /// Whether reports are sent without a key.
    pub(crate) insecure: bool,
    /// From one report to the next.
    pub(crate) interval: Duration,
    /// What directors know this server by; `None`: the host's name.
    pub(crate) name: Option<String>,
    /// The weight that is asked for.
    pub(crate) weight: Weight,
    /// The server's own checks.
    pub(crate) checks: Vec<Check>,
}

/// How the director forwards to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Direct routing: the VIPs are on lo, and replies go straight to the client
    Dr,
    /// Tunnelling by IPIP, GUE or GRE: the tunnel ends here, the VIPs are on lo, and replies go
    /// straight to the client
    Tun,
    /// Masquerading: nothing to set up, but the way back must lead through the director
    Nat,
}

/// The weight that a server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// None: the director knows.
    Director,
    /// This one.
    Fixed(u16),
    /// The idle share of the processors in per cent, at least 1.
    Cpu,
}

impl Config {
    /// The values of a file. `file` is only named in the faults.
    ///
    /// # Errors
    /// Every fault of the text.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Config, Faults> {
        read(text, file, &FILE, values)
    }

    /// What the command line says, where it says something.
    pub(crate) fn with(mut self, flags: &Flags) -> Config {
        if !flags.vips.is_empty() {
            self.vips.clone_from(&flags.vips);
            self.these_alone = true;
        }
        if !flags.interfaces.is_empty() {
            self.interfaces.clone_from(&flags.interfaces);
        }
        if !flags.directors.is_empty() {
            self.directors.clone_from(&flags.directors);
        }
        self.mode = flags.mode.unwrap_or(self.mode);
        self.tunnel_port = flags.tunnel_port.unwrap_or(self.tunnel_port);
        self.insecure |= flags.insecure;
        self
    }

    /// Whether there is nothing to do: only real servers of NAT need no VIP.
    pub(crate) fn lacks_a_vip(&self) -> bool {
        self.mode != Mode::Nat && self.vips.is_empty()
    }

    /// The command that makes the host what this asks for.
    pub(crate) fn start_again(&self) -> String {
        let mut command = "rsagent start".to_owned();
        for vip in &self.vips {
            command += &format!(" --vip {vip}");
        }
        if self.mode == Mode::Tun {
            command += &format!(" --mode tun --tun-port {}", self.tunnel_port);
        }
        for interface in &self.interfaces {
            command += &format!(" --interface {interface}");
        }
        command
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            vips: Vec::new(),
            these_alone: false,
            mode: Mode::Dr,
            interfaces: Vec::new(),
            tunnel_port: GUE_PORT,
            directors: Vec::new(),
            key_file: PathBuf::from(KEY_FILE),
            insecure: false,
            interval: Duration::from_secs(1),
            name: None,
            weight: Weight::Director,
            checks: Vec::new(),
        }
    }
}

/// `10.0.0.1`, `10.0.0.1:9111`, `fd00::1` or `[fd00::1]:9111`.
///
/// # Errors
/// What to write instead.
pub(crate) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>();
    let endpoint = match address {
        Ok(address) => Ok(SocketAddr::new(address, PORT)),
        Err(_) => text.parse::<SocketAddr>(),
    };
    match endpoint {
        Ok(endpoint) if !endpoint.ip().is_unspecified() && endpoint.port() != 0 => Ok(endpoint),
        _ => Err(format!(
            "director {text:?} is no address; write \"10.0.0.1\" or \"10.0.0.1:{PORT}\""
        )),
    }
}

fn values(notes: &mut Notes<'_>, root: Section<'_, '_>) -> Config {
    let mut config = Config {
        vips: vips(notes, root),
        interfaces: root
            .texts(notes, "interfaces")
            .iter()
            .map(|name| name.value.to_owned())
            .collect(),
        directors: directors(notes, root),
        weight: weight(notes, root),
        ..Config::default()
    };
    if let Some(mode) = root.text(notes, "mode") {
        config.mode = match word(notes, "mode", mode, &MODES) {
            Some("tun") => Mode::Tun,
            Some("nat") => Mode::Nat,
            _ => Mode::Dr,
        };
    }
    if let Some(port) = root.number(notes, "tun_port", 1..=u32::from(u16::MAX)) {
        config.tunnel_port = port.value as u16;
    }
    if let Some(insecure) = root.truth(notes, "insecure") {
        config.insecure = insecure.value;
    }
    if let Some(path) = root.text(notes, "key_file") {
        if !path.value.starts_with('/') {
            let fault = format!("`key_file' is {:?}; write a path from the root", path.value);
            notes.fault(path.at, fault);
        } else if config.insecure {
            let fault = "`key_file' and insecure = true exclude each other; leave one out";
            notes.fault(path.at, fault);
        }
        config.key_file = PathBuf::from(path.value);
    }
    if let Some(interval) = root.duration(notes, "interval", SHORTEST_INTERVAL..=LONGEST_INTERVAL) {
        config.interval = interval.value;
    }
    if let Some(name) = root.text(notes, "name") {
        is_name(notes, "name", name, MAX_IDENTITY);
        config.name = Some(name.value.to_owned());
    }
    let mut seen = Seen::default();
    for section in root.tables(notes, "check", &check::KEYS) {
        let at = section.at;
        if let Some(check) = check::check(notes, section)
            && seen.first(
                notes,
                at,
                format_args!("check {:?}", check.name),
                check.name.clone(),
            )
        {
            config.checks.push(check);
            if config.checks.len() == MAX_CHECKS + 1 {
                let fault = format!("there can be {MAX_CHECKS} checks; leave out the others");
                notes.fault(at, fault);
            }
        }
    }
    config
}

fn vips(notes: &mut Notes<'_>, root: Section<'_, '_>) -> Vec<IpAddr> {
    let mut seen = Seen::default();
    let mut vips = Vec::new();
    for text in root.texts(notes, "vips") {
        let Ok(vip) = text.value.parse::<IpAddr>() else {
            let fault = format!(
                "VIP {:?} is no address; write one alone, such as \"192.0.2.100\"",
                text.value
            );
            notes.fault(text.at, fault);
            continue;
        };
        if seen.first(notes, text.at, format_args!("VIP {vip}"), vip) {
            vips.push(vip);
        }
        if vips.len() == MAX_VIPS + 1 {
            let fault = format!("there can be {MAX_VIPS} VIPs; leave out the others");
            notes.fault(text.at, fault);
        }
    }
    vips
}

fn directors(notes: &mut Notes<'_>, root: Section<'_, '_>) -> Vec<SocketAddr> {
    let mut seen = Seen::default();
    let mut directors = Vec::new();
    for text in root.texts(notes, "directors") {
        match endpoint(text.value) {
            Ok(known) => {
                if seen.first(notes, text.at, format_args!("director {known}"), known) {
                    directors.push(known);
                }
            }
            Err(fault) => notes.fault(text.at, fault),
        }
    }
    directors
}

/// `weight = 50` or `weight = "cpu"`
fn weight(notes: &mut Notes<'_>, root: Section<'_, '_>) -> Weight {
    if !root.has_text("weight") {
        let fixed = root.number(notes, "weight", 0..=u32::from(u16::MAX));
        return fixed.map_or(Weight::Director, |fixed| Weight::Fixed(fixed.value as u16));
    }
    let Some(text) = root.text(notes, "weight") else {
        return Weight::Director;
    };
    match word(notes, "weight", text, &WEIGHTS) {
        Some(_) => Weight::Cpu,
        None => Weight::Director,
    }
}

/// What a report can carry as a name.
fn is_name(notes: &mut Notes<'_>, key: &str, name: Placed<&str>, most: usize) {
    let Placed { value, at } = name;
    if value.is_empty() || value.len() > most || value.contains(char::is_control) {
        let fault = format!("`{key}' is {value:?}; write 1 to {most} bytes of plain text");
        notes.fault(at, fault);
    }
}

const FILE: Keys = Keys {
    table: "the file",
    known: &[
        "vips",
        "mode",
        "interfaces",
        "tun_port",
        "directors",
        "key_file",
        "insecure",
        "interval",
        "name",
        "weight",
        "check",
    ],
    later: &[],
};

const MODES: Words = Words {
    known: &["dr", "tun", "nat"],
    later: &[],
};

const WEIGHTS: Words = Words {
    known: &["cpu"],
    later: &[],
};

/// The UDP port of generic UDP encapsulation (IANA; also what `ipvsadm` users name).
const GUE_PORT: u16 = 6080;

/// Reports are for directors that many servers report to.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
