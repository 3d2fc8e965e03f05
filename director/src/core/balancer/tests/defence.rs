//! What the defences drop, and what they leave alone.

use super::*;

fn lab() -> Laboratory {
    let mut lab = Laboratory::new();
    for protocol in ["-t", "-u"] {
        lab.ipvsadm(&format!("-A {protocol} 10.0.0.100:80 -s rr"));
        lab.ipvsadm(&format!("-a {protocol} 10.0.0.100:80 -r 10.1.0.11:8080 -m"));
    }
    lab
}

const WEB: &str = "10.0.0.100:80";

fn client(port: u16) -> String {
    format!("10.0.0.10:{port}")
}

fn establish(lab: &mut Laboratory, port: u16) {
    lab.tcp("S", &client(port), WEB);
    lab.tcp("SA", "10.1.0.11:8080", &client(port));
    lab.tcp("A", &client(port), WEB);
}

fn switched(lab: &Laboratory, name: &str) -> i32 {
    let found = lab
        .balancer
        .sysctl()
        .all()
        .find(|(known, _)| *known == name);
    found.unwrap().1
}

#[test]
fn drop_packet_takes_one_new_connection_of_so_many() {
    let mut lab = lab();
    establish(&mut lab, 1000);
    lab.sysctl("am_droprate", 4);
    lab.sysctl("drop_packet", 3);
    let outcomes: Vec<bool> = (2000..2012)
        .map(|port| lab.tcp("S", &client(port), WEB) == Class::Drop(Reason::Defence))
        .collect();
    // The first at once, then every fourth.
    let expected: Vec<bool> = (0..12).map(|n| n % 4 == 0).collect();
    assert_eq!(outcomes, expected);
    for _ in 0..20 {
        let class = lab.tcp("A", &client(1000), WEB);
        assert!(matches!(class, Class::Request(_)), "an old connection");
    }
    lab.sysctl("drop_packet", 0);
    assert!(matches!(
        lab.tcp("S", &client(2000), WEB),
        Class::Request(_)
    ));
}

#[test]
fn automatic_modes_follow_the_free_memory() {
    let mut lab = lab();
    assert!(!lab.balancer.watches_memory());
    lab.sysctl("drop_packet", 1);
    lab.sysctl("secure_tcp", 2);
    assert!(lab.balancer.watches_memory());
    let modes = |lab: &Laboratory| {
        ["drop_packet", "secure_tcp", "drop_entry"].map(|name| switched(lab, name))
    };
    assert_eq!(modes(&lab), [1, 1, 0], "there is enough");
    lab.balancer.notice_memory(1024 - 256);
    lab.secs(2);
    assert_eq!(modes(&lab), [2, 2, 0]);
    // 1024 / 256: one packet of four.
    let dropped = (3000..3040).filter(|port| {
        let class = lab.tcp("S", &client(*port), WEB);
        class == Class::Drop(Reason::Defence)
    });
    assert_eq!(dropped.count(), 10);
    lab.balancer.notice_memory(1024);
    lab.secs(2);
    assert_eq!(modes(&lab), [1, 1, 0]);
    assert!(matches!(
        lab.tcp("S", &client(4000), WEB),
        Class::Request(_)
    ));
}

#[test]
fn drop_entry_ends_what_is_worth_little() {
    let mut lab = lab();
    // Half open; established with much traffic; established and idle, of two packets; UDP of one.
    for port in 1000..1020 {
        lab.tcp("S", &client(port), WEB);
        establish(&mut lab, port + 1000);
        for _ in 0..9 {
            lab.tcp("A", &client(port + 1000), WEB);
        }
        establish(&mut lab, port + 2000);
        lab.udp(&client(port + 3000), WEB);
    }
    let left = |lab: &Laboratory| {
        let of = |thousand| {
            let all = lab.connections();
            let of = all.iter().filter(|c| c.client_port / 1000 == thousand);
            of.count()
        };
        [of(1), of(2), of(3), of(4)]
    };
    lab.sysctl("drop_entry", 3);
    // 32 looks go through the table.
    lab.secs(34);
    assert_eq!(
        left(&lab),
        [0, 20, 20, 20],
        "none has been idle for a minute"
    );
    // Each is looked at once more, idle by then.
    lab.secs(58);
    lab.sysctl("drop_entry", 0);
    let [_, busy, two, one] = left(&lab);
    assert_eq!(busy, 20);
    // Each of one packet, every second of two.
    assert!((8..=12).contains(&two) && one == 0, "{two} {one}");
    lab.secs(60);
    assert_eq!(left(&lab)[1], 20, "it is off");
}
