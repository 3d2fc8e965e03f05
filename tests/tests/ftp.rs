//! FTP by NAT and FULLNAT: vsftpd behind, curl in front, data both ways in all four forms.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Transfers;
use laboratory::host::Host;
use laboratory::ipv6::{beside, like};
use laboratory::process::{Process, scratch};
use laboratory::programs::{Director, rsagent};
use laboratory::topology::{OneLan, Routed};
use laboratory::wait::{SOON, wait_for};
use shared::addr::Family;

/// A server with a file that clients may get, and a folder for what they put.
struct Vsftpd {
    process: Process,
    folder: PathBuf,
}

impl Vsftpd {
    fn start(host: &Host, address: IpAddr, bytes: &[u8]) -> Vsftpd {
        let folder = scratch("ftp");
        for part in ["files/put", "empty"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        // Anonymous users have a user of their own.
        let anybody = Permissions::from_mode(0o777);
        fs::set_permissions(folder.join("files/put"), anybody).unwrap();
        fs::write(folder.join("files/bytes"), bytes).unwrap();
        fs::write(folder.join("files/name"), host.name()).unwrap();
        let configuration = format!(
            "{listen}=YES\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\n\
             write_enable=YES\nanon_upload_enable=YES\nanon_umask=022\nno_anon_password=YES\n\
             anon_root={files}\nsecure_chroot_dir={empty}\nconnect_from_port_20=YES\n\
             seccomp_sandbox=NO\nisolate_network=NO\nxferlog_enable=NO\n",
            listen = if address.is_ipv4() {
                "listen"
            } else {
                "listen=NO\nlisten_ipv6"
            },
            files = folder.join("files").display(),
            empty = folder.join("empty").display(),
        );
        let file = folder.join("vsftpd.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("vsftpd");
        command.arg(&file);
        let process = host.spawn(command);
        let listens = wait_for(SOON, || {
            host.run(|| TcpStream::connect(("localhost", 21)).is_ok())
        });
        assert!(listens, "vsftpd does not listen:\n{}", process.printed());
        Vsftpd { process, folder }
    }
}

impl Drop for Vsftpd {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Lab {
    vip: IpAddr,
    client: Host,
    servers: Vec<Vsftpd>,
    director: Director,
    director_host: Host,
    hosts: Vec<Host>,
    _switch: Host,
}

/// Two servers behind one service with these options, by NAT.
fn lab(options: &str, bytes: &[u8]) -> Lab {
    let addresses = [0, 1].map(|number| Routed::server(number).into());
    lab_of(
        Routed::new(2).into_hosts(),
        Routed::VIP.into(),
        ("-m", addresses),
        (options, bytes),
    )
}

/// The same of IPv6.
fn lab_of_ipv6(bytes: &[u8]) -> Lab {
    let addresses = [0, 1].map(|number| like(Routed::server(number)).into());
    let net = Routed::new(2);
    beside([&net.client, &net.director].into_iter().chain(&net.servers));
    let vip = like(Routed::VIP).into();
    lab_of(net.into_hosts(), vip, ("-m", addresses), ("", bytes))
}

/// By FULLNAT, with clients of one family and servers of one; these know no way to the clients.
fn full_nat(client: Family, server: Family, options: &str, bytes: &[u8]) -> Lab {
    let of = |family, address| match family {
        Family::V4 => IpAddr::from(address),
        Family::V6 => like(address).into(),
    };
    let net = Routed::new(2);
    for host in &net.servers {
        host.succeed("ip", &["route", "del", "default"]);
    }
    beside([&net.client, &net.director].into_iter().chain(&net.servers));
    let addresses = [0, 1].map(|number| of(server, Routed::server(number)));
    lab_of(
        net.into_hosts(),
        of(client, Routed::VIP),
        ("-b", addresses),
        (options, bytes),
    )
}

/// The same by direct routing.
fn direct(options: &str, bytes: &[u8]) -> Lab {
    let addresses = [0, 1].map(|number| OneLan::server(number).into());
    let lab = lab_of(
        OneLan::new(2).into_hosts(),
        OneLan::VIP.into(),
        ("-g", addresses),
        (options, bytes),
    );
    for host in &lab.hosts {
        let (code, printed) = rsagent(host, &format!("start --vip {}", lab.vip));
        assert_eq!(code, 0, "{printed}");
    }
    lab
}

fn lab_of(
    (client, director_host, hosts, switch): (Host, Host, Vec<Host>, Host),
    vip: IpAddr,
    (method, addresses): (&str, [IpAddr; 2]),
    (options, bytes): (&str, &[u8]),
) -> Lab {
    let servers = hosts.iter().zip(addresses);
    let servers = servers.map(|(host, address)| Vsftpd::start(host, address, bytes));
    let servers = servers.collect();
    let director = Director::start(&director_host);
    if method == "-b" {
        // More than one: a server wants to know a client's connections all by the same.
        for local in LOCALS {
            director.admin(&format!("-P -z {local}"));
            director.admin(&format!("-P -z {}", like(local)));
        }
    }
    let service = SocketAddr::new(vip, 21);
    director.admin(&format!("-A -t {service} -s rr {options}"));
    for server in addresses {
        let server = SocketAddr::new(server, 21);
        director.admin(&format!("-a -t {service} -r {server} {method}"));
    }
    Lab {
        vip,
        client,
        servers,
        director,
        director_host,
        hosts,
        _switch: switch,
    }
}

/// Of FULLNAT.
const LOCALS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 8), Ipv4Addr::new(10, 1, 0, 9)];

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = rsagent(host, "stop");
        }
    }
}

fn curl(lab: &Lab, arguments: &[&str]) -> Vec<u8> {
    let always = ["-sS", "-m", "60", "--disable-epsv", "--disable-eprt"];
    // An option that is given again counts.
    let output = lab.client.output("curl", &[&always, arguments].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = lab.director.admin("status");
    assert!(
        output.status.success(),
        "curl {arguments:?}: {errors}\n{status}"
    );
    output.stdout
}

/// A name, and how curl is told so.
type Form = (&'static str, &'static [&'static str]);

/// The ways in which a client and a server agree on data connections.
const FORMS: [Form; 4] = [
    ("PASV", &[]),
    ("EPSV", &["--epsv"]),
    ("PORT", &["--ftp-port", "-"]),
    ("EPRT", &["--ftp-port", "-", "--eprt"]),
];

/// Those that IPv6 has.
const EXTENDED: [Form; 2] = [FORMS[1], FORMS[3]];

#[test]
fn fifty_megabytes_go_each_way_in_each_form() {
    let file = Transfers::of(50);
    let bytes = fs::read(file.path()).unwrap();
    let lab = lab("", &bytes);
    compare_files(&lab, &FORMS, &file);
    assert_tidy(&lab);
}

/// The client gets and puts a file by each of these forms, in one session for each.
fn compare_files(lab: &Lab, forms: &[Form], file: &Transfers) {
    let bytes = fs::read(file.path()).unwrap();
    let url = url(lab);
    let bytes_url = format!("{url}/bytes");
    for (form, options) in forms {
        let got = scratch("got");
        let (from, to) = (file.path().display().to_string(), got.display().to_string());
        let both = [
            *options,
            &["-o", &to, &bytes_url, "--next", "-sS", "-m", "60"],
            &["--disable-epsv", "--disable-eprt"],
            options,
            &["-T", &from],
        ]
        .concat();
        let put = format!("{url}/put/{form}");
        curl(lab, &[&both[..], &[&put]].concat());
        assert!(fs::read(&got).unwrap() == bytes, "{form}");
        fs::remove_file(&got).unwrap();
        let put = |server: &Vsftpd| fs::read(server.folder.join("files/put").join(form)).ok();
        let arrived: Vec<Vec<u8>> = lab.servers.iter().filter_map(put).collect();
        assert_eq!(arrived.len(), 1, "{form}");
        assert!(arrived[0] == bytes, "{form}");
    }
}

fn url(lab: &Lab) -> String {
    match lab.vip {
        IpAddr::V4(vip) => format!("ftp://{vip}"),
        IpAddr::V6(vip) => format!("ftp://[{vip}]"),
    }
}

/// Each control connection is another server's, and its data connections go there.
#[test]
fn data_goes_where_its_control_connection_goes() {
    let (four, six) = (Family::V4, Family::V6);
    for options in ["", "-p 60"] {
        for (lab, forms) in [
            (lab(options, b""), &FORMS[..]),
            (full_nat(four, four, options, b""), &FORMS),
            (full_nat(six, four, options, b""), &EXTENDED),
        ] {
            compare_names(&lab, forms, if options.is_empty() { 2 } else { 1 });
            assert_tidy(&lab);
        }
    }
}

/// Four sessions by each of these forms get what so many servers have.
fn compare_names(lab: &Lab, forms: &[Form], servers: usize) {
    let url = format!("{}/name", url(lab));
    for (form, extra) in forms {
        let names: Vec<String> = (0..4)
            .map(|_| {
                let arguments = [*extra, &[&url]].concat();
                String::from_utf8(curl(lab, &arguments)).unwrap()
            })
            .collect();
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), servers, "{form} {names:?}");
    }
}

/// The server is told a local address, and knows its client by the same; also where it is of the other family.
#[test]
fn fifty_megabytes_go_each_way_by_fullnat() {
    let file = Transfers::of(50);
    let bytes = fs::read(file.path()).unwrap();
    let (four, six) = (Family::V4, Family::V6);
    for (client, server, forms) in [
        (four, four, &FORMS[..]),
        (six, six, &EXTENDED),
        (six, four, &EXTENDED),
    ] {
        let lab = full_nat(client, server, "", &bytes);
        compare_files(&lab, forms, &file);
        assert_tidy(&lab);
    }
}

/// There are no other forms for it.
#[test]
fn ipv6_has_the_extended_forms() {
    let file = Transfers::of(5);
    let bytes = fs::read(file.path()).unwrap();
    let lab = lab_of_ipv6(&bytes);
    let url = format!("ftp://[{}]/bytes", lab.vip);
    for (form, extra) in &FORMS[..] {
        for _ in 0..2 {
            let arguments = [*extra, &["--epsv", "--eprt", &url]].concat();
            assert!(curl(&lab, &arguments) == bytes, "{form}");
        }
    }
    assert_tidy(&lab);
}

/// By direct routing the director sees nothing of what servers say: persistence leads data where its control
/// connection goes.
#[test]
fn with_persistence_direct_routing_does_as_well() {
    let lab = direct("-p 60", b"some bytes");
    let url = format!("ftp://{}/bytes", lab.vip);
    for (form, extra) in FORMS {
        let arguments = [extra, &[&url]].concat();
        assert_eq!(curl(&lab, &arguments), b"some bytes", "{form}");
    }
    assert_tidy(&lab);
}

/// As the kernel's: with port 0, until the client comes.
#[test]
fn an_expected_data_connection_is_listed() {
    for lab in [lab("", b""), full_nat(Family::V4, Family::V4, "", b"")] {
        let control = lab.client.run(|| TcpStream::connect((lab.vip, 21)));
        let control = control.unwrap();
        control.set_read_timeout(Some(SOON)).unwrap();
        let mut answers = BufReader::new(control.try_clone().unwrap()).lines();
        let mut last = answers.next().unwrap().unwrap();
        for words in ["USER anonymous", "PASS none", "EPSV"] {
            (&control)
                .write_all(format!("{words}\r\n").as_bytes())
                .unwrap();
            last = answers.next().unwrap().unwrap();
        }
        let port = last.split('|').nth(3).unwrap();
        let expected = format!(
            "{:<18} {:<18} ",
            "10.0.0.10:0",
            format!("{}:{port}", lab.vip)
        );
        let listed = lab.director.admin("-Lcn");
        let listens = |line: &&str| line.contains("LISTEN") && line.contains(&expected);
        assert_eq!(
            listed.lines().filter(listens).count(),
            1,
            "{last}\n{listed}"
        );
        let port = port.parse().unwrap();
        let _data = lab
            .client
            .run(|| TcpStream::connect((lab.vip, port)))
            .unwrap();
        let listed = lab.director.admin("-Lcn");
        assert!(!listed.contains("LISTEN"), "{listed}");
        assert_eq!(listed.matches("ESTABLISHED").count(), 2, "{listed}");
    }
}

/// Nothing was dropped, nobody was refused, and no process has ended.
fn assert_tidy(lab: &Lab) {
    let status = lab.director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
    assert_eq!(lab.director_host.counter("Tcp", "OutRsts"), 0);
    for server in &lab.servers {
        let alive = Path::new(&format!("/proc/{}", server.process.id())).exists();
        assert!(alive, "{}", server.process.printed());
    }
}
