//! TCP resets of our own: for connections whose real server was removed.

use shared::addr::{FlowKey, Protocol};
use shared::time::Time;
use shared::wire::checksum;
use shared::wire::ipv4;
use shared::wire::transport;

use crate::core::balancer::{ConnectionId, Direction, Position, Progress, Reset};
use crate::core::connection::Endpoint;
use crate::core::director::{Arrival, Director, Headers};
use crate::core::frame::Frame;
use crate::core::ip::{self, OWN_TTL, Own};
use crate::core::operation::ForwardMethod;
use crate::core::protocol::tcp::TcpFlags;
use crate::core::verdict::Outbox;

/// A TCP segment without data.
struct Bare {
    source: Endpoint,
    destination: Endpoint,
    sequence: u32,
    acknowledged: u32,
    flags: TcpFlags,
}

impl Director {
    /// Tells both ends of connections that they are over. Where nothing has been seen of one that gives away
    /// its numbers, its client is asked for them: it answers a segment that is out of its window with where
    /// it is (RFC 9293 section 3.10.7.4), as it does when it is asked whether it still lives.
    pub(in crate::core) fn send_resets(&mut self, now: Time, outbox: &mut Outbox) {
        for reset in self.balancer.take_resets() {
            let position = reset.position;
            let known = position.is_known();
            let to_client = Bare {
                source: reset.virtual_end,
                destination: reset.client,
                sequence: position.server_next,
                acknowledged: position.client_next,
                flags: if known {
                    TcpFlags::RST | TcpFlags::ACK
                } else {
                    TcpFlags::ACK
                },
            };
            if let Some(hop) = self.own_hop(reset.client.address, None) {
                let packet = self.bare(&to_client);
                self.send_own(&hop, &[&packet], outbox);
            }
            if known {
                self.reset_server(now, &reset, outbox);
            }
        }
    }

    fn reset_server(&mut self, now: Time, reset: &Reset, outbox: &mut Outbox) {
        let Position {
            client_next,
            server_next,
        } = reset.position;
        let said = reset.moved.said(Direction::Request);
        let client_next = said.map_or(client_next, |said| said.to_hearer(client_next));
        let heard = reset.moved.heard(Direction::Request);
        let to_server = Bare {
            source: reset.known_client,
            destination: as_the_server_knows(reset),
            sequence: reset.shift.to_server(client_next),
            acknowledged: heard.map_or(server_next, |heard| heard.to_speaker(server_next)),
            flags: TcpFlags::RST | TcpFlags::ACK,
        };
        let packet = self.bare(&to_server);
        let (server, to) = (reset.server, reset.destination.address);
        if reset.forward == ForwardMethod::Tunnel {
            let flow = FlowKey {
                protocol: Protocol::TCP,
                source: reset.client.address,
                source_port: reset.client.port,
                destination: reset.virtual_end.address,
                destination_port: reset.virtual_end.port,
            };
            self.send_own_by_tunnel(now, server, to, &flow, &packet, outbox);
        } else if let Ok(hop) = self.hop_to_server(server, to) {
            self.send_own(&hop, &[&packet], outbox);
        }
    }

    /// Answers a client's segment of a connection that is over, as a host does that does not know it
    /// (RFC 9293 section 3.10.7.1). If the server could not be told before, it is now.
    #[cold]
    pub(in crate::core) fn answer_with_reset(
        &mut self,
        arrival: Arrival,
        id: ConnectionId,
        headers: &Headers,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) {
        let connection = self.balancer.connection(id);
        let (speaker, sender) = (connection.virtual_endpoint(), connection.client());
        self.reset_sender(arrival, (speaker, sender), headers, frame, outbox);
        let mut reset = self.balancer.reset_of(id);
        // Its data gets no further than this: the server waits for the first byte of it.
        if !reset.position.is_known()
            && let Some(client_next) = number(headers, frame, SEQUENCE)
            && let Some(Progress {
                acknowledged: Some(server_next),
                ..
            }) = progress(headers, frame)
        {
            reset.position = Position {
                client_next,
                server_next,
            };
            self.reset_server(arrival.now, &reset, outbox);
        }
    }

    /// Answers a TCP segment, or an SCTP packet, to a local address where no connection has its port: a real server's, whose
    /// connection has ended here. Else it would keep its end until it has sent in vain for long.
    #[cold]
    pub(in crate::core) fn answer_as_a_stranger(
        &mut self,
        arrival: Arrival,
        headers: &Headers,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) {
        let flow = &headers.flow;
        if flow.protocol == Protocol::SCTP {
            return self.abort_sender(arrival, headers, frame, outbox);
        }
        let speaker = Endpoint {
            address: flow.destination,
            port: flow.destination_port,
        };
        let sender = Endpoint {
            address: flow.source,
            port: flow.source_port,
        };
        self.reset_sender(arrival, (speaker, sender), headers, frame, outbox);
    }

    fn reset_sender(
        &mut self,
        arrival: Arrival,
        (speaker, sender): (Endpoint, Endpoint),
        headers: &Headers,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) {
        let flags = headers.tcp_flags();
        let Some(progress) = progress(headers, frame) else {
            return;
        };
        if flags.is_none_or(|flags| flags.contains(TcpFlags::RST)) {
            return;
        }
        let (sequence, acknowledged, flags) = match progress.acknowledged {
            Some(acknowledged) => (acknowledged, 0, TcpFlags::RST),
            None => (0, progress.next, TcpFlags::RST | TcpFlags::ACK),
        };
        let answer = Bare {
            source: speaker,
            destination: sender,
            sequence,
            acknowledged,
            flags,
        };
        if let Some(hop) = self.own_hop(sender.address, arrival.seen) {
            let packet = self.bare(&answer);
            self.send_own(&hop, &[&packet], outbox);
        }
    }

    /// Notes where the ends of a connection are.
    #[cold]
    pub(super) fn follow_position(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        headers: &Headers,
        frame: &Frame<'_>,
    ) {
        if let Some(progress) = progress(headers, frame) {
            let from_client = direction == Direction::Request;
            self.balancer.follow(id, from_client, progress);
        }
    }

    fn bare(&mut self, bare: &Bare) -> Vec<u8> {
        self.identification = self.identification.wrapping_add(1);
        let (source, destination) = (bare.source.address, bare.destination.address);
        let mut segment = [0; transport::TCP_HEADER];
        transport::set_field(&mut segment, 0, bare.source.port);
        transport::set_field(&mut segment, 2, bare.destination.port);
        segment[4..8].copy_from_slice(&bare.sequence.to_be_bytes());
        segment[8..12].copy_from_slice(&bare.acknowledged.to_be_bytes());
        segment[12] = (transport::TCP_HEADER as u8 / 4) << 4;
        segment[13] = bare.flags.bits();
        let length = segment.len() as u16;
        let pseudo = ip::pseudo(source, destination, Protocol::TCP, length);
        let sum = !checksum::fold(checksum::sum(&segment, pseudo));
        transport::set_field(&mut segment, transport::TCP_CHECKSUM, sum);
        let header = Own {
            source,
            destination,
            protocol: Protocol::TCP,
            tos: 0,
            ttl: OWN_TTL,
            identification: self.identification,
            fragment: ipv4::DF,
        };
        [&header.to_bytes(segment.len())[..], &segment].concat()
    }
}

/// Behind NAT a server is talked to by its own name, else by the virtual one.
fn as_the_server_knows(reset: &Reset) -> Endpoint {
    match reset.forward {
        method if method.is_nat() => reset.destination,
        _ => reset.virtual_end,
    }
}

/// What a whole TCP segment says about sequence numbers.
fn progress(headers: &Headers, frame: &Frame<'_>) -> Option<Progress> {
    let flags = headers.tcp_flags()?;
    let segment = frame.packet().get(headers.ip_header..)?;
    let header = usize::from(segment.get(12)? >> 4) * 4;
    let data = usize::from(headers.total).checked_sub(headers.ip_header + header)?;
    let taken = [TcpFlags::SYN, TcpFlags::FIN]
        .iter()
        .filter(|&&flag| flags.contains(flag))
        .count();
    let next = number(headers, frame, SEQUENCE)?.wrapping_add((data + taken) as u32);
    Some(Progress {
        next,
        acknowledged: if flags.contains(TcpFlags::ACK) {
            number(headers, frame, ACKNOWLEDGED)
        } else {
            None
        },
    })
}

/// A number of a TCP header.
fn number(headers: &Headers, frame: &Frame<'_>, at: usize) -> Option<u32> {
    let segment = frame.packet().get(headers.ip_header..)?;
    let bytes = segment.get(at..at + 4)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

// Where they are.
const SEQUENCE: usize = 4;
const ACKNOWLEDGED: usize = 8;
