//! Health checks in the configuration file: what is wrong with them, what they mean, and what they leave out.

use std::sync::Arc;
use std::time::Duration;

use director::config::{Checks, Config};
use director::core::operation::ServerKey;
use director::health::checks::{
    Check, Digest, Dns, Http, HttpVersion, Kind, Nibbles, Reply, Script, StatusRange, Timing, Tls,
    Trust, Udp, Url,
};

const SERVICE: &str = "[[service]]\naddress = \"192.0.2.1:80\"\nprotocol = \"tcp\"\n";

/// The checks of a service that is written so, from line 4 on.
fn checks(text: &str) -> Checks {
    let config = Config::parse(&format!("{SERVICE}{text}"), "d.toml");
    let config = config.unwrap_or_else(|faults| panic!("{faults}"));
    config.services.into_iter().next().expect("one").checks
}

/// The only check of that service.
fn check(text: &str) -> Check {
    let checks = checks(&format!("[service.check]\n{text}")).service.checks;
    let [check] = <[Check; 1]>::try_from(checks).expect("one check");
    check
}

#[track_caller]
fn faults(text: &str, expected: &str) {
    let text = format!("{SERVICE}{text}");
    let faults = Config::parse(&text, "d.toml").expect_err("a bad file");
    assert_eq!(faults.to_string(), expected.trim_end());
}

fn url(path: &str) -> Url {
    Url {
        path: path.to_owned(),
        host: None,
        status: vec![StatusRange(200, 299)],
        digest: None,
        sha256: None,
        regex: None,
        regex_no_match: false,
    }
}

fn http(check: &Check) -> &Http {
    match &*check.kind {
        Kind::Http(http) => http,
        other => panic!("{other:?}"),
    }
}

fn server(host: u8) -> ServerKey {
    ServerKey {
        address: [10, 1, 0, host].into(),
        port: 80,
    }
}

#[test]
fn what_is_left_out_is_keepalived_s() {
    let secs = Duration::from_secs;
    let usual = Timing {
        interval: secs(60),
        timeout: secs(5),
        retry: 1,
        delay_before_retry: secs(1),
        warmup: secs(60),
        alpha: false,
    };
    let tcp = check("type = \"tcp\"");
    assert_eq!((&*tcp.kind, tcp.timing), (&Kind::Tcp, usual));
    assert_eq!((tcp.address, tcp.port, tcp.bind), (None, None, None));
    let web = check("type = \"http\"");
    let expected = Http {
        urls: vec![url("/")],
        version: HttpVersion::V1_0,
        tls: None,
    };
    assert_eq!(http(&web), &expected);
    let slower = Timing {
        delay_before_retry: secs(3),
        ..usual
    };
    assert_eq!(web.timing, slower);
    let secure = check("type = \"https\"");
    let anybody = Tls {
        trust: Trust::Anybody,
        sni: None,
    };
    assert_eq!(http(&secure).tls, Some(anybody));
    assert_eq!(secure.timing, slower);
    let dns = check("type = \"dns\"\ninterval = \"7s\"");
    let root = Dns {
        name: ".".to_owned(),
        query: 6,
    };
    assert_eq!(*dns.kind, Kind::Dns(root));
    let patient = Timing {
        interval: secs(7),
        retry: 3,
        delay_before_retry: secs(7),
        warmup: secs(7),
        ..usual
    };
    assert_eq!(dns.timing, patient);
    let script = check("type = \"script\"\ncommand = [\"/bin/check\", \"-x\"]\ninterval = \"7s\"");
    let command = Script {
        command: vec!["/bin/check".to_owned(), "-x".to_owned()],
        dynamic: false,
    };
    assert_eq!(*script.kind, Kind::Script(command));
    let at_once = Timing {
        interval: secs(7),
        timeout: secs(7),
        retry: 0,
        warmup: secs(7),
        ..usual
    };
    assert_eq!(script.timing, at_once);
    let helo = "smtpchecker.keepalived.org".to_owned();
    assert_eq!(*check("type = \"smtp\"").kind, Kind::Smtp { helo });
    assert_eq!(*check("type = \"ping\"").kind, Kind::Ping);
    let udp = Udp {
        payload: None,
        reply: None,
    };
    assert_eq!(*check("type = \"udp\"").kind, Kind::Udp(udp));
}

#[test]
fn what_is_written_counts() {
    let full = check(
        r#"type = "https"
interval = "5s"
timeout = "1s"
retry = 4
delay_before_retry = "0s"
warmup = "0s"
alpha = true
address = "10.9.0.1"
port = 8443
bind = "10.9.0.2"
http_version = "1.1"
path = "/healthz"
host = "www.example.org"
status = [200, "301-302"]
digest = "00112233445566778899AABBCCDDEEFF"
regex = 'w[eo]ll\s'
regex_no_match = true
ca_file = "/etc/ca.pem"
sni = "other.example.org"
"#,
    );
    assert_eq!(full.address, Some([10, 9, 0, 1].into()));
    assert_eq!(full.bind, Some([10, 9, 0, 2].into()));
    assert_eq!(full.port, Some(8443));
    let timing = Timing {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        retry: 4,
        delay_before_retry: Duration::ZERO,
        warmup: Duration::ZERO,
        alpha: true,
    };
    assert_eq!(full.timing, timing);
    let Http { urls, version, tls } = http(&full);
    assert_eq!(*version, HttpVersion::V1_1);
    let trust = Trust::File("/etc/ca.pem".into());
    let sni = Some("other.example.org".to_owned());
    assert_eq!(*tls, Some(Tls { trust, sni }));
    assert_eq!(urls.len(), 1);
    assert_eq!(
        urls[0].status,
        [StatusRange(200, 200), StatusRange(301, 302)]
    );
    assert_eq!(urls[0].host.as_deref(), Some("www.example.org"));
    assert_eq!(
        urls[0].digest,
        Digest::parse("00112233445566778899aabbccddeeff")
    );
    assert!(
        urls[0]
            .regex
            .as_ref()
            .expect("one")
            .is_found(b"all well \n")
    );
    assert!(urls[0].regex_no_match);

    let several = check(
        "type = \"http\"\nurls = [{ path = \"/a\" }, { path = \"/b\", sha256 = \"\
         00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\" }]",
    );
    let [a, b] = &http(&several).urls[..] else {
        panic!("{several:?}");
    };
    assert_eq!(*a, url("/a"));
    assert!(b.sha256.is_some());
    assert_eq!(b.status, [], "as in keepalived");
    let verified = check("type = \"https\"\nverify = true");
    let trust = http(&verified).tls.as_ref().map(|tls| &tls.trust);
    assert_eq!(trust, Some(&Trust::Host));

    let udp =
        check("type = \"udp\"\npayload = \"0a 0b\"\nrequire_reply = \"aX\"\nmin_reply_length = 3");
    let reply = |pattern, least| {
        Some(Reply {
            pattern,
            least,
            most: 255,
        })
    };
    let expected = Udp {
        payload: Some(vec![10, 11]),
        reply: reply(Nibbles::parse("aX").expect("nibbles"), 3),
    };
    assert_eq!(*udp.kind, Kind::Udp(expected));
    let udp = check("type = \"udp\"\nrequire_reply = true");
    let expected = Udp {
        payload: None,
        reply: reply(Vec::new(), 0),
    };
    assert_eq!(*udp.kind, Kind::Udp(expected));
    let dns = check("type = \"dns\"\nname = \"www.example.org\"\nquery = \"AAAA\"");
    let expected = Dns {
        name: "www.example.org".to_owned(),
        query: 28,
    };
    assert_eq!(*dns.kind, Kind::Dns(expected));
    let script = check("type = \"script\"\ncommand = [\"/x\"]\ndynamic = true");
    assert!(matches!(&*script.kind, Kind::Script(script) if script.dynamic));
}

#[test]
fn a_server_says_what_is_other_than_in_its_service() {
    let checks = checks(
        r#"check = { type = "http", path = "/a", host = "h", interval = "5s", retry = 2 }
[[service.server]]
address = "10.1.0.1:80"
forward = "nat"
[[service.server]]
address = "10.1.0.2:80"
forward = "nat"
check = { path = "/b", port = 8080 }
[[service.server]]
address = "10.1.0.3:80"
forward = "nat"
check = { type = "tcp", interval = "9s" }
[[service.server]]
address = "10.1.0.4:80"
forward = "nat"
check = { urls = [{ path = "/c" }] }
[[service.server]]
address = "10.1.0.5:80"
forward = "nat"
check = []
"#,
    );
    let of = |host| checks.of(&server(host)).checks.clone();
    let [service] = &checks.service.checks[..] else {
        panic!("{checks:?}");
    };
    assert_eq!(of(1), checks.service.checks);
    assert_eq!(of(9), checks.service.checks, "what lvsadm adds");
    let own = Check {
        kind: Arc::new(Kind::Http(Http {
            urls: vec![Url {
                host: Some("h".to_owned()),
                ..url("/b")
            }],
            version: HttpVersion::V1_0,
            tls: None,
        })),
        port: Some(8080),
        ..service.clone()
    };
    assert_eq!(of(2), [own]);
    let [tcp] = &of(3)[..] else { panic!() };
    assert_eq!(*tcp.kind, Kind::Tcp);
    assert_eq!((tcp.timing.interval.as_secs(), tcp.timing.retry), (9, 1));
    let [several] = &of(4)[..] else { panic!() };
    assert_eq!(http(several).urls, [url("/c")]);
    assert_eq!(several.timing, service.timing);
    assert_eq!(of(5), [], "nobody judges it");
}

#[test]
fn several_checks_stand_beside_an_agent() {
    let text = format!(
        "[agents]\ninsecure = true\n{SERVICE}[[service.check]]\ntype = \"tcp\"\n\
         [[service.check]]\ntype = \"agent\"\nmissed = 7\n[[service.check]]\ntype = \"ping\"\n"
    );
    let config = Config::parse(&text, "d.toml").expect("nothing is wrong");
    let judges = config.services[0].checks.of(&server(1));
    assert_eq!(judges.agent.map(|agent| agent.missed), Some(7));
    let kinds: Vec<&str> = judges
        .checks
        .iter()
        .map(|check| check.kind.name())
        .collect();
    assert_eq!(kinds, ["tcp", "ping"]);
}

#[test]
fn faults_say_what_to_write() {
    faults(
        r#"[service.check]
type = "https"
timeout = "1ms"
retry = 2000
port = 0
address = "rs1"
path = "healthz"
host = "a b"
status = [99, "300-200", true, "+200"]
http_version = "2"
digest = "beef"
regex = "("
verify = false
ca_file = "ca.pem"
sni = "10.0.0.1"
command = ["/x"]
"#,
        r#"d.toml:6:11: `timeout' takes a time from "50ms" to "86400s"; write "1s"
d.toml:7:9: `retry' is 2000, out of range; write a whole number from 0 to 1000
d.toml:8:8: `port' is 0, out of range; write a whole number from 1 to 65535
d.toml:9:11: "rs1" is not an IP address; write one, as in "192.168.100.8" (names are not looked up)
d.toml:10:8: `path' is "healthz"; write one such as "/healthz"
d.toml:11:8: `host' is "a b"; write one such as "www.example.org"
d.toml:12:11: `status' is 99, out of range; write a whole number from 100 to 599
d.toml:12:15: `status' has "300-200"; write numbers from 100 to 599, the smaller one first, as in "100-599"
d.toml:12:26: `status' is a boolean; write a whole number from 100 to 599
d.toml:12:32: `status' has "+200"; write numbers from 100 to 599, the smaller one first, as in "100-599"
d.toml:13:16: http_version "2" is unknown; write "1.0" or "1.1"
d.toml:14:10: `digest' is "beef"; write the 32 hexadecimal digits that `curl -s URL | md5sum' prints
d.toml:15:9: `regex' is no regular expression: unclosed group; write one of the crate regex (docs.rs/regex), in which a backslash is best written in single quotes
d.toml:16:10: with `ca_file' certificates are verified; leave `verify' or `ca_file' out
d.toml:17:11: `ca_file' is "ca.pem", which depends on where the director is started; write a path from the root
d.toml:18:7: `sni' is "10.0.0.1"; write a name such as "www.example.org"
d.toml:19:11: `command' is for checks of type script, and this one is of type https; leave it out
"#,
    );
    faults(
        r#"[[service.check]]
type = "htttp"
[[service.check]]
interval = "1s"
[[service.check]]
type = "udp"
payload = "0"
require_reply = "g"
min_reply_length = 3
[[service.check]]
type = "udp"
max_reply_length = 3
[[service.check]]
type = "udp"
require_reply = true
min_reply_length = 3
max_reply_length = 2
[[service.check]]
type = "dns"
name = "a..b"
query = "PTR"
[[service.check]]
type = "smtp"
helo = ""
[[service.check]]
type = "script"
command = ["check"]
[[service.check]]
type = "http"
path = "/"
urls = [{ path = "/" }]
[[service.check]]
type = "http"
urls = []
regex_no_match = true
[[service.check]]
type = "http"
urls = [{ path = "/", interval = "1s", regex_no_match = true }]
"#,
        r#"d.toml:5:8: type "htttp" is unknown; write "http"
d.toml:6:1: [service.check] has no `type'; write type = "tcp"
d.toml:10:11: `payload' is "0"; write hexadecimal digits, two of each byte, as in "0a 1b"
d.toml:11:17: `require_reply' is "g"; write true, or hexadecimal digits, two of each byte, with X for any, as in "0aXX"
d.toml:12:20: it is the length of a reply that is required; write require_reply = true
d.toml:15:20: it is the length of a reply that is required; write require_reply = true
d.toml:19:20: min_reply_length 3 is above max_reply_length 2; write a lower one
d.toml:23:8: `name' is "a..b"; write one such as "www.example.org"
d.toml:24:9: query "PTR" is unknown; write "A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "RRSIG" or "DNSKEY"
d.toml:27:8: `helo' is ""; write a name such as "lvs.example.org"
d.toml:30:11: a check of type script needs `command' with a path from the root; write command = ["/usr/local/bin/check", "ARGUMENT"]
d.toml:33:8: with `urls' each of them says what is expected of it; write all pages there
d.toml:37:8: `urls' has no page; write urls = [{ path = "/" }]
d.toml:38:18: with `urls' each of them says what is expected of it; write all pages there
d.toml:41:23: an entry of `urls' has no key `interval'; it has path, host, status, digest, sha256, regex, regex_no_match
d.toml:41:57: there is nothing to match; write regex = "..."
"#,
    );
    let every = "persistence = 300\ncheck = { type = \"tcp\" }\n\
         [[service.server]]\naddress = \"10.1.0.1\"\n[[service.server]]\naddress = \"10.1.0.2\"\n\
         check = { port = 80 }\n";
    let text = SERVICE.replace(":80", ":0") + every;
    let fault = Config::parse(&text, "d.toml").expect_err("all ports");
    assert_eq!(
        fault.to_string(),
        "d.toml:7:11: real server 10.1.0.1:0 is for all ports, and a check of type tcp asks at one; write port = \
         80 in its check"
    );
}
