//! A way on which nobody says what is too big.

use std::fs;

use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::Nginx;

use super::common::Transfers;
use super::{CONFIG, Lab};

/// The link behind the director takes less than both ends believe, and they are not told so.
#[test]
fn a_lower_segment_size_passes_where_errors_do_not() {
    let lab = Lab::new();
    let transfers = Transfers::of(5);
    let web = Nginx::start(&lab.server, "server 1", 8080, Some(transfers.path()));
    for (host, device) in [(&lab.director, "rt"), (&lab.router, "di")] {
        host.mtu(device, 1400);
    }
    for host in [&lab.client, &lab.server] {
        let deaf = "add table ip deaf; \
                    add chain ip deaf input { type filter hook input priority 0; }; \
                    add rule ip deaf input icmp type destination-unreachable drop";
        host.succeed("nft", &[deaf]);
    }
    let scheduler = "protocol = \"tcp\"\nscheduler = \"rr\"\n";
    let upload = |patience: &str| {
        let file = transfers.path().display().to_string();
        let words = [
            "-sS",
            "-m",
            patience,
            "-T",
            &file,
            "http://10.0.0.100/put/it",
        ];
        lab.client.output("curl", &words).status.success()
    };
    let director = lab.start();
    assert!(!upload("3"), "nothing is in the way");
    drop(director);
    for words in ["set_mss = 1300\n", "clamp_mss_to_pmtu = true\n"] {
        let _director = lab.start_with(&CONFIG.replace(scheduler, &(scheduler.to_owned() + words)));
        assert!(upload("20"), "{words}");
        let expected = fs::read(transfers.path()).unwrap();
        assert!(fs::read(web.put_file("it")).unwrap() == expected, "{words}");
        assert!(download(&lab.client) == expected, "{words}");
    }
}

fn download(client: &Host) -> Vec<u8> {
    let got = scratch("got");
    let file = got.display().to_string();
    client.succeed(
        "curl",
        &["-sS", "-m", "20", "-o", &file, "http://10.0.0.100/bytes"],
    );
    let bytes = fs::read(&got).unwrap();
    fs::remove_file(&got).unwrap();
    bytes
}
