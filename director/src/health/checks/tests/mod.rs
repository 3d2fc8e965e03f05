//! What the tests of checks have in common.

mod talks;
mod time;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::*;

const RIP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);

fn timing() -> Timing {
    Timing {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        retry: 3,
        delay_before_retry: Duration::from_secs(2),
        warmup: Duration::from_secs(5),
        alpha: false,
    }
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

fn http(urls: Vec<Url>) -> Kind {
    Kind::Http(Http {
        urls,
        version: HttpVersion::V1_0,
        tls: None,
    })
}

fn probe_of(kind: Kind, timing: Timing) -> Probe {
    Probe {
        to: SocketAddr::from((RIP, 80)),
        check: Check {
            kind: Arc::new(kind),
            address: None,
            port: None,
            bind: None,
            timing,
        },
    }
}

fn probe(kind: Kind) -> Probe {
    probe_of(kind, timing())
}
