//! Quorum, sorry server and whom a service tells, in the configuration file.

use std::time::Duration;

use director::config::{Config, Guarding};
use director::core::guard::{Guard, Panic};
use director::core::operation::{ForwardMethod, ServerKey, ServerSpec};

const SERVICE: &str = "[[service]]\naddress = \"192.0.2.1:80\"\nprotocol = \"tcp\"\n";

/// Of a service that is written so, from line 4 on.
fn guarding(text: &str) -> Guarding {
    let config = Config::parse(&format!("{SERVICE}{text}"), "d.toml");
    let config = config.unwrap_or_else(|faults| panic!("{faults}"));
    config.services.into_iter().next().expect("one").guarding
}

#[track_caller]
fn fault(text: &str, expected: &str) {
    let faults = Config::parse(&format!("{SERVICE}{text}"), "d.toml").expect_err("a bad file");
    assert_eq!(faults.to_string().trim_end(), expected);
}

fn server(host: u8) -> ServerKey {
    ServerKey {
        address: [10, 1, 0, host].into(),
        port: 80,
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn what_is_left_out_is_as_keepaliveds() {
    assert_eq!(guarding(""), Guarding::default());
    assert_eq!(Guarding::default().guard.quorum, 1);
}

#[test]
fn everything_can_be_said() {
    let guarding = guarding(
        r#"
quorum = 3
hysteresis = 1
sorry_server = { address = "192.0.2.9:8080", forward = "nat" }
panic_threshold = 50
quorum_up = ["/bin/up", "a b"]
quorum_down = ["/bin/down"]
notify_down = ["/bin/alarm"]
omega = true
inhibit_on_failure = true
[[service.check]]
type = "tcp"
interval = "7s"
[[service.check]]
type = "tcp"
port = 81
interval = "2s"
[[service.server]]
address = "10.1.0.11"
notify_up = ["/bin/own"]
[[service.server]]
address = "10.1.0.12"
inhibit_on_failure = false
notify_down = ["/bin/other"]
"#,
    );
    let expected = Guard {
        quorum: 3,
        hysteresis: 1,
        sorry: Some(ServerSpec::new([192, 0, 2, 9], 8080, ForwardMethod::Nat, 1)),
        inhibited: [server(11)].into(),
        panic: Some(Panic {
            percent: 50,
            within: Duration::from_secs(7),
        }),
    };
    assert_eq!(guarding.guard, expected);
    let notices = guarding.notices;
    assert!(notices.omega);
    assert_eq!(notices.quorum_up, Some(words(&["/bin/up", "a b"])));
    assert_eq!(notices.quorum_down, Some(words(&["/bin/down"])));
    assert_eq!(
        notices.server_up,
        [(server(11), words(&["/bin/own"]))].into()
    );
    let down = [
        (server(11), words(&["/bin/alarm"])),
        (server(12), words(&["/bin/other"])),
    ];
    assert_eq!(notices.server_down, down.into());
}

#[test]
fn a_sorry_server_is_on_the_director_or_elsewhere() {
    let sorry = |text: &str| {
        guarding(&format!("sorry_server = {{ {text} }}\n"))
            .guard
            .sorry
    };
    let at = |address: [u8; 4], port, method| Some(ServerSpec::new(address, port, method, 1));
    assert_eq!(
        sorry("address = \"127.0.0.1:80\""),
        at([127, 0, 0, 1], 80, ForwardMethod::Local)
    );
    assert_eq!(
        sorry("address = \"192.0.2.9\""),
        at([192, 0, 2, 9], 80, ForwardMethod::Direct)
    );
    assert_eq!(
        sorry("address = \"192.0.2.9\", forward = \"fullnat\""),
        at([192, 0, 2, 9], 80, ForwardMethod::FullNat)
    );
}

#[test]
fn faults_say_what_to_write_instead() {
    for (text, expected) in [
        (
            "quorum = 2\nhysteresis = 2\n",
            "d.toml:5:14: hysteresis 2 is not below quorum 2; write a lower one, or a higher quorum",
        ),
        (
            "sorry_server = { address = \"127.0.0.1:80\", forward = \"nat\" }\n",
            "d.toml:4:54: 127.0.0.1 is the director itself, where packets get by forward = \"local\" only; \
             write that, or leave `forward' out",
        ),
        (
            "sorry_server = { address = \"127.0.0.1:8080\" }\n",
            "d.toml:4:28: sorry server 127.0.0.1:8080 has not the port of its service, and \"local\" does not \
             change ports; write \"127.0.0.1:80\", or forward = \"nat\"",
        ),
        (
            "sorry_server = { address = \"127.0.0.1:80\", weigth = 2 }\n",
            "d.toml:4:44: sorry_server has no key `weigth'; it has address, forward",
        ),
        (
            "sorry_server = { address = \"10.1.0.11\" }\n[[service.server]]\naddress = \"10.1.0.11\"\n",
            "d.toml:4:16: 10.1.0.11:80 is a real server of the service, and cannot stand in for it; write \
             another sorry server",
        ),
        (
            "quorum_up = [\"mail\"]\n",
            "d.toml:4:13: `quorum_up' needs a program by its path from the root; write quorum_up = \
             [\"/usr/local/bin/tell\", \"ARGUMENT\"]",
        ),
    ] {
        fault(text, expected);
    }
}
