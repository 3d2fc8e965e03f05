//! The director as its administrator meets it: files, signals, commands.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use laboratory::host::Host;
use laboratory::link::cable;
use laboratory::process::scratch;
use laboratory::programs::{Director, ours};
use laboratory::wait::{SOON, wait_for};
use shared::host::netlink::Netlink;

/// A host with two Ethernet interfaces.
fn hosts() -> (Host, Host) {
    let (host, peer) = (Host::new("director"), Host::new("peer"));
    cable((&host, "eth0"), (&peer, "eth0"));
    cable((&host, "eth1"), (&peer, "eth1"));
    host.address("eth0", "192.0.2.1/24");
    (host, peer)
}

/// A file that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(kind: &str, text: &str) -> Scratch {
        let path = scratch(kind);
        fs::write(&path, text).unwrap();
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn addresses(host: &Host) -> Vec<String> {
    let addresses = host.netlink(Netlink::addresses);
    addresses
        .iter()
        .map(|address| address.prefix.to_string())
        .collect()
}

fn devices(host: &Host) -> Vec<String> {
    host.netlink(Netlink::links)
        .into_iter()
        .map(|link| link.name)
        .collect()
}

const CONFIG: &str = r#"
[timeouts]
tcp = 600

[[vip]]
address = "192.0.2.100/32"
interface = "eth0"

[[service]]
address = "192.0.2.100:80"
protocol = "tcp"
scheduler = "wrr"

  [[service.server]]
  address = "198.51.100.1:8080"
  forward = "nat"
  weight = 1
"#;

#[test]
fn the_file_is_carried_out_and_undone() {
    let (host, _peer) = hosts();
    host.succeed("ip", &["address", "add", "192.0.2.101/32", "dev", "eth0"]);
    let own = "[[vip]]\naddress = \"192.0.2.101/32\"\ninterface = \"eth0\"\n";
    let rules = Scratch::new("rules", "# saved\n-A -u 192.0.2.100:53 -s rr\n");
    let rules_line = format!("[director]\nrules = \"{}\"\n", rules.path());
    let config = Scratch::new("toml", &format!("{rules_line}{own}{CONFIG}"));
    let pid_file = scratch("pid");
    let pid_path = pid_file.display().to_string();
    let options = ["--config", config.path(), "--pid-file", &pid_path];
    let mut director = Director::start_with(&host, &options);
    assert_eq!(
        director.admin("-Sn"),
        "-A -t 192.0.2.100:80 -s wrr\n\
         -a -t 192.0.2.100:80 -r 198.51.100.1:8080 -m -w 1\n\
         -A -u 192.0.2.100:53 -s rr\n"
    );
    assert_eq!(
        director.admin("-L --timeout"),
        "Timeout (tcp tcpfin udp): 600 120 300\n"
    );
    assert!(addresses(&host).contains(&"192.0.2.100/32".to_owned()));
    let written = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(written.trim(), director.process.id().to_string());
    let mode = fs::metadata(director.control())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    director.process.signal("TERM");
    assert!(director.process.ended(SOON).success());
    let left = addresses(&host);
    assert!(!left.contains(&"192.0.2.100/32".to_owned()), "{left:?}");
    assert!(
        left.contains(&"192.0.2.101/32".to_owned()),
        "the administrator's own: {left:?}"
    );
    assert!(!director.control().exists());
    assert!(!pid_file.exists());
    assert!(
        wait_for(SOON, || devices(&host) == ["lo", "eth0", "eth1"]),
        "{:?}",
        devices(&host)
    );
}

#[test]
fn a_reload_changes_what_the_file_changed() {
    let (host, _peer) = hosts();
    let config = Scratch::new("toml", CONFIG);
    let director = Director::start_with(&host, &["--config", config.path()]);
    director.admin("-a -t 192.0.2.100:80 -r 198.51.100.2:8080 -m -w 7");
    config.write(&CONFIG.replace("weight = 1", "weight = 3"));
    director.process.signal("HUP");
    let expected = "-A -t 192.0.2.100:80 -s wrr\n\
                    -a -t 192.0.2.100:80 -r 198.51.100.1:8080 -m -w 3\n\
                    -a -t 192.0.2.100:80 -r 198.51.100.2:8080 -m -w 7\n";
    assert!(
        wait_for(SOON, || director.admin("-Sn") == expected),
        "{}",
        director.admin("-Sn")
    );

    config.write(&CONFIG.replace("weight", "wieght"));
    director.process.signal("HUP");
    let fault = format!("{}:17:3: ", config.path());
    let told = wait_for(SOON, || director.process.printed().contains(&fault));
    assert!(told, "{}", director.process.printed());
    assert_eq!(director.admin("-Sn"), expected);
}

#[test]
fn check_names_every_fault() {
    let good = Scratch::new("toml", CONFIG);
    let bad = Scratch::new(
        "toml",
        &CONFIG.replace("\"wrr\"", "\"wrt\"").replace(":8080", ""),
    );
    let check = |file: &Scratch| -> Output {
        Command::new(ours("director"))
            .args(["check", "--config", file.path()])
            .output()
            .unwrap()
    };
    assert_eq!(check(&good).status.code(), Some(0));
    let output = check(&bad);
    assert_eq!(output.status.code(), Some(1));
    let text =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("{}:12:13: ", bad.path())), "{text}");
}

#[test]
fn the_old_names_and_their_habits_work() {
    let (host, _peer) = hosts();
    let director = Director::start(&host);
    let folder = scratch("bin");
    fs::create_dir_all(&folder).unwrap();
    for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
        symlink(ours("lvsadm").canonicalize().unwrap(), folder.join(name)).unwrap();
    }
    let shell = |line: &str| {
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .env("PATH", path)
            .env("LVS_CONTROL", director.control());
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            errors,
        )
    };
    let rules = "-A -t 192.0.2.100:80 -s wlc\n\
                 -a -t 192.0.2.100:80 -r 198.51.100.1:8080 -m -w 2\n\
                 -a -t 192.0.2.100:80 -r 198.51.100.2:80 -g -w 1\n";
    director.admin("-A -t 192.0.2.99:99");
    let restored = shell(&format!("printf '# comment\n{rules}' | ipvsadm-restore"));
    assert_eq!(restored.0, Some(0), "{}", restored.2);
    assert_eq!(shell("ipvsadm-save -n").1, rules);
    assert_eq!(
        shell("ipvsadm -A -t 192.0.2.100:80").2,
        "Service already exists\n"
    );
    assert_eq!(shell("ipvsadm -A -t 192.0.2.100:80").0, Some(255));
    let later = shell("ipvsadm -A -t [fe80::1]:80 -s sh");
    assert_eq!(later.0, Some(255));
    assert!(
        later.2.contains("not supported by this director yet"),
        "{}",
        later.2
    );
    let version = shell("ipvsadm -v").1;
    assert_eq!(
        version,
        "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n"
    );
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_second_director_at_the_same_place_is_refused() {
    let (host, _peer) = hosts();
    let director = Director::start(&host);
    let control = director.control().display().to_string();
    let program = ours("director").display().to_string();
    let second = host.output(&program, &["--control", &control]);
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("another director listens"), "{text}");
    director.admin("-Ln");
    assert_eq!(
        devices(&host)
            .iter()
            .filter(|name| name.starts_with("lvs"))
            .count(),
        1
    );
}

#[test]
fn only_the_interfaces_named_are_taken() {
    let (host, peer) = hosts();
    let director = Director::start_with(&host, &["--interface", "eth1", "--interface", "eth9"]);
    let status = director.admin("status");
    assert!(
        status.contains("  eth1 ") && !status.contains("  eth0 "),
        "{status}"
    );
    // One that comes later is taken then.
    cable((&host, "eth9"), (&peer, "eth9"));
    let taken = wait_for(SOON, || director.admin("status").contains("  eth9 "));
    assert!(taken, "{}", director.admin("status"));
    host.succeed("ip", &["link", "delete", "eth9"]);
    let gone = wait_for(SOON, || !director.admin("status").contains("  eth9 "));
    assert!(gone, "{}", director.admin("status"));
}

#[test]
fn garbage_on_the_control_socket_is_answered() {
    let (host, _peer) = hosts();
    let director = Director::start(&host);
    let mut stream = UnixStream::connect(director.control()).unwrap();
    std::io::Write::write_all(&mut stream, b"\xff\x00 rubbish\n{}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answers = std::io::read_to_string(stream).unwrap();
    assert_eq!(answers.lines().count(), 2, "{answers}");
    assert!(
        answers.lines().all(|line| line.contains("error")),
        "{answers}"
    );
    director.admin("-Ln");
}

#[test]
fn lvsadm_says_that_no_director_runs() {
    let output = Command::new(ours("lvsadm"))
        .arg("-Ln")
        .env("LVS_CONTROL", "/nonexistent/director.sock")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("not running at /nonexistent/director.sock"),
        "{text}"
    );
}
