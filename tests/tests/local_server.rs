//! A real server that is the director itself, as sorry servers are.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

use laboratory::programs::{Director, Nginx};
use laboratory::topology::Routed;

/// Whatever the host's settings are; and it goes on being an ordinary port of the host for everybody else.
#[test]
fn the_director_answers_itself_when_nobody_else_can() {
    let lab = Routed::new(1);
    let _web = Nginx::start(&lab.servers[0], "server", 80, None);
    let _sorry = Nginx::start(&lab.director, "sorry", 80, None);
    let director = Director::start(&lab.director);
    director.admin("-A -t 10.0.0.100:80 -s wrr");
    director.admin("-a -t 10.0.0.100:80 -r 10.1.0.11:80 -m -w 0");
    director.admin("-a -t 10.0.0.100:80 -r 127.0.0.1:80 -g");
    let ask = |address: &str| {
        let url = format!("http://{address}/");
        lab.client.succeed("curl", &["-sS", "-m", "20", &url])
    };
    for filter in ["0", "1", "2"] {
        for device in ["all", "cl"] {
            let setting = format!("net/ipv4/conf/{device}/rp_filter");
            lab.director.sysctl(&setting, filter);
        }
        assert_eq!(ask("10.0.0.100"), "sorry\n", "rp_filter {filter}");
    }
    assert_eq!(ask("10.0.0.1"), "sorry\n");
    director.admin("-e -t 10.0.0.100:80 -r 10.1.0.11:80 -m -w 1");
    director.admin("-e -t 10.0.0.100:80 -r 127.0.0.1:80 -g -w 0");
    assert_eq!(ask("10.0.0.100"), "server\n");
    let listed = director.admin("-Lnc");
    let local = listed.lines().filter(|row| row.contains("127.0.0.1:80"));
    assert_eq!(local.count(), 3, "{listed}");
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}
