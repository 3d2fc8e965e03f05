//! Locality-based least-connection with replication (`ip_vs_lblcr.c`): as `lblc`, but a destination has a
//! set of servers, which grows when the least loaded of them has too much to do and shrinks by the most
//! loaded one after a day.

use shared::time::Time;

use super::least::{self, is_cheaper, overhead};
use super::locality::{Memory, is_overloaded};
use super::{Opening, Pool, Scheduler};
use crate::core::operation::ServerKey;
use crate::core::server::Server;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct LocalityBasedReplicated {
    memory: Memory<Set>,
}

/// The servers of a destination, newest first.
#[derive(Debug)]
struct Set {
    members: Vec<ServerKey>,
    changed: Time,
}

impl Scheduler for LocalityBasedReplicated {
    fn pick(&mut self, pool: &Pool<'_>, opening: &mut Opening<'_>) -> Option<usize> {
        let (destination, now) = (opening.flow.destination, opening.now);
        let expiration = opening.expiration.lblcr;
        self.memory.collect(now, expiration);
        let Some(set) = self.memory.recall(destination, now) else {
            let position = least::weighted(pool, overhead)?;
            let members = vec![pool.get(position)?.spec().key];
            let changed = now;
            self.memory
                .remember(destination, now, Set { members, changed });
            return Some(position);
        };
        let least = set.least(pool);
        if set.members.len() > 1 && now.since(set.changed) > expiration {
            set.drop_greatest(pool, now);
        }
        if let Some((position, server)) = least
            && !is_overloaded(pool, server)
        {
            return Some(position);
        }
        let position = least::weighted(pool, overhead)?;
        let key = pool.get(position)?.spec().key;
        if !set.members.contains(&key) {
            set.members.insert(0, key);
            set.changed = now;
        }
        Some(position)
    }
}

impl Set {
    fn least<'a>(&self, pool: &Pool<'a>) -> Option<(usize, &'a Server)> {
        let usable = self.members(pool).filter(|(_, server)| server.is_usable());
        usable.reduce(|least, other| {
            if is_cheaper(other.1, least.1, overhead) {
                other
            } else {
                least
            }
        })
    }

    fn drop_greatest(&mut self, pool: &Pool<'_>, now: Time) {
        let weighted = self.members(pool).filter(|(_, server)| server.weight() > 0);
        let greatest = weighted.reduce(|greatest, other| {
            if is_cheaper(greatest.1, other.1, overhead) {
                other
            } else {
                greatest
            }
        });
        if let Some((_, server)) = greatest {
            let key = server.spec().key;
            self.members.retain(|member| *member != key);
            self.changed = now;
        }
    }

    fn members<'a>(&self, pool: &Pool<'a>) -> impl Iterator<Item = (usize, &'a Server)> {
        self.members.iter().filter_map(|key| pool.find(key))
    }
}
