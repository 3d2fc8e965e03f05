//! BPF programs at a device's ingress and egress by traffic control: the queueing discipline `clsact` and filters
//! of kind `bpf` (tc-bpf(8)). They outlive the process that put them there.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::decode;
use super::request::{Netlink, NetlinkError};

/// On which way filters stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Hook {
    /// What comes in (`TC_H_MIN_INGRESS` of include/uapi/linux/pkt_sched.h).
    Ingress = 0xfff2,
    /// What goes out (`TC_H_MIN_EGRESS`).
    Egress = 0xfff3,
}

/// A filter of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressFilter {
    /// Filters of smaller numbers come first.
    pub priority: u16,
    /// Tells the filters of a priority apart; ours to choose.
    pub handle: u32,
    /// `bpf`, `u32`, ...
    pub kind: String,
    /// Of a BPF program.
    pub name: Option<String>,
}

impl Netlink {
    /// Gives an interface the queueing discipline that ingress filters hang on. False: it has one.
    pub fn add_clsact(&mut self, link: u32) -> Result<bool, NetlinkError> {
        let added = self.request(
            RouteNetlinkMessage::NewQueueDiscipline(clsact(link)),
            NLM_F_CREATE | NLM_F_EXCL,
            |host| format!("add clsact to {}", host.link_name(link)),
        );
        match added {
            Ok(()) => Ok(true),
            Err(error) if error.is_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the queueing discipline away, and all filters with it. False: there was none.
    pub fn delete_clsact(&mut self, link: u32) -> Result<bool, NetlinkError> {
        let message = RouteNetlinkMessage::DelQueueDiscipline(clsact(link));
        let deleted = self.request(message, 0, |host| {
            format!("remove clsact from {}", host.link_name(link))
        });
        match deleted {
            Ok(()) => Ok(true),
            // EINVAL ("Invalid handle") of an interface that once had one.
            Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EINVAL)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Adds a program to the ingress of an interface. What it returns decides about the frame
    /// (`direct-action`); with -1 the next filter is asked.
    pub fn add_ingress_program(
        &mut self,
        link: u32,
        (priority, handle): (u16, u32),
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<(), NetlinkError> {
        let message = filter(link, Hook::Ingress, priority, handle);
        self.new_filter(message, name, program, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// As [`add_ingress_program`](Netlink::add_ingress_program), on either way; if there is a filter
    /// of that priority and handle, the program takes its place, and no frame passes in between.
    pub fn set_program(
        &mut self,
        link: u32,
        hook: Hook,
        (priority, handle): (u16, u32),
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<(), NetlinkError> {
        let message = filter(link, hook, priority, handle);
        self.new_filter(message, name, program, NLM_F_CREATE)
    }

    fn new_filter(
        &mut self,
        mut message: TcMessage,
        name: &str,
        program: BorrowedFd<'_>,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        let link = message.header.index as u32;
        message.attributes = vec![
            TcAttribute::Kind("bpf".to_owned()),
            TcAttribute::Options(vec![
                TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd() as u32)),
                TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
                TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
            ]),
        ];
        self.request(
            RouteNetlinkMessage::NewTrafficFilter(message),
            flags,
            |host| format!("add filter {name} to {}", host.link_name(link)),
        )
    }

    /// Removes a filter; with handle 0, all of its priority.
    pub fn delete_filter(
        &mut self,
        link: u32,
        hook: Hook,
        (priority, handle): (u16, u32),
    ) -> Result<(), NetlinkError> {
        let message = filter(link, hook, priority, handle);
        let message = RouteNetlinkMessage::DelTrafficFilter(message);
        self.request(message, 0, |host| {
            format!("remove filters from {}", host.link_name(link))
        })
    }

    /// The ingress filters of an interface, in their order; none when it has no `clsact`.
    pub fn ingress_filters(&mut self, link: u32) -> Result<Vec<IngressFilter>, NetlinkError> {
        self.filters(link, Hook::Ingress)
    }

    /// The filters of an interface on one way, in their order; none when it has no `clsact`.
    pub fn filters(&mut self, link: u32, hook: Hook) -> Result<Vec<IngressFilter>, NetlinkError> {
        let message = RouteNetlinkMessage::GetTrafficFilter(filter(link, hook, 0, 0));
        let listed = self.dump(&message, "list filters", |kind, body| match kind {
            libc::RTM_NEWTFILTER => decode::filter(body),
            _ => Ok(None),
        });
        match listed {
            // The last one: from a kernel without traffic control.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP)
                ) =>
            {
                Ok(Vec::new())
            }
            listed => listed,
        }
    }
}

fn clsact(link: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = link as i32;
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    message.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
    message
}

fn filter(link: u32, hook: Hook, priority: u16, handle: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = link as i32;
    message.header.parent = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: hook as u16,
    };
    message.header.handle = handle.into();
    if priority != 0 {
        let every_protocol = (libc::ETH_P_ALL as u16).to_be();
        message.header.info = u32::from(priority) << 16 | u32::from(every_protocol);
    }
    message
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::bpf::{Assembler, Program, Reg};
    use crate::sys::namespace::Namespace;

    #[test]
    fn programs_come_and_go() {
        let test = || {
            let mut netlink = Netlink::open().unwrap();
            let lo = netlink.link_by_name("lo").unwrap().unwrap().index;
            assert_eq!(netlink.ingress_filters(lo).unwrap(), []);
            assert!(netlink.add_clsact(lo).unwrap());
            assert!(!netlink.add_clsact(lo).unwrap());
            assert_eq!(netlink.ingress_filters(lo).unwrap(), []);

            let mut asm = Assembler::new();
            asm.mov(Reg::R0, -1);
            asm.exit();
            let program = Program::load("pass", &asm.finish().unwrap(), &[]).unwrap();
            for priority in [20, 10] {
                netlink
                    .add_ingress_program(lo, (priority, 7), "pass", program.as_fd())
                    .unwrap();
            }
            let again = netlink.add_ingress_program(lo, (20, 7), "pass", program.as_fd());
            assert!(again.unwrap_err().is_exists());
            let expected = |priority| IngressFilter {
                priority,
                handle: 7,
                kind: "bpf".to_owned(),
                name: Some("pass".to_owned()),
            };
            let filters = netlink.ingress_filters(lo).unwrap();
            assert_eq!(filters, [expected(10), expected(20)]);
            assert_eq!(netlink.filters(lo, Hook::Egress).unwrap(), []);

            let all_of_priority = (10, 0);
            netlink
                .delete_filter(lo, Hook::Ingress, all_of_priority)
                .unwrap();
            assert_eq!(netlink.ingress_filters(lo).unwrap(), [expected(20)]);
            let again = netlink.delete_filter(lo, Hook::Ingress, all_of_priority);
            assert!(again.unwrap_err().is_missing());
            for name in ["pass", "pass on"] {
                netlink
                    .set_program(lo, Hook::Egress, (20, 7), name, program.as_fd())
                    .unwrap();
            }
            let filters = netlink.filters(lo, Hook::Egress).unwrap();
            assert_eq!(filters.len(), 1);
            assert_eq!(filters[0].name.as_deref(), Some("pass on"));
            assert_eq!(netlink.ingress_filters(lo).unwrap(), [expected(20)]);
            netlink.delete_filter(lo, Hook::Egress, (20, 7)).unwrap();
            assert_eq!(netlink.filters(lo, Hook::Egress).unwrap(), []);
            assert!(netlink.delete_clsact(lo).unwrap());
            assert!(!netlink.delete_clsact(lo).unwrap(), "once was enough");
            assert_eq!(netlink.ingress_filters(lo).unwrap(), []);
            assert!(netlink.delete_clsact(99).unwrap_err().is_missing());
        };
        Namespace::new().unwrap().run(test).unwrap();
    }
}
