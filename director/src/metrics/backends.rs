//! Services and their real servers.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::family::Kind::{Counter, Gauge};
use super::labels::{BackendLabel, BackendLabels};
use super::sheet::{Measure, Part, Row, Sheet};
use crate::core::guard::GuardView;
use crate::core::judgement::Health;
use crate::core::operation::ServiceKey;
use crate::core::view::{ServerView, ServiceView, StatsView};

/// The numbers of real servers, or of several together, as Prometheus counts: exact up to 2^53.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    traffic: Traffic,
    active: f64,
    inactive: f64,
    templates: f64,
    configured_weight: f64,
    effective_weight: f64,
    up: f64,
    draining: f64,
    down: f64,
}

/// The counters among them.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    connections: f64,
    in_packets: f64,
    out_packets: f64,
    in_bytes: f64,
    out_bytes: f64,
}

impl From<&StatsView> for Traffic {
    fn from(stats: &StatsView) -> Traffic {
        Traffic {
            connections: stats.connections as f64,
            in_packets: stats.in_packets as f64,
            out_packets: stats.out_packets as f64,
            in_bytes: stats.in_bytes as f64,
            out_bytes: stats.out_bytes as f64,
        }
    }
}

impl Numbers {
    fn of(server: &ServerView) -> Numbers {
        let is = |health| f64::from(u8::from(server.health == health));
        Numbers {
            traffic: Traffic::from(&server.stats),
            active: server.active.into(),
            inactive: server.inactive.into(),
            templates: server.persistent.into(),
            configured_weight: server.spec.weight.into(),
            effective_weight: server.effective_weight.into(),
            up: is(Health::Up),
            draining: is(Health::Draining),
            down: is(Health::Down),
        }
    }

    /// Those of a service: its own counters, and what its servers have together.
    fn of_service(service: &ServiceView) -> Numbers {
        let mut all = Numbers::default();
        for server in &service.servers {
            let numbers = Numbers::of(server);
            // Who stands in is none of those that it stands in for.
            let counts = f64::from(u8::from(!server.sorry));
            all += Numbers {
                up: numbers.up * counts,
                draining: numbers.draining * counts,
                down: numbers.down * counts,
                ..numbers
            };
        }
        Numbers {
            traffic: Traffic::from(&service.stats),
            ..all
        }
    }
}

impl AddAssign for Numbers {
    fn add_assign(&mut self, other: Numbers) {
        let (traffic, more) = (&mut self.traffic, other.traffic);
        traffic.connections += more.connections;
        traffic.in_packets += more.in_packets;
        traffic.out_packets += more.out_packets;
        traffic.in_bytes += more.in_bytes;
        traffic.out_bytes += more.out_bytes;
        self.active += other.active;
        self.inactive += other.inactive;
        self.templates += other.templates;
        self.configured_weight += other.configured_weight;
        self.effective_weight += other.effective_weight;
        self.up += other.up;
        self.draining += other.draining;
        self.down += other.down;
    }
}

/// Whether the servers of a service are enough.
#[derive(Debug, Clone, Copy)]
struct Standing {
    guard: GuardView,
    sorry: bool,
}

/// The families of services.
#[derive(Debug)]
pub(super) struct Services {
    all: Sheet<Numbers>,
    guarded: Sheet<Standing>,
}

impl Services {
    pub(super) fn new() -> Services {
        Services {
            all: Sheet::new(SERVICE),
            guarded: Sheet::new(GUARDED),
        }
    }

    pub(super) fn add(&mut self, service: &ServiceView) {
        let labels = vec![("service", service.spec.key.to_string())];
        if let Some(guard) = service.guard {
            let sorry = service.servers.iter().any(|server| server.sorry);
            let standing = Standing { guard, sorry };
            self.guarded.add(vec![(labels.clone(), standing)]);
        }
        self.all.add(vec![(labels, Numbers::of_service(service))]);
    }

    pub(super) fn into_texts(self) -> impl Iterator<Item = Vec<u8>> {
        self.all.into_texts().chain(self.guarded.into_texts())
    }
}

/// The families of real servers that have the same labels.
#[derive(Debug)]
pub(super) struct Backends {
    labels: Vec<BackendLabel>,
    sheet: Sheet<Numbers>,
    /// By the values of the labels, while some are left out.
    sums: Option<BTreeMap<Vec<String>, Numbers>>,
}

impl Backends {
    /// `lvs_backend_*`
    pub(super) fn own(labels: &BackendLabels) -> Backends {
        Backends::new(BACKEND, &BackendLabel::OWN, labels)
    }

    /// `node_ipvs_backend_*`
    pub(super) fn node_exporters(labels: &BackendLabels) -> Backends {
        Backends::new(NODE_BACKEND, &BackendLabel::NODE_EXPORTER, labels)
    }

    fn new(
        measures: &'static [Measure<Numbers>],
        all: &[BackendLabel],
        labels: &BackendLabels,
    ) -> Backends {
        let labels = labels.of(all);
        Backends {
            sheet: Sheet::new(measures),
            sums: (labels.len() < all.len()).then(BTreeMap::new),
            labels,
        }
    }

    /// Takes servers in: as they are, or into the sums of those with the same labels.
    pub(super) fn add(&mut self, servers: &[(ServiceKey, ServerView)]) {
        let rows = servers.iter().map(|(service, server)| {
            let values = self.labels.iter();
            let values = values.map(|label| label.value(service, &server.spec.key));
            (values.collect::<Vec<String>>(), Numbers::of(server))
        });
        match &mut self.sums {
            None => {
                let rows: Vec<Row<Numbers>> = rows.map(|row| named(&self.labels, row)).collect();
                self.sheet.add(rows);
            }
            Some(sums) => rows.for_each(|(values, numbers)| {
                *sums.entry(values).or_default() += numbers;
            }),
        }
    }

    /// Writes so many sums; whether there are more.
    pub(super) fn add_sums(&mut self, most: usize) -> bool {
        let Some(sums) = &mut self.sums else {
            return false;
        };
        let rows = std::iter::from_fn(|| sums.pop_first()).take(most);
        let rows: Vec<Row<Numbers>> = rows.map(|row| named(&self.labels, row)).collect();
        self.sheet.add(rows);
        !sums.is_empty()
    }

    pub(super) fn into_texts(self) -> impl Iterator<Item = Vec<u8>> {
        self.sheet.into_texts()
    }
}

fn named(labels: &[BackendLabel], (values, numbers): (Vec<String>, Numbers)) -> Row<Numbers> {
    let names = labels.iter().map(|label| label.name());
    (names.zip(values).collect(), numbers)
}

const SERVICE: &[Measure<Numbers>] = &[
    Measure {
        name: "lvs_connections_total",
        help: "Connections scheduled by the service.",
        kind: Counter,
        parts: &[(None, |n| n.traffic.connections)],
    },
    Measure {
        name: "lvs_packets_total",
        help: "Packets of the service from clients (in) and to clients (out).",
        kind: Counter,
        parts: PACKETS,
    },
    Measure {
        name: "lvs_bytes_total",
        help: "Bytes of the service's IP packets from clients (in) and to clients (out).",
        kind: Counter,
        parts: BYTES,
    },
    Measure {
        name: "lvs_connections",
        help: "Connections of the service's real servers, active and inactive as ipvsadm counts them.",
        kind: Gauge,
        parts: ACTIVITY,
    },
    Measure {
        name: "lvs_persistence_templates",
        help: "Persistence templates of the service's real servers.",
        kind: Gauge,
        parts: &[(None, |n| n.templates)],
    },
    Measure {
        name: "lvs_backends",
        help: "Real servers of the service, by what is thought of them.",
        kind: Gauge,
        parts: &[
            (Some(("state", "up")), |n| n.up),
            (Some(("state", "draining")), |n| n.draining),
            (Some(("state", "down")), |n| n.down),
        ],
    },
];

/// Of services whose servers are judged, or that the configuration has watched over.
const GUARDED: &[Measure<Standing>] = &[
    Measure {
        name: "lvs_service_weight",
        help: "The sum of the weights of the service's real servers that are up.",
        kind: Gauge,
        parts: &[(None, |standing| standing.guard.weight as f64)],
    },
    Measure {
        name: "lvs_service_quorum",
        help: "The sum of weights that the service needs.",
        kind: Gauge,
        parts: &[(None, |standing| standing.guard.quorum.into())],
    },
    Measure {
        name: "lvs_service_has_quorum",
        help: "Whether the real servers that are up are enough, hysteresis considered.",
        kind: Gauge,
        parts: &[(None, |standing| standing.guard.has_quorum.into())],
    },
    Measure {
        name: "lvs_service_panic",
        help: "Whether failures of real servers are not believed, since too many failed at once.",
        kind: Gauge,
        parts: &[(None, |standing| standing.guard.panic.into())],
    },
    Measure {
        name: "lvs_service_sorry_server_active",
        help: "Whether the sorry server serves in the place of the real servers.",
        kind: Gauge,
        parts: &[(None, |standing| standing.sorry.into())],
    },
];

const BACKEND: &[Measure<Numbers>] = &[
    Measure {
        name: "lvs_backend_connections_total",
        help: "Connections scheduled to the real server.",
        kind: Counter,
        parts: &[(None, |n| n.traffic.connections)],
    },
    Measure {
        name: "lvs_backend_packets_total",
        help: "Packets of the real server's connections from clients (in) and to clients (out).",
        kind: Counter,
        parts: PACKETS,
    },
    Measure {
        name: "lvs_backend_bytes_total",
        help: "Bytes of IP packets of the real server's connections from clients (in) and to clients (out).",
        kind: Counter,
        parts: BYTES,
    },
    Measure {
        name: "lvs_backend_connections",
        help: "Connections of the real server, active and inactive as ipvsadm counts them.",
        kind: Gauge,
        parts: ACTIVITY,
    },
    Measure {
        name: "lvs_backend_persistence_templates",
        help: "Persistence templates of the real server.",
        kind: Gauge,
        parts: &[(None, |n| n.templates)],
    },
    Measure {
        name: "lvs_backend_configured_weight",
        help: "The weight that the administrator gave the real server.",
        kind: Gauge,
        parts: &[(None, |n| n.configured_weight)],
    },
    Measure {
        name: "lvs_backend_effective_weight",
        help: "The weight that counts: 0 while the real server is down or drained.",
        kind: Gauge,
        parts: &[(None, |n| n.effective_weight)],
    },
    Measure {
        name: "lvs_backend_up",
        help: "Whether the real server is up, which is neither draining nor down.",
        kind: Gauge,
        parts: &[(None, |n| n.up)],
    },
    Measure {
        name: "lvs_backend_draining",
        help: "Whether the real server is drained: it keeps its connections and gets no new ones.",
        kind: Gauge,
        parts: &[(None, |n| n.draining)],
    },
];

/// Names and help of node_exporter's collector ipvs.
const NODE_BACKEND: &[Measure<Numbers>] = &[
    Measure {
        name: "node_ipvs_backend_connections_active",
        help: "The current active connections by local and remote address.",
        kind: Gauge,
        parts: &[(None, |n| n.active)],
    },
    Measure {
        name: "node_ipvs_backend_connections_inactive",
        help: "The current inactive connections by local and remote address.",
        kind: Gauge,
        parts: &[(None, |n| n.inactive)],
    },
    Measure {
        name: "node_ipvs_backend_weight",
        help: "The current backend weight by local and remote address.",
        kind: Gauge,
        parts: &[(None, |n| n.effective_weight)],
    },
];

const PACKETS: &[Part<Numbers>] = &[
    (IN, |n| n.traffic.in_packets),
    (OUT, |n| n.traffic.out_packets),
];

const BYTES: &[Part<Numbers>] = &[(IN, |n| n.traffic.in_bytes), (OUT, |n| n.traffic.out_bytes)];

/// As `ActiveConn` and `InActConn`.
const ACTIVITY: &[Part<Numbers>] = &[
    (Some(("state", "active")), |n| n.active),
    (Some(("state", "inactive")), |n| n.inactive),
];

const IN: Option<(&str, &str)> = Some(("direction", "in"));
const OUT: Option<(&str, &str)> = Some(("direction", "out"));
