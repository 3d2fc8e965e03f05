//! A report as the bytes of one datagram.
//!
//! ```text
//! 0        4         5       6                 8                    length - 32      length
//! | "LVSA" | version | flags | length (16 bit) | fields ...         | HMAC-SHA-256  |
//! ```
//!
//! A field is its type, the length of its value, both one byte, and the value; numbers are in network
//! order. Types and bytes at the end of a value that are not known are skipped, so that later agents can
//! say more. The code is over everything before it; without a key it is zeros, and a flag says so.

use std::net::IpAddr;

use thiserror::Error;

use super::authentication::{Key, MAC};
use super::{
    CheckReport, Load, MAX_CHECK_NAME, MAX_CHECKS, MAX_DATAGRAM, MAX_FAULT, MAX_FAULTS,
    MAX_IDENTITY, MAX_VIPS, Report, State, VipReport,
};

/// Why a report cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// It does not fit into one datagram.
    #[error(
        "the report has {0} bytes, and a datagram takes {MAX_DATAGRAM}; report fewer VIPs or checks"
    )]
    TooLong(usize),
    /// Something is against the limits of a report; the text says what.
    #[error("the report has {0}")]
    Limit(&'static str),
}

/// Why bytes are no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More than [`MAX_DATAGRAM`] bytes.
    #[error("longer than {MAX_DATAGRAM} bytes")]
    TooLong,
    /// Fewer bytes than it says or needs.
    #[error("cut short")]
    Truncated,
    /// It does not begin as a report does.
    #[error("not a report of an agent")]
    BadMagic,
    /// Another version of the encoding.
    #[error("version {0}, and only version {VERSION} is known")]
    Version(u8),
    /// The key does not vouch for it.
    #[error("not made with our key")]
    BadMac,
    /// It was made without a key, and there is one here.
    #[error("made without a key")]
    Insecure,
    /// A field is wrong, twice there or missing; the text says which.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// The datagram of a report; without a key, one that says that nothing vouches for it.
///
/// # Errors
///
/// If the report is against its limits or too long for one datagram.
pub fn encode(report: &Report, key: Option<&Key>) -> Result<Vec<u8>, EncodeError> {
    within_limits(report).map_err(EncodeError::Limit)?;
    let mut bytes = Vec::with_capacity(MAX_DATAGRAM);
    bytes.extend(MAGIC);
    bytes.push(VERSION);
    bytes.push(if key.is_some() { 0 } else { INSECURE });
    bytes.extend([0, 0]);
    write_fields(report, &mut bytes);
    let length = bytes.len() + MAC;
    if length > MAX_DATAGRAM {
        return Err(EncodeError::TooLong(length));
    }
    bytes[LENGTH..HEADER].copy_from_slice(&(length as u16).to_be_bytes());
    let code = key.map_or([0; MAC], |key| key.code(&bytes));
    bytes.extend(code);
    Ok(bytes)
}

/// The report of a datagram, if the key vouches for it. Without a key everything is believed, also what
/// was made with one, so that agents can get theirs before the director.
///
/// # Errors
///
/// Says why the bytes are no report, or none to believe.
pub fn decode(bytes: &[u8], key: Option<&Key>) -> Result<Report, DecodeError> {
    if bytes.len() > MAX_DATAGRAM {
        return Err(DecodeError::TooLong);
    }
    let common = bytes.len().min(MAGIC.len());
    if bytes[..common] != MAGIC[..common] {
        return Err(DecodeError::BadMagic);
    }
    let Some(&[_, _, _, _, version, flags, high, low]) = bytes.first_chunk::<HEADER>() else {
        return Err(DecodeError::Truncated);
    };
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if bytes.len() < length.max(HEADER + MAC) {
        return Err(DecodeError::Truncated);
    }
    if bytes.len() > length {
        return Err(DecodeError::Malformed("longer than it says"));
    }
    let (message, code) = bytes
        .split_last_chunk::<MAC>()
        .ok_or(DecodeError::Truncated)?;
    if let Some(key) = key {
        if flags & INSECURE != 0 {
            return Err(DecodeError::Insecure);
        }
        if !key.vouches(message, code) {
            return Err(DecodeError::BadMac);
        }
    }
    read_fields(&message[HEADER..])
}

fn within_limits(report: &Report) -> Result<(), &'static str> {
    let text = |text: &str, most, what| {
        let good = !text.is_empty() && text.len() <= most && !text.contains(char::is_control);
        good.then_some(()).ok_or(what)
    };
    text(&report.identity, MAX_IDENTITY, BAD_IDENTITY)?;
    for check in &report.checks {
        text(&check.name, MAX_CHECK_NAME, BAD_CHECK)?;
    }
    for fault in &report.faults {
        text(fault, MAX_FAULT, BAD_FAULT)?;
    }
    let at_most = |count, most, what| (count <= most).then_some(()).ok_or(what);
    at_most(report.vips.len(), MAX_VIPS, "more than 32 VIPs")?;
    at_most(report.checks.len(), MAX_CHECKS, "more than 16 checks")?;
    at_most(report.faults.len(), MAX_FAULTS, "more than 4 faults")?;
    (report.load.cpu_percent <= 100)
        .then_some(())
        .ok_or("more than 100 per cent of CPU")
}

fn write_fields(report: &Report, bytes: &mut Vec<u8>) {
    let mut field = |kind: u8, parts: &[&[u8]]| {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        bytes.extend([kind, length as u8]); // the limits keep every value below 256 bytes
        bytes.extend(parts.iter().copied().flatten());
    };
    field(IDENTITY, &[report.identity.as_bytes()]);
    field(BOOT, &[&report.boot.to_be_bytes()]);
    field(SEQUENCE, &[&report.sequence.to_be_bytes()]);
    field(TIME, &[&report.time.to_be_bytes()]);
    field(INTERVAL, &[&report.interval.to_be_bytes()]);
    let state = match report.state {
        State::Ready => 0,
        State::Drain => 1,
        State::Maintenance => 2,
        State::Leaving => 3,
    };
    let well = if report.healthy { HEALTHY } else { 0 };
    let silent = if report.arp_suppressed {
        ARP_SUPPRESSED
    } else {
        0
    };
    field(STATE, &[&[state, well | silent]]);
    if let Some(weight) = report.weight {
        field(WEIGHT, &[&weight.to_be_bytes()]);
    }
    for vip in &report.vips {
        let present = [u8::from(vip.present)];
        match vip.address {
            IpAddr::V4(v4) => field(VIP_V4, &[&present, &v4.octets()]),
            IpAddr::V6(v6) => field(VIP_V6, &[&present, &v6.octets()]),
        }
    }
    for check in &report.checks {
        field(CHECK, &[&[u8::from(check.ok)], check.name.as_bytes()]);
    }
    let load = &report.load;
    field(
        LOAD,
        &[
            &[load.cpu_percent],
            &load.run_queue.to_be_bytes(),
            &load.listen_queue.to_be_bytes(),
            &load.connections.to_be_bytes(),
        ],
    );
    for fault in &report.faults {
        field(FAULT, &[fault.as_bytes()]);
    }
}

fn read_fields(mut bytes: &[u8]) -> Result<Report, DecodeError> {
    let mut draft = Draft::default();
    while let Some((&[kind, length], rest)) = bytes.split_first_chunk::<2>() {
        let (value, rest) = rest
            .split_at_checked(usize::from(length))
            .ok_or(DecodeError::Truncated)?;
        draft.field(kind, value).map_err(DecodeError::Malformed)?;
        bytes = rest;
    }
    if !bytes.is_empty() {
        return Err(DecodeError::Truncated);
    }
    let report = draft.report().map_err(DecodeError::Malformed)?;
    within_limits(&report).map_err(DecodeError::Malformed)?;
    Ok(report)
}

/// What was read of a report so far.
#[derive(Default)]
struct Draft {
    identity: Option<String>,
    boot: Option<u64>,
    sequence: Option<u64>,
    time: Option<u64>,
    interval: Option<u32>,
    state: Option<(State, u8)>,
    weight: Option<u16>,
    vips: Vec<VipReport>,
    checks: Vec<CheckReport>,
    load: Option<Load>,
    faults: Vec<String>,
}

impl Draft {
    fn field(&mut self, kind: u8, value: &[u8]) -> Result<(), &'static str> {
        match kind {
            IDENTITY => once(&mut self.identity, text(value)),
            BOOT => once(&mut self.boot, first(value).map(u64::from_be_bytes)),
            SEQUENCE => once(&mut self.sequence, first(value).map(u64::from_be_bytes)),
            TIME => once(&mut self.time, first(value).map(u64::from_be_bytes)),
            INTERVAL => once(&mut self.interval, first(value).map(u32::from_be_bytes)),
            STATE => once(&mut self.state, state(value)),
            WEIGHT => once(&mut self.weight, first(value).map(u16::from_be_bytes)),
            LOAD => once(&mut self.load, load(value)),
            VIP_V4 | VIP_V6 => {
                let vip = if kind == VIP_V4 {
                    vip::<4>(value)
                } else {
                    vip::<16>(value)
                };
                self.vips.push(vip.ok_or("a wrong VIP")?);
                Ok(())
            }
            CHECK => {
                let (&ok, name) = value.split_first().ok_or(BAD_CHECK)?;
                let name = text(name).ok_or(BAD_CHECK)?;
                self.checks.push(CheckReport { name, ok: ok != 0 });
                Ok(())
            }
            FAULT => {
                self.faults.push(text(value).ok_or(BAD_FAULT)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn report(self) -> Result<Report, &'static str> {
        let (state, well) = self.state.ok_or("no state")?;
        Ok(Report {
            identity: self.identity.ok_or("no identity")?,
            boot: self.boot.ok_or("no boot id")?,
            sequence: self.sequence.ok_or("no sequence number")?,
            time: self.time.ok_or("no time")?,
            interval: self.interval.ok_or("no interval")?,
            state,
            weight: self.weight,
            healthy: well & HEALTHY != 0,
            arp_suppressed: well & ARP_SUPPRESSED != 0,
            vips: self.vips,
            checks: self.checks,
            load: self.load.ok_or("no load")?,
            faults: self.faults,
        })
    }
}

/// Keeps what was read of a field that may be there once.
fn once<T>(place: &mut Option<T>, read: Option<T>) -> Result<(), &'static str> {
    let read = read.ok_or("a field with a wrong value")?;
    match place.replace(read) {
        None => Ok(()),
        Some(_) => Err("a field twice"),
    }
}

fn first<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.first_chunk().copied()
}

fn text(value: &[u8]) -> Option<String> {
    str::from_utf8(value).ok().map(str::to_owned)
}

fn state(value: &[u8]) -> Option<(State, u8)> {
    let [state, well] = first(value)?;
    let state = match state {
        0 => State::Ready,
        1 => State::Drain,
        2 => State::Maintenance,
        3 => State::Leaving,
        _ => return None,
    };
    Some((state, well))
}

fn vip<const N: usize>(value: &[u8]) -> Option<VipReport>
where
    IpAddr: From<[u8; N]>,
{
    let (&present, address) = value.split_first()?;
    Some(VipReport {
        address: first::<N>(address)?.into(),
        present: present != 0,
    })
}

fn load(value: &[u8]) -> Option<Load> {
    let (&cpu_percent, rest) = value.split_first()?;
    let (run_queue, rest) = rest.split_first_chunk::<4>()?;
    let (listen_queue, rest) = rest.split_first_chunk::<4>()?;
    let (connections, _) = rest.split_first_chunk::<4>()?;
    Some(Load {
        cpu_percent,
        run_queue: u32::from_be_bytes(*run_queue),
        listen_queue: u32::from_be_bytes(*listen_queue),
        connections: u32::from_be_bytes(*connections),
    })
}

const MAGIC: [u8; 4] = *b"LVSA";
const VERSION: u8 = 1;
/// In the header's flags: no key vouches for it.
const INSECURE: u8 = 1;
/// Where the length is.
const LENGTH: usize = 6;
const HEADER: usize = 8;

// Types of fields.
const IDENTITY: u8 = 1;
const BOOT: u8 = 2;
const SEQUENCE: u8 = 3;
const TIME: u8 = 4;
const INTERVAL: u8 = 5;
const STATE: u8 = 6;
const WEIGHT: u8 = 7;
const VIP_V4: u8 = 8;
const VIP_V6: u8 = 9;
const CHECK: u8 = 10;
const LOAD: u8 = 11;
const FAULT: u8 = 12;

// In the second byte of STATE.
const HEALTHY: u8 = 1;
const ARP_SUPPRESSED: u8 = 2;

const BAD_IDENTITY: &str = "an identity that is empty, too long or not plain text";
const BAD_CHECK: &str = "a check whose name is empty, too long or not plain text";
const BAD_FAULT: &str = "a fault that is empty, too long or not plain text";
