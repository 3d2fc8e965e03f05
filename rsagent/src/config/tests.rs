use super::*;

fn faults(text: &str) -> Vec<String> {
    let faults = Config::parse(text, "a.toml").unwrap_err().to_string();
    faults.lines().map(str::to_owned).collect()
}

#[test]
fn a_whole_file_is_read() {
    let text = r#"
vips = ["192.0.2.100", "2001:db8::100"]
mode = "tun"
interfaces = ["eth0"]
tun_port = 6081
directors = ["10.0.0.1", "10.0.0.2:9000", "fd00::1", "[fd00::2]:9000"]
key_file = "/etc/lvs/other.key"
interval = "200ms"
name = "web1"
weight = "cpu"

[[check]]
name = "web"
type = "http"
address = "192.0.2.100:80"
path = "/healthz"
status = [200, 204]
interval = "5s"
timeout = "500ms"

[[check]]
name = "port"
type = "tcp"
address = "[2001:db8::100]:80"

[[check]]
name = "disk"
type = "script"
command = ["/bin/check", "a b"]
"#;
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let check = |name: &str, kind| Check {
        name: name.to_owned(),
        kind,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
    };
    let expected = Config {
        vips: ["192.0.2.100", "2001:db8::100"]
            .map(|vip| vip.parse().unwrap())
            .into(),
        these_alone: false,
        mode: Mode::Tun,
        interfaces: vec!["eth0".to_owned()],
        tunnel_port: 6081,
        directors: [
            "10.0.0.1:9111",
            "10.0.0.2:9000",
            "[fd00::1]:9111",
            "[fd00::2]:9000",
        ]
        .map(address)
        .into(),
        key_file: PathBuf::from("/etc/lvs/other.key"),
        insecure: false,
        interval: Duration::from_millis(200),
        name: Some("web1".to_owned()),
        weight: Weight::Cpu,
        checks: vec![
            Check {
                interval: Duration::from_secs(5),
                timeout: Duration::from_millis(500),
                ..check(
                    "web",
                    Kind::Http {
                        address: address("192.0.2.100:80"),
                        path: "/healthz".to_owned(),
                        status: vec![200, 204],
                    },
                )
            },
            check("port", Kind::Tcp(address("[2001:db8::100]:80"))),
            check(
                "disk",
                Kind::Script {
                    program: "/bin/check".to_owned(),
                    arguments: vec!["a b".to_owned()],
                },
            ),
        ],
    };
    assert_eq!(Config::parse(text, "a.toml"), Ok(expected));
    assert_eq!(Config::parse("", "a.toml"), Ok(Config::default()));
    let fixed = Config::parse("weight = 50", "a.toml").unwrap().weight;
    assert_eq!(fixed, Weight::Fixed(50));
}

#[test]
fn each_fault_has_its_place_and_its_cure() {
    let text = "vip = [\"192.0.2.1\"]\nvips = [\"192.0.2.1/32\", \"192.0.2.2\", \"192.0.2.2\"]\n\
                mode = \"drr\"\ninterval = \"1ms\"\nweight = \"load\"\ninsecure = true\n\
                key_file = \"/k\"\ndirectors = [\"director1\"]\nname = \"\"\n";
    let expected = [
        "a.toml:1:1: the file has no key `vip'; write `vips'",
        "a.toml:2:9: VIP \"192.0.2.1/32\" is no address; write one alone, such as \"192.0.2.100\"",
        "a.toml:2:38: VIP 192.0.2.2 is in line 2 already; write it once",
        "a.toml:3:8: mode \"drr\" is unknown; write \"dr\"",
        "a.toml:4:12: `interval' takes a time from \"50ms\" to \"60s\"; write \"1s\"",
        "a.toml:5:10: weight \"load\" is unknown; write \"cpu\"",
        "a.toml:7:12: `key_file' and insecure = true exclude each other; leave one out",
        "a.toml:8:14: director \"director1\" is no address; write \"10.0.0.1\" or \"10.0.0.1:9111\"",
        "a.toml:9:8: `name' is \"\"; write 1 to 64 bytes of plain text",
    ];
    assert_eq!(faults(text), expected);
}

#[test]
fn checks_have_what_their_type_needs_and_nothing_else() {
    let text = "[[check]]\nname = \"a\"\ntype = \"tcp\"\npath = \"/\"\naddress = \"192.0.2.1\"\n\
                [[check]]\nname = \"b\"\ntype = \"script\"\ncommand = [\"check\"]\n\
                [[check]]\nname = \"c\"\ntype = \"http\"\nstatus = [20]\n\
                [[check]]\nname = \"d\"\ntype = \"https\"\n";
    let expected = [
        "a.toml:4:8: `path' is for checks of another type; leave it out",
        "a.toml:5:11: `address' is \"192.0.2.1\"; write address and port, such as \"192.0.2.100:80\"",
        "a.toml:9:11: a check of type \"script\" needs `command'; write command = \
         [\"/usr/local/bin/check\", \"ARGUMENT\"]",
        "a.toml:10:1: [[check]] has no `address'; write address = \"192.0.2.100:80\"",
        "a.toml:13:11: `status' is 20, out of range; write a whole number from 100 to 599",
        "a.toml:16:8: type \"https\" is not there yet; write \"tcp\", \"http\" or \"script\"",
    ];
    assert_eq!(faults(text), expected);
}

#[test]
fn the_command_line_wins() {
    let text =
        "vips = [\"192.0.2.1\"]\nmode = \"tun\"\ndirectors = [\"10.0.0.1\"]\ninterval = \"2s\"";
    let file = Config::parse(text, "a.toml").unwrap();
    assert_eq!(file.clone().with(&Flags::default()), file);
    let flags = Flags {
        vips: vec!["192.0.2.9".parse().unwrap()],
        mode: Some(Mode::Dr),
        directors: vec![endpoint("10.0.0.9").unwrap()],
        insecure: true,
        ..Flags::default()
    };
    let config = file.clone().with(&flags);
    let expected = Config {
        vips: flags.vips.clone(),
        these_alone: true,
        mode: Mode::Dr,
        directors: flags.directors.clone(),
        insecure: true,
        ..file
    };
    assert_eq!(config, expected);
}

#[test]
fn the_example_is_right() {
    let text = include_str!("../../../init/examples/rsagent.toml");
    let config = Config::parse(text, "rsagent.toml").unwrap();
    assert_eq!((config.directors.len(), config.checks.len()), (2, 2));
    let optional = text
        .replace("# interfaces", "interfaces")
        .replace("# tun_port", "tun_port");
    let optional = optional
        .replace("# name", "name")
        .replace("# weight", "weight");
    let config = Config::parse(&optional, "rsagent.toml").unwrap();
    assert_eq!(config.weight, Weight::Cpu);
}
