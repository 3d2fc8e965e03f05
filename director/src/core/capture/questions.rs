//! What is asked about a frame.
//!
//! A frame is seen as something *to* an endpoint and *from* another one. An ICMP error carries
//! the beginning of a packet on its way back, so it is about what its embedded header calls the
//! other way round: an error about a packet that a VIP sent is *to* that VIP, one about a packet
//! to a real server is *from* that real server. Then both are asked the same.

use super::Class;

/// One look into the map, and what follows when the key is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) class: Class,
    pub(super) address: Whose,
    pub(super) transport: Transport,
    pub(super) found: Found,
}

/// Which address the key has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    To,
    From,
    /// The destination of the frame itself, also when it is an ICMP error.
    Host,
    /// None: the key has no address.
    Nobody,
}

/// Which protocol and port the key has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Transport {
    /// Neither.
    None,
    /// The protocol, and port 0.
    AnyPort,
    /// The protocol, and the port of [`Whose::To`].
    ToPort,
    /// The protocol, and the port of [`Whose::From`].
    FromPort,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The frame is ours.
    Take,
    /// The frame is the host's.
    Leave,
    /// The frame is the host's, unless it is *to* a client there whom the director balances, which
    /// [`CLIENT`] asks.
    LeaveUnlessClient,
    /// The frame is the host's, and the director gets a copy.
    Copy,
    /// The frame is ours if it is *to* an address of the host, which [`OWN`] asks; else the next question
    /// is asked.
    TakeIfOwn,
}

/// Asked in order about whole packets. When no question decides, the frame is the host's.
pub(super) const WITH_PORTS: [Question; 5] = [
    Question {
        class: Class::Service,
        address: Whose::To,
        transport: Transport::ToPort,
        found: Found::Take,
    },
    Question {
        class: Class::Service,
        address: Whose::To,
        transport: Transport::AnyPort,
        found: Found::Take,
    },
    // What a real server sends to the host itself (answers to health checks) is not a reply to
    // a client.
    Question {
        class: Class::Local,
        address: Whose::Host,
        transport: Transport::None,
        found: Found::LeaveUnlessClient,
    },
    Question {
        class: Class::Reply,
        address: Whose::From,
        transport: Transport::FromPort,
        found: Found::Take,
    },
    // Of a service for all ports.
    Question {
        class: Class::Reply,
        address: Whose::From,
        transport: Transport::AnyPort,
        found: Found::Take,
    },
];

/// Asked in order about ICMP errors, for what they are about: packets, or first fragments.
pub(super) const ICMP_ERROR: [Question; 8] = [
    WITH_PORTS[0],
    WITH_PORTS[1],
    // Of protocols without ports anything may stand where these are; then the second one finds them.
    Question {
        class: Class::Tunnel,
        address: Whose::From,
        transport: Transport::FromPort,
        found: Found::TakeIfOwn,
    },
    Question {
        class: Class::Tunnel,
        address: Whose::From,
        transport: Transport::AnyPort,
        found: Found::TakeIfOwn,
    },
    // What they are about may have been marked; they are not.
    Question {
        class: Class::Marks,
        address: Whose::Nobody,
        transport: Transport::None,
        found: Found::Take,
    },
    WITH_PORTS[2],
    WITH_PORTS[3],
    WITH_PORTS[4],
];

/// Whether a packet that an error is about was sent by the host itself.
pub(super) const OWN: Question = Question {
    class: Class::Local,
    address: Whose::To,
    transport: Transport::None,
    found: Found::Take,
};

/// Whether a packet is to a client on the host itself whom the director balances.
pub(super) const CLIENT: Question = Question {
    class: Class::Client,
    address: Whose::To,
    transport: Transport::ToPort,
    found: Found::Take,
};

/// Asked in order about fragments, of whatever protocol. The first one has ports, and they are not
/// asked for: the director must see it to know where the others belong, also when that is the host.
pub(super) const FRAGMENT: [Question; 6] = [
    Question {
        class: Class::ServiceFragments,
        address: Whose::To,
        transport: Transport::None,
        found: Found::Take,
    },
    // The host routes all of them.
    Question {
        class: Class::RoutedFragments,
        address: Whose::To,
        transport: Transport::None,
        found: Found::Leave,
    },
    // Of a datagram that may be marked: its later fragments are not, if the rule looks at ports.
    Question {
        class: Class::LocalFragments,
        address: Whose::Host,
        transport: Transport::None,
        found: Found::Copy,
    },
    Question {
        class: Class::Local,
        address: Whose::Host,
        transport: Transport::None,
        found: Found::Leave,
    },
    Question {
        class: Class::ReplyFragments,
        address: Whose::From,
        transport: Transport::None,
        found: Found::Take,
    },
    Question {
        class: Class::Marks,
        address: Whose::Nobody,
        transport: Transport::None,
        found: Found::Copy,
    },
];
