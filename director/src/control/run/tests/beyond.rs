//! Words that ipvsadm has not.

use super::*;

#[test]
fn what_cannot_be_saved_is_told() {
    let key = ServiceKey::new(Protocol::TCP, Ipv4Addr::new(10, 0, 0, 1), 80);
    let server = ServerSpec::new(Ipv4Addr::new(10, 1, 0, 1), 80, ForwardMethod::FullNat, 1);
    let mut api = Fake {
        services: vec![view(ServiceSpec::new(key, "rr"), vec![server])],
        ..Fake::default()
    };
    let (out, _, _) = run_with(&mut api, "lvsadm -Sn", &[]);
    let server = "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -b -w 1\n";
    assert_eq!(out, format!("-A -t 10.0.0.1:80 -s rr\n{server}"));
    let (out, err, exit) = run_with(&mut api, "ipvsadm -Sn", &[]);
    assert_eq!(out, "-A -t 10.0.0.1:80 -s rr\n");
    assert!(
        err.contains("10.1.0.1:80 of TCP 10.0.0.1:80 is not saved"),
        "{err}"
    );
    assert_eq!(exit, 0);
}

/// Called as ipvsadm the words beyond it are unknown, and what they said is not saved, which is told.
#[test]
fn what_goes_beyond_ipvsadm_is_lvsadms() {
    let line = "-A -t 10.0.0.1:80 -s wlc --server-gone auto --slow-start 30 --timeouts 60,0,0 --proxy-protocol --set-mss 1360";
    let mut api = Fake::default();
    let (_, err, exit) = run_with(&mut api, &format!("ipvsadm {line}"), &[]);
    assert_eq!(
        (err.as_str(), exit),
        ("--server-gone: unknown option\n", 255)
    );
    assert_eq!(api.applied, []);
    let (_, err, exit) = run_with(&mut api, &format!("lvsadm {line}"), &[]);
    assert_eq!((err.as_str(), exit), ("", 0));
    let [Operation::AddService(spec)] = &api.applied[..] else {
        panic!("{:?}", api.applied);
    };
    api.services = vec![view(spec.clone(), Vec::new())];
    let saved = |api: &mut Fake, program: &str| run_with(api, &format!("{program} -Sn"), &[]);
    assert_eq!(
        saved(&mut api, "lvsadm").0,
        "-A -t 10.0.0.1:80 -s wlc --server-gone reset --slow-start 30 --timeouts 60,0,0 --proxy-protocol --set-mss 1360\n"
    );
    let (out, err, exit) = saved(&mut api, "ipvsadm");
    assert_eq!((out.as_str(), exit), ("-A -t 10.0.0.1:80 -s wlc\n", 0));
    assert!(err.contains("lvsadm -S saves it"), "{err}");
    let (listed, ..) = run_with(&mut api, "lvsadm -Ln", &[]);
    assert!(
        listed.contains(
            "TCP  10.0.0.1:80 wlc server-gone reset slow-start 30 timeouts 60,0,0 proxy-protocol set-mss 1360\n"
        ),
        "{listed}"
    );
    for (words, fault) in [
        (
            "--server-gone forget",
            "write keep, reschedule, reset or auto",
        ),
        (
            "--slow-start -1",
            "slow start `-1' is not from 0 to 86400 seconds",
        ),
        (
            "--timeouts 1,2",
            "write TCP,TCPFIN,UDP in seconds, 0 for the general one",
        ),
        ("--timeouts 1,2,x", "invalid timeout value `x' specified"),
        (
            "--proxy-protocol v1",
            "`v1' is no version of the PROXY protocol",
        ),
    ] {
        let line = format!("lvsadm -A -t 10.0.0.1:80 {words}");
        let (_, err, exit) = run_with(&mut api, &line, &[]);
        assert!(err.contains(fault) && exit == 2, "{words}: {err}");
    }
    let (_, err, _) = run_with(
        &mut api,
        "lvsadm -a -t 10.0.0.1:80 -r 10.1.0.1 --slow-start 1",
        &[],
    );
    assert_eq!(
        err,
        "Illegal 'slow-start' option with the 'add-server' command\n"
    );
    for (words, introduction) in [
        ("--proxy-protocol v2", Introduction::ProxyProtocol),
        ("--no-toa", Introduction::None),
    ] {
        api.applied.clear();
        run_with(&mut api, &format!("lvsadm -E -t 10.0.0.1:80 {words}"), &[]);
        let [Operation::EditService(spec)] = &api.applied[..] else {
            panic!("{:?}", api.applied);
        };
        assert_eq!(spec.beyond.introduction, introduction);
    }
    let (help, ..) = run_with(&mut api, "lvsadm -h", &[]);
    assert!(
        help.contains("--server-gone keep|reschedule|reset|auto"),
        "{help}"
    );
}

#[test]
fn local_addresses_have_the_words_of_dpvs() {
    let mut api = Fake::default();
    for words in ["-P -z 10.9.0.9", "--add-laddr --local-address 10.9.0.9"] {
        let (_, err, exit) = run_with(&mut api, &format!("ipvsadm {words}"), &[]);
        assert!(
            err.ends_with("unknown option\n") || err.starts_with("Try"),
            "{err}"
        );
        assert_eq!((exit, api.applied.len()), (255, 0));
    }
    let address: IpAddr = [10, 9, 0, 9].into();
    let add = |interface: Option<&str>| Operation::AddLocalAddress {
        address,
        interface: interface.map(str::to_owned),
    };
    let delete = Operation::DeleteLocalAddress(address);
    for (words, operation) in [
        ("-P -z 10.9.0.9", add(None)),
        ("-P -z 10.9.0.9 -t 10.0.0.1:80 -F eth1", add(Some("eth1"))),
        (
            "--add-laddr --local-address 10.9.0.9 -f 7 --ifname eth1",
            add(Some("eth1")),
        ),
        ("-Q -z 10.9.0.9 -u 10.0.0.1:53 -F eth1", delete.clone()),
        ("--del-laddr -z10.9.0.9", delete.clone()),
    ] {
        api.applied.clear();
        let (_, err, exit) = run_with(&mut api, &format!("lvsadm {words}"), &[]);
        assert_eq!((err.as_str(), exit), ("", 0), "{words}");
        assert_eq!(api.applied, [operation], "{words}");
    }
    for (words, fault) in [
        (
            "-P",
            "You need to supply the 'local-address' option for the 'add-laddr' command\n",
        ),
        ("-P -z nine", "illegal local address specified\n"),
        ("-P -z 10.9.0.9:80", "illegal local address specified\n"),
        (
            "-G -z 10.9.0.9",
            "Illegal 'local-address' option with the 'get-laddr' command\n",
        ),
        (
            "-A -t 10.0.0.1:80 -z 10.9.0.9",
            "Illegal 'local-address' option with the 'add-service' command\n",
        ),
    ] {
        let (_, err, exit) = run_with(&mut api, &format!("lvsadm {words}"), &[]);
        assert_eq!((err.as_str(), exit), (fault, 2), "{words}");
    }
}

/// What `-S` says brings the local addresses back, before those who need them.
#[test]
fn local_addresses_are_listed_and_saved() {
    let local = |number: u8, listed| LocalAddressView {
        address: [10, 9, 0, number].into(),
        listed,
        connections: 6,
        fewest_left: 64_507,
        conflicts: 3,
    };
    let mut api = Fake {
        local_addresses: vec![local(9, true), local(10, false)],
        ..Fake::default()
    };
    let expected = "\
LocalAddress         Conflicts     Conns  PortsLeft
10.9.0.9                     3         6      64507
10.9.0.10                    3         6          -
";
    for words in ["-G", "--get-laddr", "-Gn -t 10.0.0.1:80"] {
        let (out, err, exit) = run_with(&mut api, &format!("lvsadm {words}"), &[]);
        assert_eq!((out.as_str(), err.as_str(), exit), (expected, "", 0));
    }
    let (saved, ..) = run_with(&mut api, "lvsadm -Sn", &[]);
    assert_eq!(saved, "-P -z 10.9.0.9\n");
    let (_, err, exit) = run_with(&mut api, "lvsadm -R", &[&saved]);
    assert_eq!((err.as_str(), exit), ("", 0));
    assert_eq!(
        api.applied,
        [Operation::AddLocalAddress {
            address: [10, 9, 0, 9].into(),
            interface: None
        }]
    );
    assert_eq!(run_with(&mut api, "ipvsadm -Sn", &[]).0, "");
}
