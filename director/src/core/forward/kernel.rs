//! Which frames go into their tunnel whole: the kernel writes the outer header and cuts them.

use shared::addr::Family;
use shared::wire::ipv4;
use shared::wire::vnet::VnetHeader;

use super::outer;
use super::paths::Kernel;
use super::segments;
use super::tunnel::Way;
use crate::core::arena::Id;
use crate::core::director::Director;
use crate::core::egress::{Header, Label, Request};
use crate::core::frame::Frame;
use crate::core::server::ServerId;

impl Director {
    /// Outer headers that the kernel should be able to write, since this was asked last.
    pub fn take_tunnel_requests(&mut self) -> Vec<Request> {
        self.tunnels.take_requests()
    }

    /// From now on the kernel writes this header.
    pub fn tunnel_ready(&mut self, request: &Request) {
        self.tunnels.ready(request);
    }

    /// An interface is gone, and with it what the kernel did there.
    pub fn tunnels_unready(&mut self) {
        self.tunnels.unready();
    }

    /// What a frame of many segments, none of which may be fragmented, is sent with if the kernel writes its
    /// outer header. If it does not yet, it is asked to.
    pub(super) fn kernel_label(
        &mut self,
        way: &Way,
        server: ServerId,
        frame: &Frame<'_>,
    ) -> Option<Label> {
        let overhead = way.outer.overhead(false);
        let fits = frame.packet().len() + overhead <= usize::from(u16::MAX);
        // The program knows no other headers.
        let known = way.outer.family() == Family::V4;
        // A frame that waits for its neighbour would wait without its label.
        if !known
            || !fits
            || !segments::are_of_tcp_v4(frame.vnet())
            || way.hop.destination.is_none()
        {
            return None;
        }
        let (tunnel, port) = (way.outer.tunnel, way.hop.port);
        let label = Label::new(server.number(), way.outer.flow_port)?;
        match self.tunnels.kernel(server) {
            Kernel::Ready(of, at) if (of, at) == (tunnel, port) => Some(label),
            Kernel::Asked(of, at) if (of, at) == (tunnel, port) => None,
            _ => {
                let header = header(way, frame.packet());
                self.tunnels.ask(server, tunnel, port, header);
                None
            }
        }
    }
}

/// What stands in front of the packets on a way.
#[cold]
fn header(way: &Way, packet: &[u8]) -> Option<Header> {
    let overhead = way.outer.overhead(false);
    let mut written = vec![0; overhead];
    written.extend(packet.get(..ipv4::MIN_HEADER)?);
    let label = outer::Label {
        identification: 0,
        dont_fragment: true,
    };
    way.outer.write(&mut written, VnetHeader::default(), label);
    Header::new(way.outer.tunnel, written.get(..overhead)?)
}
