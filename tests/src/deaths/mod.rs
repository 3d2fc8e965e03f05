//! Real servers that die and return at random while clients make requests all the time: what the director does
//! is held against when each server died, was declared down, returned and was declared up.

mod clients;
mod clock;
pub mod plan;
pub mod story;
mod tap;

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use shared::host::netlink::Netlink;

use self::clients::Clients;
use self::clock::Clock;
use self::plan::{Way, plan};
use self::story::{Outage, Story};
use self::tap::{Known, Tap};
use crate::host::Host;
use crate::process::scratch;
use crate::programs::{Director, Nginx, rsagent};
use crate::topology::{OneLan, Routed};
use crate::wait::{SOON, wait_for};

/// How packets get to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Both ways through the director.
    Nat,
    /// The servers answer by themselves.
    Direct,
}

/// Lets servers die for so long, as the seed tells, until all have returned.
///
/// # Panics
/// Without root, or if the director does not find that all have returned.
pub fn run(method: Method, seed: u64, length: Duration) -> Story {
    let clock = Clock::start();
    let mut site = Site::new(method);
    let servers = site.servers();
    let tap = Tap::new(
        &site.director_host,
        site.client_address,
        site.known(),
        clock,
    );
    let clients = Clients::start(&site.client, site.vip, clock);
    let begin = clock.now();
    let mut outages: Vec<Outage> = Vec::new();
    for act in acts(seed, servers, length) {
        thread::sleep((begin + act.at).saturating_sub(clock.now()));
        match act.kind {
            // It may be dead a little before it is so, and is back only when it is.
            Kind::Die => {
                outages.push(Outage::new(act.server, act.way, clock.now()));
                site.die(act.server, act.way);
            }
            Kind::Return => {
                site.come_back(act.server, act.way);
                let mut latest = outages.iter_mut().rev();
                let outage = latest.find(|outage| outage.server == act.server);
                outage.expect("it died before").returned = clock.now();
            }
        }
    }
    // A check that was begun before the last return may yet fail.
    thread::sleep(NOTICED);
    let all_up = || site.director.admin("-Ln").matches(" 1      ").count() == servers;
    let up = wait_for(SOON, all_up);
    let listed = site.director.admin("status");
    assert!(up, "{listed}{}", site.director.process.printed());
    // Each of them gets something once more.
    thread::sleep(Duration::from_millis(500));
    let requests = clients.finish();
    let log = site.director.process.printed();
    let addresses = site.addresses.iter().map(|address| format!("{address}:80"));
    Story {
        seed,
        length,
        verdicts: story::verdicts(&log, &addresses.collect::<Vec<_>>(), clock),
        syns: tap.finish(),
        requests,
        outages,
        log,
    }
}

/// What is to happen.
#[derive(Debug, Clone, Copy)]
struct Act {
    at: Duration,
    server: usize,
    way: Way,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Die,
    Return,
}

fn acts(seed: u64, servers: usize, length: Duration) -> Vec<Act> {
    let deaths = plan(seed, servers, length).into_iter();
    let acts = deaths.flat_map(|death| {
        [(death.at, Kind::Die), (death.back, Kind::Return)].map(|(at, kind)| Act {
            at,
            server: death.server,
            way: death.way,
            kind,
        })
    });
    let mut acts: Vec<Act> = acts.collect();
    acts.sort_by_key(|act| act.at);
    acts
}

/// Client, director and servers with nginx.
struct Site {
    method: Method,
    client: Host,
    client_address: Ipv4Addr,
    vip: Ipv4Addr,
    director: Director,
    director_host: Host,
    hosts: Vec<Host>,
    addresses: Vec<Ipv4Addr>,
    web: Vec<Option<Nginx>>,
    _switch: Host,
}

impl Site {
    fn new(method: Method) -> Site {
        let (client, director_host, hosts, switch) = match method {
            Method::Nat => Routed::new(SERVERS).into_hosts(),
            Method::Direct => OneLan::new(SERVERS).into_hosts(),
        };
        let (client_address, vip, address): (_, _, fn(u8) -> Ipv4Addr) = match method {
            Method::Nat => (Routed::CLIENT, Routed::VIP, Routed::server),
            Method::Direct => (OneLan::CLIENT, OneLan::VIP, OneLan::server),
        };
        let addresses: Vec<Ipv4Addr> = (0..SERVERS).map(address).collect();
        if method == Method::Direct {
            for host in &hosts {
                let (code, printed) = rsagent(host, &format!("start --vip {vip}"));
                assert_eq!(code, 0, "{printed}");
            }
        }
        let web = hosts.iter().map(|host| Some(serve(host)));
        let web = web.collect();
        let file = scratch("toml");
        fs::write(&file, configuration(method, vip, &addresses)).expect("a file");
        let options = ["--config", &file.display().to_string()];
        let director = Director::start_with(&director_host, &options);
        let _ = fs::remove_file(&file);
        Site {
            method,
            client,
            client_address,
            vip,
            director,
            director_host,
            hosts,
            addresses,
            web,
            _switch: switch,
        }
    }

    fn servers(&self) -> usize {
        self.hosts.len()
    }

    fn known(&self) -> Known {
        match self.method {
            Method::Nat => Known::ByAddress(self.addresses.clone()),
            Method::Direct => {
                let macs = self.hosts.iter().map(|host| host.ethernet_address("eth0"));
                Known::ByMac(macs.collect())
            }
        }
    }

    fn die(&mut self, server: usize, way: Way) {
        match way {
            Way::Killed => self.web[server] = None,
            Way::Hung => self.signal(server, "STOP"),
            Way::Cut => {
                let host = &self.hosts[server];
                let link = host.ifindex("eth0");
                host.netlink(|netlink: &mut Netlink| netlink.set_link_down(link));
            }
        }
    }

    fn come_back(&mut self, server: usize, way: Way) {
        let host = &self.hosts[server];
        match way {
            Way::Killed => self.web[server] = Some(serve(host)),
            Way::Hung => self.signal(server, "CONT"),
            Way::Cut => {
                let link = host.ifindex("eth0");
                host.netlink(|netlink: &mut Netlink| netlink.set_link_up(link));
                if self.method == Method::Nat {
                    // The route went with the link.
                    host.gateway(Routed::GATEWAY);
                }
            }
        }
    }

    fn signal(&self, server: usize, name: &str) {
        let web = self.web[server].as_ref();
        web.expect("it has not been killed").process.signal(name);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.method == Method::Direct {
            for host in &self.hosts {
                let _ = rsagent(host, "stop");
            }
        }
    }
}

fn serve(host: &Host) -> Nginx {
    Nginx::start(host, host.name(), 80, None)
}

fn configuration(method: Method, vip: Ipv4Addr, servers: &[Ipv4Addr]) -> String {
    let forward = match method {
        Method::Nat => "nat",
        Method::Direct => "dr",
    };
    let mut text = format!(
        "[[service]]\naddress = \"{vip}:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n\
         server_gone = \"auto\"\n\
         check = {{ type = \"http\", path = \"/\", status = [200], interval = \"{}ms\", \
         timeout = \"{}ms\", retry = 1, delay_before_retry = \"{}ms\", warmup = \"0s\" }}\n",
        INTERVAL.as_millis(),
        TIMEOUT.as_millis(),
        DELAY.as_millis()
    );
    for server in servers {
        text +=
            &format!("[[service.server]]\naddress = \"{server}:80\"\nforward = \"{forward}\"\n");
    }
    text
}

const SERVERS: u8 = 4;
const INTERVAL: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_millis(500);
const DELAY: Duration = Duration::from_millis(100);
/// After so long every death is noticed: a check has just begun, and there is one retry.
const NOTICED: Duration = INTERVAL
    .saturating_add(DELAY)
    .saturating_add(TIMEOUT)
    .saturating_add(TIMEOUT);
