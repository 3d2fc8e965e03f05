//! What serves when the servers do not: the sorry server, and who is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use laboratory::process::scratch;
use laboratory::programs::Nginx;
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};

use crate::lab::{HASTY, Lab};

const SORRY: &str = "127.0.0.1:80";

/// Two servers behind NAT, and what else the service is to have.
fn config(more: &str) -> String {
    format!(
        "[[service]]\naddress = \"10.0.0.100:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n\
         check = {{ type = \"http\", path = \"/\", {HASTY} }}\n{more}\
         [[service.server]]\naddress = \"10.1.0.11:80\"\nforward = \"nat\"\n\
         [[service.server]]\naddress = \"10.1.0.12:80\"\nforward = \"nat\"\n"
    )
}

fn nginx(net: &Routed, number: usize) -> Nginx {
    let server = &net.servers[number];
    Nginx::start(server, server.name(), 80, None)
}

/// These sentences are in the log, each behind the one before.
#[track_caller]
fn in_order(lab: &Lab, sentences: &[&str]) {
    let holds = || {
        let log = lab.director.process.printed();
        let mut rest = log.as_str();
        sentences
            .iter()
            .all(|sentence| match rest.split_once(sentence) {
                Some((_, behind)) => {
                    rest = behind;
                    true
                }
                None => false,
            })
    };
    assert!(wait_for(SOON, holds), "{sentences:?}:\n{}", lab.all());
}

#[test]
fn the_sorry_server_on_the_director_serves_until_somebody_is_back() {
    let net = Routed::new(2);
    let (first, second) = (nginx(&net, 0), nginx(&net, 1));
    let _sorry = Nginx::start(&net.director, "sorry", 80, None);
    let told = scratch("told");
    let script = scratch("tell");
    let text = format!(
        "#!/bin/sh\necho $1 $LVS_STATE $LVS_SERVER >>{}\n",
        told.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let tell = |key: &str, who: &str| format!("{key} = [{script:?}, \"{who}\"]\n");
    let more = [
        format!("sorry_server = {{ address = \"{SORRY}\" }}\n"),
        tell("quorum_up", "quorum"),
        tell("quorum_down", "quorum"),
        tell("notify_up", "server"),
        tell("notify_down", "server"),
        "omega = true\n".to_owned(),
    ];
    let mut lab = Lab::new(net, &config(&more.concat()));
    assert_eq!(lab.answers(10), ["server 1", "server 2"]);

    drop((first, second));
    in_order(
        &lab,
        &[
            ":80 is down",
            ":80 is down",
            "TCP 10.0.0.100:80 has lost its quorum, weight 0 of 1: sorry server 127.0.0.1:80 serves",
        ],
    );
    assert_eq!(lab.answers(10), ["sorry"]);
    let status = lab.director.admin("status");
    assert!(
        status.contains("127.0.0.1:80          sorry     weight 1"),
        "{status}"
    );
    let listed = lab.director.admin("-Ln");
    assert!(
        listed.contains("-> 127.0.0.1:80                 Local   1"),
        "{listed}"
    );
    // It is no server of the administrator's.
    let saved = lab.director.admin("-Sn");
    assert!(!saved.contains("127.0.0.1"), "{saved}");

    let _second = nginx(&lab.net, 1);
    in_order(
        &lab,
        &[
            "10.1.0.12:80 is up",
            "has its quorum, weight 1 of 1: sorry server 127.0.0.1:80 is out of service",
        ],
    );
    assert_eq!(lab.answers(10), ["server 2"]);
    let lines = || fs::read_to_string(&told).unwrap_or_default();
    let mut expected = vec![
        "server down 10.1.0.11:80",
        "server down 10.1.0.12:80",
        "quorum down ",
        "server up 10.1.0.12:80",
        "quorum up ",
    ];
    let told_all = |expected: &[&str]| {
        let mut expected: Vec<String> =
            expected.iter().map(|line| line.trim().to_owned()).collect();
        expected.sort();
        let told = wait_for(SOON, || {
            let text = lines();
            let mut said: Vec<&str> = text.lines().map(str::trim).collect();
            said.sort_unstable();
            said == expected
        });
        assert!(told, "{}", lines());
    };
    told_all(&expected);
    // At the end everything counts as down.
    lab.director.process.signal("TERM");
    assert!(lab.director.process.ended(SOON).success());
    expected.extend(["server down 10.1.0.12:80", "quorum down "]);
    told_all(&expected);
    let _ = fs::remove_file(told);
    let _ = fs::remove_file(script);
}

#[test]
fn when_all_fail_at_once_all_stay_if_that_is_not_to_be_believed() {
    let net = Routed::new(2);
    let (first, second) = (nginx(&net, 0), nginx(&net, 1));
    let lab = Lab::new(net, &config("panic_threshold = 60\n"));
    assert_eq!(lab.answers(10), ["server 1", "server 2"]);
    // From the director alone they cannot be reached.
    let rule = |word: &str| {
        let words = [
            "-t", "filter", word, "INPUT", "-i", "rs", "-p", "tcp", "--sport", "80", "-j", "DROP",
        ];
        lab.net.director.succeed("iptables", &words);
    };
    rule("-A");
    in_order(
        &lab,
        &["2 of 2 real servers of TCP 10.0.0.100:80 have failed at once, which is not believed"],
    );
    assert_eq!(lab.answers(10), ["server 1", "server 2"]);
    rule("-D");
    in_order(&lab, &["are believed again"]);
    // One alone is believed.
    drop(first);
    lab.becomes(Routed::server(0), 80, "down");
    assert_eq!(lab.answers(10), ["server 2"]);
    drop(second);
}
