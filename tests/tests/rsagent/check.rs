//! `rsagent check`: each fault of a real server is found, and what is printed mends it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use laboratory::process::scratch;

use crate::lab::Lab;

/// The doctor finds this, and its command mends it.
fn found_and_mended(lab: &Lab, options: &str, fault: &str) {
    let check = format!("check {options}");
    let (code, printed) = lab.rsagent(&check);
    assert_eq!(code, 1, "{fault}:\n{printed}");
    let mut wrong = printed.lines().filter(|line| line.starts_with("WRONG  "));
    let line = wrong.find(|line| line.contains(fault));
    let line = line.unwrap_or_else(|| panic!("{fault} is not in:\n{printed}"));
    let (_, cure) = line.rsplit_once(": ").unwrap();
    let rsagent = laboratory::programs::ours("rsagent");
    let cure = cure.replace("rsagent ", &format!("{} ", rsagent.display()));
    lab.server.succeed("sh", &["-c", &cure]);
    let (_, printed) = lab.rsagent(&check);
    let mut wrong = printed.lines().filter(|line| line.starts_with("WRONG  "));
    assert!(
        !wrong.any(|line| line.contains(fault)),
        "after {cure}:\n{printed}"
    );
}

#[test]
fn each_fault_is_found_and_its_cure_mends_it() {
    let lab = Lab::new();
    let vip = "--vip 10.1.0.100";
    lab.succeed("start --vip 10.1.0.100");
    let well = lab.succeed("check --vip 10.1.0.100");
    assert!(!well.contains("WRONG"), "{well}");
    let cure = "ethtool -K eth0 tx off";
    assert!(well.contains(cure), "{well}");
    lab.server.succeed("ethtool", &["-K", "eth0", "tx", "off"]);
    let cured = lab.succeed("check --vip 10.1.0.100");
    assert!(!cured.contains("checksums"), "{cured}");
    let ip = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        lab.server.succeed("ip", &words);
    };

    lab.set_arp("all", "0", "2");
    lab.set_arp("eth0", "0", "2");
    found_and_mended(&lab, vip, "arp_ignore in force on eth0");
    lab.set_arp("eth0", "8", "2");
    found_and_mended(&lab, vip, "arp_ignore in force on eth0");
    lab.set_arp("all", "1", "0");
    found_and_mended(&lab, vip, "net/ipv4/conf/all/arp_announce: 0, should be 2");
    ip("address del 10.1.0.100/32 dev lo");
    found_and_mended(&lab, vip, "10.1.0.100/32 on lo: absent");
    ip("address add 10.1.0.100/24 dev eth0");
    found_and_mended(&lab, vip, "is an address of eth0");
    ip("address del 10.1.0.100/32 dev lo");
    ip("address add 10.1.0.100/24 dev lo");
    found_and_mended(&lab, vip, "on lo with more than itself");
    ip("link set lo down");
    found_and_mended(&lab, vip, "lo: down, should be up");
    lab.succeed("start --vip 10.1.0.100");
    ip("link set eth0 mtu 500");
    found_and_mended(&lab, vip, "MTU of eth0: 500");
    lab.succeed("check --vip 10.1.0.100");
    lab.succeed("stop");
}

#[test]
fn ends_of_tunnels_and_strict_filtering_are_found() {
    let lab = Lab::new();
    let tunnel = "--vip 192.0.2.100 --mode tun";
    lab.server.sysctl("net/ipv4/conf/eth0/rp_filter", "1");
    found_and_mended(&lab, tunnel, "tunnels: not started");
    lab.succeed(&format!("check {tunnel}"));
    lab.server.sysctl("net/ipv4/conf/eth0/rp_filter", "1");
    found_and_mended(&lab, tunnel, "rp_filter in force on eth0: 1");
    let del = ["qdisc", "del", "dev", "eth0", "clsact"];
    lab.server.succeed("tc", &del);
    found_and_mended(&lab, tunnel, "tunnels end on eth0: absent");
    lab.succeed("stop");
}

#[test]
fn services_and_keys_are_looked_at() {
    let lab = Lab::new();
    lab.succeed("start --vip 10.1.0.100");
    let (code, printed) = lab.rsagent("check --vip 10.1.0.100 --port 80");
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed.contains("WRONG  10.1.0.100:80: nothing listens there"),
        "{printed}"
    );
    let _listener = lab
        .server
        .run(|| TcpListener::bind("10.1.0.100:80").unwrap());
    lab.succeed("check --vip 10.1.0.100 --port 80");

    let folder = scratch("rsagent");
    fs::create_dir(&folder).unwrap();
    let (file, key) = (folder.join("rsagent.toml"), folder.join("key"));
    let text = format!(
        "vips = [\"10.1.0.100\"]\ndirectors = [\"10.1.0.10\"]\nkey_file = {key:?}\n\
         [[check]]\nname = \"web\"\ntype = \"tcp\"\naddress = \"10.1.0.100:80\"\n\
         [[check]]\nname = \"disk\"\ntype = \"script\"\ncommand = [\"/bin/false\"]\n"
    );
    fs::write(&file, text.replace("/bin/false", "/bin/true")).unwrap();
    fs::write(&key, "0123456789abcdef\n").unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let options = format!("--config {}", file.display());
    found_and_mended(&lab, &options, "can be read by others");
    let printed = lab.succeed(&format!("check {options}"));
    assert!(printed.contains("ok     check web: passed\n"), "{printed}");

    fs::write(&file, &text).unwrap();
    let (code, printed) = lab.rsagent(&format!("check {options}"));
    assert_eq!(code, 1);
    assert!(
        printed.contains("WRONG  check disk: ended with exit status: 1\n"),
        "{printed}"
    );

    fs::write(&file, "vip = 1").unwrap();
    let nobody = ["--reuid=65534", "--clear-groups"];
    let program = laboratory::programs::ours("rsagent").display().to_string();
    let words = [
        &nobody[..],
        &[&program, "check", "--config", file.to_str().unwrap()],
    ]
    .concat();
    let output = lab.server.output("setpriv", &words);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "{}:1:1: the file has no key `vip'; write `vips'\n",
        file.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    fs::remove_dir_all(&folder).unwrap();
    lab.succeed("stop");
}
