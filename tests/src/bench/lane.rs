//! A lane: client, something in the middle, real server, in a laboratory of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use super::cpu::{self, MIDDLE};
use super::{CLIENT, FLOODED, HTTP, IPERF, SERVER, UDP, VIP};
use crate::host::Host;
use crate::ipv6::{beside, like};
use crate::link::cable;
use crate::process::Process;
use crate::programs::{Director, ours};
use crate::topology::OneLan;
use crate::wait::{SOON, wait_for};

/// What is in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Middle {
    /// The kernel forwards packets to the server's own address.
    Kernel,
    /// nftables DNAT with connection tracking.
    Nftables,
    /// The director, NAT.
    Nat,
    /// The director, NAT by firewall marks of iptables.
    Marked,
    /// The director, FULLNAT.
    FullNat,
    /// The director, direct routing.
    Direct,
    /// The director, NAT over IPv6.
    NatV6,
    /// The director, direct routing over IPv6.
    DirectV6,
    /// The director, FULLNAT over IPv6.
    FullNatV6,
    /// The director, FULLNAT from IPv6 to IPv4.
    FullNatAcross,
    /// The director, IP in IP: the kernel cuts large frames.
    Tunnel,
    /// The director, GRE with a checksum: it cuts large frames itself.
    TunnelSoftware,
    /// haproxy in TCP mode.
    Haproxy,
    /// nginx with its stream module.
    Nginx,
    /// Nothing: the client talks to the server on the same link.
    Nobody,
}

impl Middle {
    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Middle::Kernel => "kernel forwarding",
            Middle::Nftables => "nft DNAT",
            Middle::Nat => "director NAT",
            Middle::Marked => "director NAT by mark",
            Middle::FullNat => "director FULLNAT",
            Middle::Direct => "director DR",
            Middle::NatV6 => "director NAT, IPv6",
            Middle::DirectV6 => "director DR, IPv6",
            Middle::FullNatV6 => "director FULLNAT, IPv6",
            Middle::FullNatAcross => "director FULLNAT, 6 to 4",
            Middle::Tunnel => "director TUN",
            Middle::TunnelSoftware => "director TUN, cut by it",
            Middle::Haproxy => "haproxy",
            Middle::Nginx => "nginx stream",
            Middle::Nobody => "client to server",
        }
    }
}

impl Middle {
    /// Whether clients speak IPv6.
    fn is_v6(self) -> bool {
        matches!(
            self,
            Middle::NatV6 | Middle::DirectV6 | Middle::FullNatV6 | Middle::FullNatAcross
        )
    }

    /// Where the client finds what is called so in IPv4.
    fn reached(self, target: Ipv4Addr) -> IpAddr {
        match self.is_v6() {
            true => like(target).into(),
            false => target.into(),
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Lane {
    /// What is in the middle.
    pub middle: Middle,
    /// Whom the client sends to.
    pub target: IpAddr,
    program: Program,
    /// Sends requests; interface `eth0`.
    pub client: Host,
    /// The host in the middle.
    pub director: Host,
    /// Answers; interface `eth0`.
    pub server: Host,
    _switch: Option<Host>,
}

#[derive(Debug)]
enum Program {
    None,
    Director(Director),
    Other(Process),
}

impl Lane {
    /// Client, middle and server in a line, all cables and no switch.
    ///
    /// # Panics
    /// Without root, or without the programs.
    pub fn line(middle: Middle) -> Lane {
        let (client, director, server) = (
            Host::new("client"),
            Host::new("director"),
            Host::new("server"),
        );
        cable((&client, "eth0"), (&director, "cl"));
        cable((&director, "rs"), (&server, "eth0"));
        client.address("eth0", &format!("{CLIENT}/24"));
        client.gateway(GATEWAY);
        director.address("cl", &format!("{GATEWAY}/24"));
        director.address("cl", &format!("{VIP}/32"));
        director.address("rs", "10.1.0.1/24");
        director.gateway(CLIENT);
        server.address("eth0", &format!("{SERVER}/24"));
        server.gateway(Ipv4Addr::new(10, 1, 0, 1));
        let forwards = match middle {
            Middle::Kernel | Middle::Nftables => true,
            // What the server answers as the VIP: the host does not have that address itself.
            Middle::Tunnel | Middle::TunnelSoftware => true,
            _ => false,
        };
        director.sysctl("net/ipv4/ip_forward", if forwards { "1" } else { "0" });
        if middle.is_v6() {
            beside([&client, &director, &server]);
        }
        let (program, target) = match middle {
            Middle::Kernel | Middle::Nobody => (Program::None, SERVER),
            Middle::Nftables => {
                director.succeed("nft", &["-f", &committed("dnat.nft")]);
                (Program::None, VIP)
            }
            Middle::FullNat => {
                let options = ["--config", &committed("fullnat.toml")];
                (balance(&director, &options, VIP, SERVER, "-b"), VIP)
            }
            Middle::Marked => (marked(&director), VIP),
            Middle::Nat => (balance(&director, &[], VIP, SERVER, "-m"), VIP),
            Middle::NatV6 => {
                let (vip, server) = (like(VIP), like(SERVER));
                (balance(&director, &[], vip, server, "-m"), VIP)
            }
            Middle::DirectV6 => {
                let (vip, server) = (like(VIP), like(SERVER));
                (balance(&director, &[], vip, server, "-g"), VIP)
            }
            Middle::FullNatV6 => {
                let (vip, server) = (like(VIP), like(SERVER));
                let options = ["--config", &committed("fullnat.toml")];
                (balance(&director, &options, vip, server, "-b"), VIP)
            }
            Middle::FullNatAcross => {
                let options = ["--config", &committed("fullnat.toml")];
                (balance(&director, &options, like(VIP), SERVER, "-b"), VIP)
            }
            Middle::Tunnel | Middle::TunnelSoftware => {
                serve(&server, FAR_VIP, &["--mode", "tun"]);
                let method = match middle {
                    Middle::Tunnel => "-i",
                    // Its header has a sum of the data, which only the director can make.
                    _ => "-i --tun-type gre --tun-csum",
                };
                (balance(&director, &[], FAR_VIP, SERVER, method), FAR_VIP)
            }
            // The server answers nothing: where it does, `Lane::lan` is for it.
            Middle::Direct => (balance(&director, &[], VIP, SERVER, "-g"), VIP),
            Middle::Haproxy => {
                let mut haproxy = Command::new("haproxy");
                haproxy.args(["-db", "-f", &committed("haproxy.cfg")]);
                (proxy(&director, haproxy), VIP)
            }
            Middle::Nginx => {
                let mut nginx = Command::new("nginx");
                nginx.args(["-e", "stderr", "-c", &committed("nginx-stream.conf")]);
                nginx.args(["-g", "pid /dev/null;"]);
                (proxy(&director, nginx), VIP)
            }
        };
        Lane {
            middle,
            target: middle.reached(target),
            program,
            client,
            director,
            server,
            _switch: None,
        }
    }

    /// Client, director and server on one switch: by direct routing, or past the director.
    ///
    /// # Panics
    /// Without root, or without the programs.
    pub fn lan(middle: Middle) -> Lane {
        let (client, director, mut servers, switch) = OneLan::new(1).into_hosts();
        let server = servers.remove(0);
        let (vip, real) = (OneLan::VIP, OneLan::server(0));
        let (program, target) = match middle {
            Middle::Direct => {
                serve(&server, vip, &[]);
                (balance(&director, &[], vip, real, "-g"), vip)
            }
            Middle::DirectV6 => {
                beside([&client, &director, &server]);
                serve(&server, like(vip), &[]);
                (balance(&director, &[], like(vip), like(real), "-g"), vip)
            }
            _ => (Program::None, real),
        };
        Lane {
            middle,
            target: middle.reached(target),
            program,
            client,
            director,
            server,
            _switch: Some(switch),
        }
    }

    /// Client and server on one cable, and nothing between them.
    ///
    /// # Panics
    /// Without root.
    pub fn cable() -> Lane {
        let (client, director, server) = (
            Host::new("client"),
            Host::new("director"),
            Host::new("server"),
        );
        cable((&client, "eth0"), (&server, "eth0"));
        client.address("eth0", &format!("{CLIENT}/24"));
        server.address("eth0", "10.0.0.11/24");
        Lane {
            middle: Middle::Nobody,
            target: Ipv4Addr::new(10, 0, 0, 11).into(),
            program: Program::None,
            client,
            director,
            server,
            _switch: None,
        }
    }

    /// The process in the middle.
    pub fn process(&self) -> Option<u32> {
        match &self.program {
            Program::None => None,
            Program::Director(director) => Some(director.process.id()),
            Program::Other(process) => Some(process.id()),
        }
    }

    /// The director, where there is one.
    pub fn administered(&self) -> Option<&Director> {
        match &self.program {
            Program::Director(director) => Some(director),
            _ => None,
        }
    }

    /// Where a service is reached.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.target, port)
    }
}

/// The server holds the VIP.
fn serve(server: &Host, vip: impl Into<IpAddr>, options: &[&str]) {
    let vip = vip.into().to_string();
    let words = [&["start", "--vip", &vip], options].concat();
    server.succeed(&ours("rsagent").display().to_string(), &words);
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Does nothing where it was not started.
        self.server
            .output(&ours("rsagent").display().to_string(), &["stop"]);
    }
}

/// A director with all services of the benchmark.
fn balance(
    host: &Host,
    options: &[&str],
    vip: impl Into<IpAddr>,
    server: impl Into<IpAddr>,
    method: &str,
) -> Program {
    let (vip, server) = (vip.into(), server.into());
    let director = Director::start_with(host, options);
    cpu::pin(director.process.id(), MIDDLE);
    for (kind, port) in [("-t", HTTP), ("-t", IPERF), ("-t", FLOODED), ("-u", UDP)] {
        let [vip, server] = [vip, server].map(|address| SocketAddr::new(address, port));
        director.admin(&format!("-A {kind} {vip} -s wlc"));
        director.admin(&format!("-a {kind} {vip} -r {server} {method}"));
    }
    // Every packet a new flow: they shall go as they come.
    director.admin(&format!("--set 0 0 {UDP_TIMEOUT}"));
    Program::Director(director)
}

/// A director with one service, for what the host marks.
fn marked(host: &Host) -> Program {
    let vip = VIP.to_string();
    let mark = [
        "-t",
        "mangle",
        "-A",
        "PREROUTING",
        "-d",
        &vip,
        "-j",
        "MARK",
        "--set-mark",
        "1",
    ];
    host.succeed("iptables", &mark);
    let director = Director::start(host);
    cpu::pin(director.process.id(), MIDDLE);
    director.admin("-A -f 1 -s wlc");
    director.admin(&format!("-a -f 1 -r {SERVER} -m"));
    Program::Director(director)
}

fn proxy(host: &Host, command: Command) -> Program {
    let process = host.spawn(command);
    cpu::pin(process.id(), MIDDLE);
    let listens = wait_for(SOON, || {
        host.run(|| std::net::TcpStream::connect((VIP, HTTP)).is_ok())
    });
    assert!(listens, "the proxy does not listen:\n{}", process.printed());
    Program::Other(process)
}

/// A file of the benchmark that is committed beside it.
pub(super) fn committed(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench");
    folder.join(name).display().to_string()
}

/// Behind the director, and not its own.
const FAR_VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Seconds that a UDP flow of one packet is remembered.
pub const UDP_TIMEOUT: u32 = 2;
