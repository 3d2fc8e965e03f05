//! Checks of pages, with and without TLS.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use laboratory::papers::Papers;
use laboratory::process::scratch;
use laboratory::programs::Nginx;
use laboratory::topology::Routed;

use super::lab::{Fake, Lab, babbles, breaks, closes, drips, hangs, one_service, talks};

#[test]
fn a_page_fails_in_many_ways() {
    let net = Routed::new(1);
    let host = &net.servers[0];
    let _web = Nginx::start(host, "all is well on $host", 80, None);
    let _fakes = [
        Fake::start(host, 9002, hangs),
        Fake::start(host, 9003, closes),
        Fake::start(host, 9004, drips),
        Fake::start(host, 9005, talks),
        Fake::start(host, 9006, breaks),
        Fake::start(host, 9007, babbles),
    ];
    // All that is asked of nginx is asked at port 80.
    let at_80 = |words: &str| format!("type = \"http\", port = 80, {words}");
    let good = [
        at_80("path = \"/\""),
        at_80("host = \"www.example.org\", regex = '^all is \\w+ on www.example.org\\s$'"),
        // md5sum and sha256sum of what nginx says.
        at_80(&format!("host = \"h\", digest = \"{}\"", sum("md5sum"))),
        at_80(&format!("host = \"h\", sha256 = \"{}\"", sum("sha256sum"))),
        at_80(
            "http_version = \"1.1\", status = [\"200-204\"], host = \"h\", regex = \"^all is well on h\"",
        ),
        at_80("urls = [{ path = \"/\" }, { path = \"/absent\", status = [404] }]"),
        at_80("bind = \"10.1.0.1\", regex = \"ill\", regex_no_match = true"),
    ];
    let bad = [
        (9001, "type = \"http\"".to_owned(), "fails: refused"),
        (
            9002,
            "type = \"http\"".to_owned(),
            "timed out after 500 ms, waiting for the answer",
        ),
        (
            9003,
            "type = \"http\"".to_owned(),
            "closed before it answered",
        ),
        (
            9004,
            "type = \"http\"".to_owned(),
            "timed out after 500 ms, waiting for the answer",
        ),
        (
            9005,
            "type = \"http\", regex = \"y\"".to_owned(),
            "the body has more than 65536 bytes",
        ),
        (
            9006,
            "type = \"http\"".to_owned(),
            "closed before the end of the body",
        ),
        (9007, "type = \"http\"".to_owned(), "the answer is no HTTP"),
        (
            9011,
            at_80("path = \"/absent\""),
            "status 404, expected 200-299",
        ),
        (9012, at_80("status = [301]"), "status 200, expected 301"),
        (
            9013,
            at_80("regex = \"ill\""),
            "the body does not match \"ill\"",
        ),
        (
            9014,
            at_80("digest = \"00112233445566778899aabbccddeeff\""),
            "MD5 of the body is ",
        ),
        (
            9015,
            at_80("urls = [{ path = \"/\" }, { path = \"/absent\" }]"),
            "status 404, expected 200-299",
        ),
    ];
    let servers = bad.iter().map(|(port, check, _)| (*port, check.as_str()));
    let well = good.iter().enumerate();
    let well = well.map(|(number, check)| (8000 + number as u16, check.as_str()));
    let config = one_service(servers.chain(well));
    let lab = Lab::new(net, &config);
    for (port, _, words) in &bad {
        lab.falls(*port, words);
    }
    for number in 0..good.len() as u16 {
        let (health, reason) = lab.health(Routed::server(0), 8000 + number);
        assert_eq!(
            (health.as_str(), reason.as_str()),
            ("up", ""),
            "{}",
            lab.all()
        );
    }
    let checks = lab.status()["checks"].as_array().unwrap().clone();
    assert!(
        checks.iter().all(|check| check["checked"] == true),
        "{}",
        lab.all()
    );
}

/// Of what nginx says when it is called h.
fn sum(program: &str) -> String {
    let line = format!("printf 'all is well on h\\n' | {program}");
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_page_by_tls_has_a_certificate() {
    let net = Routed::new(1);
    let host = &net.servers[0];
    let papers = Papers::new("laboratory", "P-256");
    let good = papers.issue("good", "www.example.org", 30);
    let expired = papers.issue("expired", "www.example.org", -1);
    let strange = Papers::new("elsewhere", "P-256");
    let stranger = strange.issue("stranger", "www.example.org", 30);
    let secured = |port, (certificate, key): &(PathBuf, PathBuf)| {
        Nginx::secured(host, "all is well", port, certificate, key)
    };
    let _web = [
        secured(443, &good),
        secured(444, &expired),
        secured(445, &stranger),
    ];
    let _plain = Nginx::start(host, "all is well", 80, None);
    let _fakes = [
        Fake::start(host, 9002, hangs),
        Fake::start(host, 9003, closes),
        Fake::start(host, 9007, babbles),
    ];
    let ca = format!("ca_file = \"{}\"", papers.authority().display());
    let at = |port: u16, words: &str| format!("type = \"https\", port = {port}, {words}");
    let named = "host = \"www.example.org\"";
    let well = [
        // keepalived's way: any certificate will do.
        at(443, "path = \"/\", regex = \"well\""),
        at(444, named),
        at(445, named),
        at(443, &format!("{named}, {ca}")),
        at(
            443,
            &format!("sni = \"www.example.org\", {ca}, http_version = \"1.1\""),
        ),
    ];
    let bad = [
        (9001, "type = \"https\"".to_owned(), "fails: refused"),
        (
            9002,
            "type = \"https\"".to_owned(),
            "timed out after 500 ms, in the TLS handshake",
        ),
        (
            9003,
            "type = \"https\"".to_owned(),
            "closed before the end of the TLS handshake",
        ),
        (9007, "type = \"https\"".to_owned(), "fails: TLS: "),
        (9011, at(80, "path = \"/\""), "fails: TLS: "),
        (
            9012,
            at(444, &format!("{named}, {ca}")),
            "fails: certificate: it has expired",
        ),
        (
            9013,
            at(445, &format!("{named}, {ca}")),
            "fails: certificate: nobody who is trusted has signed it",
        ),
        (
            9014,
            at(443, &format!("host = \"other.example.org\", {ca}")),
            "fails: certificate: it is for another name than other.example.org",
        ),
        (
            9015,
            at(443, &format!("{named}, verify = true")),
            "fails: certificate: nobody who is trusted has signed it",
        ),
        (
            9016,
            at(443, "path = \"/absent\""),
            "status 404, expected 200-299",
        ),
    ];
    let servers = bad.iter().map(|(port, check, _)| (*port, check.as_str()));
    let numbered = well.iter().enumerate();
    let numbered = numbered.map(|(number, check)| (8000 + number as u16, check.as_str()));
    let config = one_service(servers.chain(numbered));
    let lab = Lab::new(net, &config);
    for (port, _, words) in &bad {
        lab.falls(*port, words);
    }
    for number in 0..well.len() as u16 {
        let (health, reason) = lab.health(Routed::server(0), 8000 + number);
        assert_eq!(
            (health.as_str(), reason.as_str()),
            ("up", ""),
            "{}",
            lab.all()
        );
    }
}

#[test]
fn authorities_that_are_not_there_are_a_fault_of_the_configuration() {
    let file = scratch("toml");
    let config = one_service([(80, "type = \"https\", ca_file = \"/absent/ca.pem\"")]);
    fs::write(&file, config).unwrap();
    let output = Command::new(laboratory::programs::ours("director"))
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    fs::remove_file(&file).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("cannot read the authorities of checks, /absent/ca.pem: "),
        "{errors}"
    );
}
