//! How a real server stands: what its judges say, whether it is drained, withheld or not believed to be down, and what
//! becomes of its connections then.

use shared::time::Time;

use super::Server;
use crate::core::judgement::{Afterwards, Beginning, Health, Judge, Judgement, Order};

/// What a server is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To serve.
    Real,
    /// To say sorry while the others cannot serve.
    Sorry,
}

/// Whether the connections of a server that is still configured are to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No.
    None,
    /// The deadline of a drain has come.
    Drained,
    /// It is down, and its service has a way to go on.
    Failed,
}

/// What the judges of a server say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    /// It serves, or at least what it has.
    Fit,
    /// It is down.
    Unfit,
}
impl Server {
    /// The same whatever the other servers are like.
    pub(in crate::core) fn own_weight(&self) -> i32 {
        if self.health() != Health::Up || self.order.is_some() {
            return 0;
        }
        self.judgements.weigh(self.spec.weight)
    }

    /// Whether somebody keeps new connections from it: it is down or drained, or the sorry server serves.
    pub fn is_shut(&self) -> bool {
        self.health() != Health::Up || self.order.is_some() || self.withheld
    }

    /// As its judges say, if they are believed.
    pub(super) fn health(&self) -> Health {
        match self.judgements.health() {
            Health::Down if self.kept => Health::Up,
            health => health,
        }
    }

    /// Whether its connections are to end.
    #[inline(always)]
    pub fn is_cut(&self) -> bool {
        self.ending != Ending::None
    }

    /// Why they are.
    pub(in crate::core) fn ending(&self) -> Ending {
        self.ending
    }

    /// Whether it only stands in for others.
    pub fn is_sorry(&self) -> bool {
        self.role == Role::Sorry
    }

    pub(in crate::core) fn set_role(&mut self, role: Role) {
        self.role = role;
    }

    pub(in crate::core) fn is_withheld(&self) -> bool {
        self.withheld
    }

    pub(in crate::core) fn set_withheld(&mut self, withheld: bool) {
        self.withheld = withheld;
    }

    pub(in crate::core) fn is_kept(&self) -> bool {
        self.kept
    }

    pub(in crate::core) fn set_kept(&mut self, kept: bool) {
        self.kept = kept;
    }

    /// Since when it is down, if it was fit before.
    pub(in crate::core) fn failed_at(&self) -> Option<Time> {
        self.failed_at
    }

    /// Lets its connections end while it is down, or no longer. Whether they are to from now on.
    pub(in crate::core) fn settle_failure(&mut self, ends: bool) -> bool {
        let ends = ends && self.health() == Health::Down;
        match self.ending {
            Ending::None if ends => {
                self.ending = Ending::Failed;
                return true;
            }
            Ending::Failed if !ends => self.ending = Ending::None,
            _ => {}
        }
        false
    }

    /// Whether they may have to end.
    pub(in crate::core) fn may_be_cut(&self) -> bool {
        self.order
            .is_some_and(|order| order.then == Afterwards::Reset)
    }

    pub(in crate::core) fn cut(&mut self) {
        self.ending = Ending::Drained;
    }

    pub(in crate::core) fn order(&self) -> Option<Order> {
        self.order
    }

    pub(in crate::core) fn set_order(&mut self, now: Time, order: Option<Order>) {
        self.order = order;
        self.ending = Ending::None;
        self.settle_drain(now);
    }

    /// Whether this judge has said just that before.
    pub(in crate::core) fn has_judgement(&self, judge: Judge, judgement: &Judgement) -> bool {
        self.fitness.is_some() && self.judgements.of(judge) == judgement
    }

    /// Whether it is fit, if that is another thing than what was said before.
    pub(in crate::core) fn set_judgement(
        &mut self,
        now: Time,
        judge: Judge,
        judgement: Judgement,
    ) -> Option<Fitness> {
        self.judgements.set(judge, judgement);
        let fitness = match self.judgements.health() {
            Health::Down => Fitness::Unfit,
            Health::Up | Health::Draining => Fitness::Fit,
        };
        let before = self.fitness.replace(fitness);
        self.failed_at = match (before, fitness) {
            (_, Fitness::Fit) | (None, _) => None,
            (Some(Fitness::Fit), Fitness::Unfit) => Some(now),
            (Some(Fitness::Unfit), Fitness::Unfit) => self.failed_at,
        };
        self.kept &= self.failed_at.is_some();
        self.settle_drain(now);
        (before.is_some() && before != Some(fitness)).then_some(fitness)
    }

    /// Whether its drain has come to its end, said once.
    pub(in crate::core) fn has_drained(&mut self) -> bool {
        let idle = self.is_idle();
        let drain = self.drain.as_mut().filter(|drain| idle && !drain.told);
        drain.is_some_and(|drain| {
            drain.told = true;
            true
        })
    }

    fn settle_drain(&mut self, now: Time) {
        let drains = self.order.is_some() || self.judgements.health() == Health::Draining;
        let held = self.total() + self.templates;
        let told = false;
        self.drain = drains.then(|| {
            self.drain.unwrap_or(Beginning {
                at: now,
                held,
                told,
            })
        });
        self.settle_weight();
    }

    pub(in crate::core) fn settle_weight(&mut self) {
        self.weight = self.full_weight();
        if self.weight != 0 {
            self.last_weight = self.weight;
        }
    }

    pub(super) fn reason(&self) -> Option<String> {
        let reason = self.judgements.reason();
        match (reason, self.kept, self.withheld) {
            (Some(reason), true, _) => Some(format!(
                "{reason}; not believed, since too many have failed at once"
            )),
            (None, _, true) => Some("the service has no quorum".to_owned()),
            (reason, ..) => reason,
        }
    }
}
