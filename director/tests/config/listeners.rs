//! Whom the director listens to: agents, and those who want its metrics.

use super::*;

#[test]
fn who_judges_servers() {
    faults(
        r#"[agents]
listen = "all:9111"
key_file = "agent.key"
insecure = true
kee_file = "x"
[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
[service.check]
type = "agent"
intervall = "1s"
path = "/"
missed = 0
interval = "1 s"
least_weight = 1
[[service.server]]
address = "10.1.0.1"
[service.server.check]
weight = true
least_weight = 9
most_weight = 8
"#,
        r#"d.toml:2:10: "all:9111" is not an address to listen at; write one, as in "[::]:9111"
d.toml:3:12: `key_file' is "agent.key", which depends on where the director is started; write a path from the root, such as "/etc/lvs/agent.key"
d.toml:4:12: with a key file nothing is insecure; leave `insecure' out, or `key_file' if everybody's reports are to be believed
d.toml:5:1: [agents] has no key `kee_file'; write `key_file'
d.toml:11:1: [service.check] has no key `intervall'; write `interval'
d.toml:12:8: `path' is for checks of type http, https, and this one is of type agent; leave it out
d.toml:13:10: `missed' is 0, out of range; write a whole number from 1 to 1000
d.toml:14:12: `interval' takes a time from "50ms" to "60s"; write "1s"
d.toml:15:16: bounds are for the weight that the agent wants; write weight = true
d.toml:20:16: least_weight 9 is above most_weight 8; write a lower one
"#,
    );
    let service = "[[service]]\naddress = \"192.0.2.1:80\"\nprotocol = \"tcp\"\n";
    faults(
        &format!("{service}check = {{ type = \"agent\" }}\n"),
        "d.toml:2:11: real servers of service TCP 192.0.2.1:80 are judged by their agents, and nobody \
         listens to these; write [agents]",
    );
    faults(
        &format!("[agents]\n{service}check = {{ missed = 3 }}\n"),
        "d.toml:5:9: [service.check] has no `type'; write type = \"tcp\"",
    );

    let text = format!(
        r#"[agents]
{service}
check = {{ type = "agent", interval = "200ms", weight = true }}
[[service.server]]
address = "10.1.0.1"
check = {{ missed = 5, least_weight = 1 }}
[[service.server]]
address = "10.1.0.2"
"#
    );
    let config = Config::parse(&text, "d.toml").expect("nothing is wrong");
    let agents = config.agents.expect("it is there");
    assert_eq!(agents.listen.to_string(), "[::]:9111");
    let key_file = agents.key_file.expect("the usual one");
    assert_eq!(key_file, PathBuf::from("/etc/lvs/agent.key"));
    let Service {
        servers, checks, ..
    } = &config.services[0];
    let wanted = |least| Weight::Wanted {
        least,
        most: u16::MAX,
    };
    let of_service = AgentCheck {
        interval: Some(Duration::from_millis(200)),
        missed: 3,
        weight: wanted(0),
    };
    assert_eq!(checks.of(&servers[1].key).agent, Some(of_service));
    let own = AgentCheck {
        missed: 5,
        weight: wanted(1),
        ..of_service
    };
    assert_eq!(checks.of(&servers[0].key).agent, Some(own));

    let text = "[agents]\nlisten = \"[::]\"\ninsecure = true\n";
    let config = Config::parse(text, "d.toml").expect("nothing is wrong");
    let agents = config.agents.expect("it is there");
    assert_eq!(agents.listen.to_string(), "[::]:9111");
    assert_eq!(agents.key_file, None);
}

#[test]
fn metrics() {
    faults(
        r#"[metrics]
listen = "everywhere"
node_exporter_names = "yes"
backend_labels = ["service", "bakend", "service", "client"]
port = 9110
"#,
        r#"d.toml:2:10: "everywhere" is not an address to listen at; write one, as in "127.0.0.1:9110"
d.toml:3:23: node_exporter_names is true or false: node_exporter_names = true
d.toml:4:30: label of real servers "bakend" is unknown; write "backend"
d.toml:4:40: label "service" is in line 4 already; write it once
d.toml:4:51: label of real servers "client" is unknown; write "service", "backend", "local_address", "local_port", "remote_address", "remote_port", "proto" or "local_mark"
d.toml:5:1: [metrics] has no key `port'; it has listen, node_exporter_names, backend_labels
"#,
    );
    let read = |text: &str| Config::parse(text, "d.toml").unwrap().metrics;
    assert_eq!(read(""), Metrics::default());
    assert_eq!(read("[metrics]\n").listen, None);
    let given = read(
        "[metrics]\nlisten = \"0.0.0.0\"\nnode_exporter_names = true\nbackend_labels = [\"service\"]\n",
    );
    assert_eq!(given.listen, Some(([0; 4], 9110).into()));
    assert!(given.options.node_exporter_names);
    let service = [BackendLabel::Service].into_iter().collect();
    assert_eq!(given.options.backend_labels, service);
    let none = read("[metrics]\nbackend_labels = []\n");
    assert_eq!(none.options.backend_labels, std::iter::empty().collect());
}
