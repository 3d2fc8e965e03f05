//! Checks of real servers of IPv6, and what the director shows of them to those who come by IPv6.

use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;

use laboratory::ipv6::{beside, like};
use laboratory::programs::Nginx;
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};
use laboratory::web::page;

use super::lab::{HASTY, Lab};

/// What is judged: one port for each kind of check.
const CHECKS: [(u16, &str); 4] = [
    (80, "type = \"http\", path = \"/\", status = [200]"),
    (8080, "type = \"tcp\""),
    (
        53,
        "type = \"dns\", name = \"www.example.org\", query = \"AAAA\"",
    ),
    (9000, "type = \"ping\""),
];

fn server() -> Ipv6Addr {
    like(Routed::server(0))
}

fn config() -> String {
    let (vip, inner) = (like(Routed::VIP), like(Routed::GATEWAY));
    let mut text = format!(
        "[metrics]\nlisten = \"[{inner}]:9110\"\n\
         [[service]]\naddress = \"[{vip}]:80\"\nprotocol = \"tcp\"\n"
    );
    for (port, check) in CHECKS {
        text += &format!(
            "[[service.server]]\naddress = \"[{}]:{port}\"\nforward = \"nat\"\n\
             check = {{ {check}, {HASTY} }}\n",
            server()
        );
    }
    text
}

#[test]
fn each_kind_of_check_judges_servers_of_ipv6() {
    let net = Routed::new(1);
    beside([&net.client, &net.director].into_iter().chain(&net.servers));
    let host = &net.servers[0];
    let web = [80, 8080].map(|port| Nginx::of_both_families(host, port, None));
    let mut command = Command::new("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--address=/www.example.org/2001:db8::1",
    ]);
    let names = host.spawn(command);
    let lab = Lab::new(net, &config());
    let becomes = |ports: &[u16], health: &str| {
        let all = || {
            ports
                .iter()
                .all(|&port| lab.health(server(), port).0 == health)
        };
        assert!(wait_for(SOON, all), "{ports:?} {health}:\n{}", lab.all());
    };
    becomes(&CHECKS.map(|(port, _)| port), "up");

    drop(web);
    drop(names);
    becomes(&[80, 8080, 53], "down");
    becomes(&[9000], "up");
    let inner = like(Routed::GATEWAY);
    let (_, shown) = page(
        &lab.net.servers[0],
        SocketAddr::new(inner.into(), 9110),
        "/metrics",
    )
    .unwrap();
    let name = |port| {
        let (vip, server) = (like(Routed::VIP), server());
        format!("lvs_backend_up{{backend=\"[{server}]:{port}\",service=\"TCP [{vip}]:80\"}}")
    };
    for (port, up) in [(80, "0"), (9000, "1")] {
        let line = format!("{} {up}", name(port));
        assert!(shown.lines().any(|shown| shown == line), "{line}:\n{shown}");
    }

    let host = &lab.net.servers[0];
    host.succeed("ip", &["link", "set", "eth0", "down"]);
    becomes(&[9000], "down");
    let log = lab.director.process.printed();
    let words = format!(
        "[{}]:9000 is down, for TCP [{}]:80: its check by ping fails: ",
        server(),
        like(Routed::VIP)
    );
    assert!(log.contains(&words), "{log}");
}
