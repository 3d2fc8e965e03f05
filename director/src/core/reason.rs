//! Why a packet was dropped. Every drop has a name and is counted under it.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The name in listings, logs and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// The connection's real server was removed and `expire_nodest_conn` is 0.
    ServerRemoved => "server_removed",
    /// The connection table holds as many connections as it may: raise `max` of `[connections]`.
    TableFull => "table_full",
    /// A `[[deny]]` of the configuration names its source.
    Denied => "denied",
    /// The connection's real server was removed and the service resets such connections; the sender is
    /// told so.
    ServerGone => "server_gone",
    /// `drop_packet` is on, and this one would have made a connection.
    Defence => "drop_packet",
    /// The service has the persistence engine `sip`, and this says no Call-ID, in its first fragment at least, or one of
    /// more than 255 bytes.
    NoCallId => "no_call_id",
    /// The service has no real server that may take a new connection; the client is told so.
    NoServer => "no_server",
    /// All ports of all local addresses are used towards the real server that FULLNAT was to take; the client
    /// is told so: add to `local_addresses` of `[fullnat]`.
    LocalPorts => "local_ports",
    /// Sent to a local address of FULLNAT, where no connection has its port; TCP is answered with a reset,
    /// SCTP with an ABORT.
    NoConnection => "no_connection",
    /// A real server sent it and no connection has it; with `nat_icmp_send` the server is told so.
    Stray => "stray",
    /// Addressed to another host: the interface is promiscuous.
    OtherHost => "other_host",
    /// The interface it came from is not known any more.
    UnknownPort => "unknown_port",
    /// The IP header is cut short, or says something that cannot be.
    MalformedIp => "malformed_ip",
    /// The IP header's checksum is wrong.
    IpChecksum => "ip_checksum",
    /// No host can have its source address (loopback, multicast, 0.0.0.0/8): look for its sender by
    /// its Ethernet address.
    MartianSource => "martian_source",
    /// The TCP, UDP or SCTP header is cut short, or says something that cannot be.
    MalformedTransport => "malformed_transport",
    /// An ICMP error about a connection has a wrong checksum.
    IcmpChecksum => "icmp_checksum",
    /// Its time to live ran out here; the sender is told so.
    TtlExceeded => "ttl_exceeded",
    /// Too big for the way out and not to be fragmented; the sender is told the MTU.
    TooBig => "too_big",
    /// A frame of many segments, of a kind that the director cannot cut: for a tunnel all but TCP and UDP
    /// segmentation offload, and SCTP's in any case.
    Unsegmentable => "unsegmentable",
    /// A UDP datagram without a checksum, in fragments, on its way from an IPv4 server to an IPv6 client: IPv6
    /// wants a checksum, and only of a whole datagram can one be made.
    NoChecksum => "no_checksum",
    /// An ICMP error on its way from one address family to the other, which has no word for it.
    Untranslatable => "untranslatable",
    /// There is no route to the real server or the client: look at `ip route get`.
    NoRoute => "no_route",
    /// The real server's address is one of the director's own, which cannot be served yet.
    LocalServer => "local_server",
    /// The forwarding method of the connection's server cannot be served yet.
    NoMethod => "no_method",
    /// The neighbour did not answer, or too many frames waited for it.
    NeighbourSilent => "neighbour_silent",
    /// A fragment that no packet is cut into, or that would write over the transport header of its
    /// first one: look for an attack.
    MalformedFragment => "malformed_fragment",
    /// The connection of a fragment ended before it came.
    FragmentOrphan => "fragment_orphan",
    /// A fragment of an SCTP packet that would get other ports: its checksum covers what is not in it. SCTP
    /// does not fragment as long as it may ask for the path's MTU.
    SctpFragment => "sctp_fragment",
    /// Too many fragments wait for the first of their datagram.
    FragmentsFull => "fragments_full",
    /// The first fragment of a datagram did not come in time.
    FragmentTimeout => "fragment_timeout",
    /// The interface it had to leave by is down or gone.
    LinkDown => "link_down",
    /// The queue of the interface it had to leave by, or the send buffer, is full.
    QueueFull => "queue_full",
    /// The kernel refused to send it.
    SendRefused => "send_refused",
    /// The kernel refused to take it back.
    GiveBackRefused => "give_back_refused",
}

/// How many packets were dropped, by reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drops([u64; Reason::ALL.len()]);

impl Default for Drops {
    fn default() -> Drops {
        Drops([0; Reason::ALL.len()])
    }
}

impl Drops {
    /// Counts `packets` more.
    pub fn count(&mut self, reason: Reason, packets: u64) {
        self.0[reason as usize] += packets;
    }

    /// Packets dropped for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its packets.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.iter().map(|&reason| (reason, self.of(reason)))
    }
}
