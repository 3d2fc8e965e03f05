//! The bytes of a story, as choices.

use arbitrary::Unstructured;

/// The rest of the input, and what holds for the whole story.
pub(super) struct Script<'a> {
    pub(super) rest: Unstructured<'a>,
    pub(super) scene: Scene,
}

/// What there is in a story, by its first byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    /// How the real servers of the services that are there from the beginning get their packets; none: there are
    /// no services.
    pub(super) method: Option<Method>,
    /// Whose packets come.
    pub(super) families: Families,
    /// Services whose packets are looked into: FTP, SIP, key exchange of IPsec.
    pub(super) applications: bool,
    /// Only three connections may be there.
    pub(super) small: bool,
    /// Real servers may have port 0. A connection then does not tell its server any more, since
    /// another one may have the port itself.
    pub(super) any_port: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Nat,
    Direct,
    /// Tunnels and FULLNAT also lead to real servers of the other family.
    Tunnel,
    FullNat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    V4,
    V6,
    Both,
}

impl Scene {
    /// As a byte says.
    pub(super) fn of(byte: u8) -> Scene {
        let families = match byte >> 2 & 3 {
            0 => Families::V4,
            1 => Families::V6,
            _ => Families::Both,
        };
        // IPv4 alone has what IPVS has.
        let method = match (byte & 3, byte >> 2 & 3) {
            (0 | 1, 0) | (0, 1 | 2) => Some(Method::Nat),
            (2, 0..=2) => Some(Method::Direct),
            (1, 1 | 2) | (0, 3) => Some(Method::Tunnel),
            (1 | 2, 3) => Some(Method::FullNat),
            _ => None,
        };
        Scene {
            method,
            families,
            applications: byte & 0x10 != 0,
            small: byte & 0x80 != 0,
            any_port: byte & 0x40 != 0,
        }
    }

    /// Whether a connection tells by its ends which server it has, and its service. A data connection of FTP has
    /// that of another one.
    pub(super) fn tells_servers(self) -> bool {
        !self.any_port && !self.applications
    }
}

impl<'a> Script<'a> {
    pub(super) fn new(data: &'a [u8]) -> Script<'a> {
        let mut rest = Unstructured::new(data);
        let scene = Scene::of(rest.arbitrary().unwrap_or(0));
        Script { rest, scene }
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.rest.arbitrary().unwrap_or(0)
    }

    /// One of these; the first ones are the usual ones.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    pub(super) fn bytes(&mut self, most: usize) -> &[u8] {
        let length = usize::from(self.byte()).min(most).min(self.rest.len());
        self.rest.bytes(length).unwrap_or_default()
    }

    /// Whether the next address is one of IPv6.
    pub(super) fn is_v6(&mut self) -> bool {
        match self.scene.families {
            Families::V4 => false,
            Families::V6 => true,
            Families::Both => self.byte() & 1 == 1,
        }
    }
}
