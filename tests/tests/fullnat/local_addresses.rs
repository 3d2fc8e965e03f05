//! Where local addresses come from and where they go.

use std::fs;
use std::time::Duration;

use laboratory::process::scratch;
use laboratory::programs::Director;
use laboratory::wait::{SOON, wait_for};
use socket2::SockRef;

use super::common::Pair;
use super::{CONFIG, Lab};

#[test]
fn a_killed_director_s_local_address_is_found_again_and_removed_at_the_end() {
    let lab = Lab::new();
    let mut director = lab.start();
    assert!(lab.has(9));
    end(&mut director, "KILL");
    assert!(lab.has(9));
    let mut director = lab.start();
    assert!(lab.has(9));
    end(&mut director, "TERM");
    assert!(!lab.has(9));
}

#[test]
fn what_a_killed_director_left_and_nobody_needs_is_removed_unless_another_is_there() {
    let lab = Lab::new();
    let mut director = lab.start();
    let another = lab.start_with("");
    assert!(lab.has(9));
    end(&mut director, "KILL");
    drop(another);
    assert!(lab.has(9));
    let _next = lab.start_with("");
    assert!(!lab.has(9));
    // What the laboratory itself has put there carries the mark of VIPs.
    assert!(lab.has(1));
}

#[test]
fn an_address_of_the_administrator_s_is_refused_as_a_local_address() {
    let lab = Lab::new();
    let by_hand = ["address", "add", "10.9.0.9/24", "dev", "rt"];
    lab.director.succeed("ip", &by_hand);
    let mut director = lab.start();
    let listing = director.admin("-Ln");
    assert!(!listing.contains("10.1.0.11"), "{listing}");
    end(&mut director, "TERM");
    assert!(lab.has(9));
}

#[test]
fn lvsadm_adds_local_addresses_and_removes_them_when_their_connections_have_ended() {
    let lab = Lab::new();
    let file = scratch("toml");
    fs::write(&file, CONFIG).unwrap();
    let name = file.display().to_string();
    let director = Director::start_with(&lab.director, &["--config", &name]);
    director.admin("-P -z 10.9.0.10 -t 10.0.0.100:80");
    assert!(lab.has(10));
    director.admin("-Q -z 10.9.0.9");
    assert!(!lab.has(9));
    let mut pair = Pair::connect(&lab.client, &lab.server, "10.0.0.100:80", 8080);
    pair.talk();
    assert_eq!(
        pair.server.peer_addr().unwrap().ip().to_string(),
        "10.9.0.10"
    );
    for (words, fault) in [
        ("-P -z 10.9.0.1", "is an address of this host already"),
        ("-P -z 10.0.0.100", "is an address of this host already"),
        ("-P -z 10.9.0.11 -F eth7", "there is no such interface"),
        ("-Q -z 10.9.0.9", "is no local address"),
        ("-Q -z 10.9.0.10", "is the last one"),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let output = director.lvsadm(&words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && errors.contains(fault),
            "{errors}"
        );
    }
    assert!(!lab.has(11));
    // The same file again changes nothing of that.
    director.process.signal("HUP");
    let loaded = || director.process.printed().contains("is loaded again");
    assert!(wait_for(SOON, loaded), "{}", director.process.printed());
    fs::remove_file(&file).unwrap();
    assert!(lab.has(10) && !lab.has(9));
    director.admin("-P -z 10.9.0.9");
    director.admin("-Q -z 10.9.0.10");
    pair.talk();
    assert!(lab.has(10));
    let listing = director.admin("-G");
    assert!(
        listing.contains("10.9.0.10                    0         1          -"),
        "{listing}"
    );
    // A reset, after which the director forgets it soonest.
    SockRef::from(&pair.client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(pair);
    assert!(wait_for(2 * SOON, || !lab.has(10)));
    assert!(lab.has(9));
}

#[test]
fn saved_local_addresses_come_back_from_the_rules() {
    let lab = Lab::new();
    let mut director = lab.start();
    director.admin("-P -z 10.9.0.10 -F cl");
    let saved = director.admin("-Sn");
    end(&mut director, "KILL");
    let rules = scratch("rules");
    fs::write(&rules, saved).unwrap();
    let _director = lab.start_with(&format!("[director]\nrules = {rules:?}\n"));
    fs::remove_file(&rules).unwrap();
    assert!(lab.has(9) && lab.has(10));
    let mut from = Vec::new();
    for _ in 0..2 {
        let mut pair = Pair::connect(&lab.client, &lab.server, "10.0.0.100:80", 8080);
        pair.talk();
        from.push(pair.server.peer_addr().unwrap().ip().to_string());
    }
    from.sort();
    assert_eq!(from, ["10.9.0.10", "10.9.0.9"]);
}

/// Ends a director by a signal.
fn end(director: &mut Director, signal: &str) {
    director.process.signal(signal);
    director.process.ended(SOON);
}
