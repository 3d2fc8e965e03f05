//! What a `[[service]]` can be told that IPVS does not know.

use shared::addr::Protocol;

use super::MOST_TIMEOUT_SECS;
use crate::config::words;
use crate::core::operation::{
    Beyond, ForwardMethod, Introduction, SegmentSize, ServerGone, ServerSpec, ServiceSpec,
    TimeoutChange,
};
use crate::core::scheduler::by_name;
use shared::config::{Notes, Placed, Section, word};

/// What IPVS has not.
pub(super) fn beyond(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    protocol: Option<Protocol>,
    scheduler: &str,
) -> Beyond {
    let way = section.text(notes, "server_gone");
    let server_gone = way
        .and_then(|given| word(notes, "server_gone", given, &words::SERVER_GONE))
        .and_then(|word| ServerGone::parse(word, protocol.unwrap_or(Protocol::UDP)));
    if let (Some(way), Some(ServerGone::Reset)) = (way, server_gone)
        && protocol != Some(Protocol::TCP)
    {
        let fault = "only TCP connections can be reset; write server_gone = \"reschedule\"";
        notes.fault(way.at, fault);
    }
    let slow_start = section.number(notes, "slow_start", 0..=MOST_SLOW_START_SECS);
    if let Some(slow_start) = slow_start.filter(|slow_start| slow_start.value > 0)
        && by_name(scheduler).is_ok_and(|scheduler| !scheduler.shares_by_weight())
    {
        let fault = format!(
            "slow start needs a scheduler that shares by weight, and \"{scheduler}\" does not; write \
             scheduler = \"wrr\", \"wlc\", \"sed\", \"nq\" or \"twos\""
        );
        notes.fault(slow_start.at, fault);
    }
    let own = section.table(notes, "timeouts", &words::SERVICE_TIMEOUTS);
    let mut seconds = |key| {
        let number = own.and_then(|own| own.number(notes, key, 1..=MOST_TIMEOUT_SECS));
        number.map_or(0, |number| number.value)
    };
    let timeouts = TimeoutChange {
        tcp: seconds("tcp"),
        tcp_fin: seconds("tcp_fin"),
        udp: seconds("udp"),
    };
    Beyond {
        server_gone,
        timeouts,
        slow_start_secs: slow_start.map_or(0, |slow_start| slow_start.value),
        introduction: introduction(notes, section, protocol),
        segment_size: segment_size(notes, section, protocol),
    }
}

/// `proxy_protocol = true` or `toa = false`.
fn introduction(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    protocol: Option<Protocol>,
) -> Introduction {
    let proxy_protocol = section.truth(notes, "proxy_protocol");
    let toa = section.truth(notes, "toa");
    match (proxy_protocol, toa) {
        (Some(Placed { value: true, at }), toa) => {
            if protocol != Some(Protocol::TCP) {
                let fault = "the PROXY protocol is spoken in front of a TCP connection's data; leave it out";
                notes.fault(at, fault);
            }
            if let Some(Placed { value: true, at }) = toa {
                let fault = "a server learns of its client by the TOA option or by the PROXY protocol; leave \
                             `toa' out, or write proxy_protocol = false";
                notes.fault(at, fault);
            }
            Introduction::ProxyProtocol
        }
        (_, Some(Placed { value: false, .. })) => Introduction::None,
        _ => Introduction::Toa,
    }
}

/// `set_mss = 1360` or `clamp_mss_to_pmtu = true`.
fn segment_size(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    protocol: Option<Protocol>,
) -> SegmentSize {
    let (least, most) = SegmentSize::RANGE.into_inner();
    let number = section.number(notes, "set_mss", u32::from(least)..=u32::from(most));
    let clamp = section
        .truth(notes, "clamp_mss_to_pmtu")
        .filter(|clamp| clamp.value);
    let places = [number.map(|number| number.at), clamp.map(|clamp| clamp.at)];
    if protocol.is_some_and(|protocol| protocol != Protocol::TCP)
        && let Some(&at) = places.iter().flatten().next()
    {
        notes.fault(at, "only TCP has a largest segment (MSS); leave it out");
    }
    match (number, clamp) {
        (Some(_), Some(clamp)) => {
            let fault = "the largest segment is a number or what fits into a packet; leave `set_mss' out, or \
                         write clamp_mss_to_pmtu = false";
            notes.fault(clamp.at, fault);
            SegmentSize::PathMtu
        }
        (Some(number), None) => {
            u16::try_from(number.value).map_or(SegmentSize::AsTold, SegmentSize::AtMost)
        }
        (None, Some(_)) => SegmentSize::PathMtu,
        (None, None) => SegmentSize::AsTold,
    }
}

/// A server that expects the PROXY protocol must not be reached in a way that does not speak it.
pub(super) fn check_introduction(
    notes: &mut Notes<'_>,
    at: usize,
    spec: &ServiceSpec,
    servers: &[ServerSpec],
) {
    let other = |server: &&ServerSpec| server.forward != ForwardMethod::FullNat;
    if spec.beyond.introduction == Introduction::ProxyProtocol
        && let Some(server) = servers.iter().find(other)
    {
        let fault = format!(
            "real server {} of service {} is not forwarded to by FULLNAT, and gets no PROXY protocol; write \
             forward = \"fullnat\"",
            server.key, spec.key
        );
        notes.fault(at, fault);
    }
}

/// A day.
const MOST_SLOW_START_SECS: u32 = 86_400;
