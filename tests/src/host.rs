//! A host: a network namespace with a name for people.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output};

use shared::host::netlink::{Link, Netlink, NewAddress, OUR_PROTOCOL, Prefix, Route, Scope};
use shared::host::sysctl::Sysctl;
use shared::sys::namespace::Namespace;

use crate::process::Process;
use crate::wait::end_of_tests;

/// See the [module](self).
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: Namespace,
}

impl Host {
    /// A host with nothing but loopback.
    ///
    /// # Panics
    /// Without root.
    pub fn new(name: &str) -> Host {
        end_of_tests();
        let namespace = Namespace::new().expect("a network namespace needs root");
        let host = Host {
            name: name.to_owned(),
            namespace,
        };
        host.netlink(|netlink| {
            let lo = netlink.link_by_name("lo")?.expect("every namespace has lo");
            netlink.set_link_up(lo.index)
        });
        host
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Runs `work` on the host.
    ///
    /// # Panics
    /// When it does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace
            .run(work)
            .expect("root may enter its own namespaces")
    }

    /// Changes the host's network.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn netlink<T: Send, E: std::fmt::Display + Send>(
        &self,
        work: impl FnOnce(&mut Netlink) -> Result<T, E> + Send,
    ) -> T {
        self.run(|| {
            let mut netlink = Netlink::open().expect("netlink");
            work(&mut netlink).unwrap_or_else(|error| panic!("{}: {error}", self.name))
        })
    }

    /// The kernel's number of an interface.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn ifindex(&self, device: &str) -> u32 {
        self.link(device).index
    }

    /// The Ethernet address of an interface, as `ip link` shows it.
    ///
    /// # Panics
    /// If there is none of that name, or it is no Ethernet interface.
    pub fn mac(&self, device: &str) -> String {
        let mac = self.ethernet_address(device);
        mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// The same as frames have it.
    ///
    /// # Panics
    /// If there is none of that name, or it is no Ethernet interface.
    pub fn ethernet_address(&self, device: &str) -> [u8; 6] {
        self.link(device).mac.expect("an Ethernet address")
    }

    fn link(&self, device: &str) -> Link {
        self.netlink(|netlink| netlink.link_by_name(device))
            .unwrap_or_else(|| panic!("{} has no {device}", self.name))
    }

    /// Gives an interface an address, such as `10.0.0.1/24`.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn address(&self, device: &str, address: &str) {
        let (address, length) = address.split_once('/').expect("ADDRESS/LENGTH");
        let address: Ipv4Addr = address.parse().expect("an IPv4 address");
        let prefix = Prefix::new(address, length.parse().expect("a length"));
        let link = self.ifindex(device);
        let new = NewAddress {
            link,
            prefix,
            label: None,
            scope: Scope::Universe,
            protocol: OUR_PROTOCOL,
        };
        self.netlink(|netlink| netlink.add_address(&new));
    }

    /// Makes a router the way to everywhere.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn gateway(&self, router: Ipv4Addr) {
        let route = Route {
            gateway: Some(router.into()),
            ..Route::to(Prefix::new(Ipv4Addr::UNSPECIFIED, 0))
        };
        self.netlink(|netlink| netlink.add_route(&route));
    }

    /// Sets the MTU of an interface, bytes.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn mtu(&self, device: &str, mtu: u32) {
        let link = self.ifindex(device);
        self.netlink(|netlink| netlink.set_link_mtu(link, mtu));
    }

    /// Reads a setting below `/proc/sys`.
    ///
    /// # Panics
    /// If there is none.
    pub fn read_sysctl(&self, path: &str) -> String {
        self.run(|| {
            Sysctl::at(path)
                .read()
                .unwrap_or_else(|error| panic!("{error}"))
        })
    }

    /// Writes a setting below `/proc/sys`.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn sysctl(&self, path: &str, value: &str) {
        self.run(|| Sysctl::at(path).write(value))
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Turns checksum and segmentation offload of an interface off: what leaves is complete and in
    /// pieces, so that wrong arithmetic shows.
    ///
    /// # Panics
    /// Without ethtool.
    pub fn offloads_off(&self, device: &str) {
        self.succeed(
            "ethtool",
            &["-K", device, "tx", "off", "tso", "off", "gso", "off"],
        );
    }

    /// Runs a program to its end.
    ///
    /// # Panics
    /// If there is no such program.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Output {
        self.run(|| {
            Command::new(program)
                .args(arguments)
                .output()
                .unwrap_or_else(|error| panic!("{program}: {error}; make test installs it"))
        })
    }

    /// Runs a program that must succeed, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn succeed(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.output(program, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {program} {arguments:?}: {errors}",
            self.name
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a program that goes on.
    ///
    /// # Panics
    /// If there is no such program.
    pub fn spawn(&self, command: Command) -> Process {
        self.run(|| Process::start(command))
    }

    /// A counter of `/proc/net/snmp`, such as `Tcp` `InCsumErrors`.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn counter(&self, protocol: &str, name: &str) -> u64 {
        let text = self.run(|| {
            fs::read_to_string(PathBuf::from("/proc/thread-self/net/snmp"))
                .expect("proc is mounted")
        });
        let mut lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{protocol}:")));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let (_, value) = pairs.find(|(known, _)| *known == name).expect("a counter");
        value.parse().expect("a number")
    }
}
