//! Counters of services, real servers and the whole, and the rates made of them (`ip_vs_est.c`).

use std::time::Duration;

use super::connection::Direction;
use super::view::StatsView;

/// What the packet path counts. It only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes of IP packets from clients.
    pub in_bytes: u64,
    /// Bytes of IP packets to clients.
    pub out_bytes: u64,
}

impl Counters {
    /// Counts a packet.
    pub fn count(&mut self, direction: Direction, ip_bytes: u32) {
        let (packets, bytes) = match direction {
            Direction::Request => (&mut self.in_packets, &mut self.in_bytes),
            Direction::Reply => (&mut self.out_packets, &mut self.out_bytes),
        };
        *packets += 1;
        *bytes += u64::from(ip_bytes);
    }

    /// In the order of the rates.
    const fn array(&self) -> [u64; 5] {
        [
            self.connections,
            self.in_packets,
            self.out_packets,
            self.in_bytes,
            self.out_bytes,
        ]
    }
}

/// What goes with [`Counters`] and is not touched by packets: the base that zeroing remembers, and
/// the smoothed rates.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    base: Counters,
    last: Counters,
    /// Fixed point, see [`SCALES`].
    averages: [i64; 5],
}

impl Estimator {
    /// Takes the counters of the last [`PERIOD`] into the averages: each moves a quarter of the way.
    pub fn tick(&mut self, counters: &Counters) {
        let last = std::mem::replace(&mut self.last, *counters).array();
        let rates = self.averages.iter_mut().zip(SCALES);
        for ((average, scale), (now, last)) in rates.zip(counters.array().into_iter().zip(last)) {
            let rate = (now.wrapping_sub(last) as i64) << (scale - 1);
            *average += (rate - *average) >> 2;
        }
    }

    /// Makes counters and rates show zero. The kernel takes the last estimate as the base, so that
    /// packets of the last two seconds may reappear; we take what has been counted.
    pub fn zero(&mut self, counters: &Counters) {
        *self = Estimator {
            base: *counters,
            last: *counters,
            averages: [0; 5],
        };
    }

    /// What to show: counters as they are now, rates of the last tick.
    pub fn view(&self, counters: &Counters) -> StatsView {
        let mut rates = self.averages;
        for (rate, scale) in rates.iter_mut().zip(SCALES) {
            *rate = (*rate + (1 << (scale - 1)) - 1) >> scale;
        }
        let [cps, in_pps, out_pps, in_bps, out_bps] = rates.map(|rate| rate as u64);
        StatsView {
            connections: counters.connections - self.base.connections,
            in_packets: counters.in_packets - self.base.in_packets,
            out_packets: counters.out_packets - self.base.out_packets,
            in_bytes: counters.in_bytes - self.base.in_bytes,
            out_bytes: counters.out_bytes - self.base.out_bytes,
            cps,
            in_pps,
            out_pps,
            in_bps,
            out_bps,
        }
    }
}

/// Between two ticks of the estimators.
pub const PERIOD: Duration = Duration::from_secs(2);

/// Fraction bits of the averages: 10 for connections and packets per second, 5 for bytes.
const SCALES: [u32; 5] = [10, 10, 10, 5, 5];

#[cfg(test)]
mod tests {
    use super::*;

    fn five_short_connections() -> Counters {
        Counters {
            connections: 5,
            in_packets: 25,
            out_packets: 15,
            in_bytes: 1340,
            out_bytes: 830,
        }
    }

    /// As the kernel's rates of five short connections fell from tick to tick.
    #[test]
    fn rates_rise_and_fall_by_a_quarter() {
        let counters = five_short_connections();
        let mut estimator = Estimator::default();
        let rates = |e: &Estimator| {
            let v = e.view(&counters);
            [v.cps, v.in_pps, v.out_pps, v.in_bps, v.out_bps]
        };
        assert_eq!(rates(&estimator), [0; 5]);
        estimator.tick(&counters);
        for expected in [
            [0, 2, 1, 126, 78],
            [0, 2, 1, 94, 58],
            [0, 1, 1, 71, 44],
            [0, 1, 1, 53, 33],
            [0, 1, 0, 40, 25],
        ] {
            estimator.tick(&counters);
            assert_eq!(rates(&estimator), expected);
        }
    }

    #[test]
    fn zeroing_keeps_nothing_of_before() {
        let mut counters = five_short_connections();
        let mut estimator = Estimator::default();
        estimator.tick(&counters);
        counters.count(Direction::Request, 60);
        estimator.zero(&counters);
        assert_eq!(estimator.view(&counters), StatsView::default());
        counters.count(Direction::Reply, 100);
        let view = estimator.view(&counters);
        assert_eq!(
            (view.out_packets, view.out_bytes, view.in_packets),
            (1, 100, 0)
        );
        estimator.tick(&counters);
        assert_eq!(estimator.view(&counters).in_bps, 0);
        assert_eq!(estimator.view(&counters).out_bps, 12);
    }
}
