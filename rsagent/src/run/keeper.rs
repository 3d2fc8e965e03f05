//! Keeps the host as it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use shared::host::netlink::{Event, Monitor, Netlink};

use super::report::presence;
use crate::apply::{self, AgentError, set_up, take_down};
use crate::compare::{asked_or_ours, compare};
use crate::config::{Config, Mode};
use crate::finding::{About, Findings};
use crate::log::Log;
use crate::plan::{Facts, contains, is_default};
use crate::state::{State, Store};
use crate::tunnel;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Keeper {
    config: Config,
    netlink: Netlink,
    monitor: Monitor,
    state: State,
    facts: Facts,
    findings: Findings,
    mended: Vec<String>,
}

impl Keeper {
    /// Makes the host what is asked for.
    ///
    /// # Errors
    /// It cannot be that.
    pub(crate) fn start(config: Config) -> Result<Keeper, AgentError> {
        // Before the first look, so that no change falls in between.
        let monitor = Monitor::without_neighbours()?;
        let (netlink, facts) = apply::look()?;
        let mut keeper = Keeper {
            config: Config::default(),
            netlink,
            monitor,
            state: State::default(),
            facts,
            findings: Findings::default(),
            mended: Vec::new(),
        };
        keeper.adopt(config)?;
        Ok(keeper)
    }

    /// Makes the host what is asked for from now on. VIPs of before that are not go.
    ///
    /// # Errors
    /// It cannot be that.
    pub(crate) fn adopt(&mut self, config: Config) -> Result<(), AgentError> {
        if config.lacks_a_vip() {
            return Err(AgentError::NoVip);
        }
        let mut opened = Store::open()?;
        self.facts = apply::facts(&mut self.netlink)?;
        let (netlink, facts) = (&mut self.netlink, &self.facts);
        let wanted: BTreeSet<IpAddr> = match config.mode {
            Mode::Nat => BTreeSet::new(),
            Mode::Dr | Mode::Tun => config.vips.iter().copied().collect(),
        };
        if !wanted.is_empty() {
            set_up(&config, facts, netlink, &mut opened, Log::Changes)?;
        }
        let known: BTreeSet<IpAddr> = opened.1.vips.keys().copied().collect();
        let gone = known.difference(&wanted).copied().collect();
        take_down(&gone, facts, netlink, &mut opened, Log::Changes)?;
        let (store, state) = &mut opened;
        if let Some(tunnels) = state.tunnels.clone()
            && config.mode != Mode::Tun
        {
            tunnel::apply::stop(&tunnels.vips, facts, netlink, (state, store), Log::Changes)?;
        }
        store.save(state)?;
        drop(opened);
        self.config = config;
        self.look();
        Ok(())
    }

    /// Whether the host's network has changed in a way that may concern us.
    pub(crate) fn has_heard(&mut self) -> bool {
        let vips: Vec<IpAddr> = self.state.vips.keys().copied().collect();
        // All are taken, so that the next one is told.
        let concern = |heard, event| heard | concerns(&event, &vips);
        self.monitor.by_ref().fold(false, concern)
    }

    /// Looks at everything, and mends what is wrong. What cannot be mended is a finding.
    pub(crate) fn look(&mut self) {
        let before = std::mem::take(&mut self.findings);
        self.mended.clear();
        if let Err(error) = self.look_and_mend(&before) {
            self.findings = Findings::default();
            self.findings.wrong(About::Host, error);
            self.tell(&before);
        }
    }

    /// Looks at what nobody tells of: settings and filters. Whether something has to be mended.
    pub(crate) fn glance(&mut self) -> bool {
        let config = self.wanted(&self.state);
        let findings = compare(&config, &self.state, &self.facts, &mut self.netlink);
        !findings.is_ok_and(|findings| findings.are_right())
    }

    /// Takes everything away that is ours.
    ///
    /// # Errors
    /// It cannot be undone.
    pub(crate) fn undo(&mut self) -> Result<(), AgentError> {
        let mut opened = Store::open()?;
        self.facts = apply::facts(&mut self.netlink)?;
        let vips = asked_or_ours(&Config::default(), &opened.1, &self.facts);
        let undone = take_down(
            &vips,
            &self.facts,
            &mut self.netlink,
            &mut opened,
            Log::Changes,
        );
        let (store, state) = &mut opened;
        state.leaving = false;
        store.save(state)?;
        undone
    }

    /// What was last found, after mending.
    pub(crate) fn findings(&self) -> &Findings {
        &self.findings
    }

    /// What was wrong at the last look, and was mended.
    pub(crate) fn mended(&self) -> &[String] {
        &self.mended
    }

    /// The state file as it was at the last look.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether somebody else has changed the state file since.
    pub(crate) fn is_out_of_date(&self) -> bool {
        State::peek().map_or(true, |now| now != self.state)
    }

    /// The VIPs that should be here, and whether they are.
    pub(crate) fn vips(&self) -> BTreeMap<IpAddr, bool> {
        presence(self.state.vips.keys().copied(), &self.facts)
    }

    fn look_and_mend(&mut self, before: &Findings) -> Result<(), AgentError> {
        let mut opened = Store::open()?;
        self.state = opened.1.clone();
        self.facts = apply::facts(&mut self.netlink)?;
        let config = self.wanted(&self.state);
        self.findings = compare(&config, &opened.1, &self.facts, &mut self.netlink)?;
        let wrong = self.tell(before);
        if self.findings.are_right() || config.mode == Mode::Nat || config.vips.is_empty() {
            return Ok(());
        }
        let (netlink, facts) = (&mut self.netlink, &self.facts);
        match set_up(&config, facts, netlink, &mut opened, Log::Changes) {
            // The findings say so.
            Err(AgentError::Plan(_)) => {}
            outcome => outcome?,
        }
        self.facts = apply::facts(&mut self.netlink)?;
        self.findings = compare(&config, &opened.1, &self.facts, &mut self.netlink)?;
        self.state = opened.1;
        let left: BTreeSet<&str> = self
            .findings
            .all_wrong()
            .map(|left| left.text.as_str())
            .collect();
        self.mended = wrong
            .into_iter()
            .filter(|text| !left.contains(text.as_str()))
            .collect();
        Ok(())
    }

    /// Tells what is wrong and was not before; all that is wrong.
    fn tell(&self, before: &Findings) -> Vec<String> {
        for finding in self.findings.all_wrong() {
            if !before.all_wrong().any(|known| known == finding) {
                println!("wrong: {}", finding.text);
            }
        }
        self.findings
            .all_wrong()
            .map(|finding| finding.text.clone())
            .collect()
    }

    /// What is asked for, together with what `start` and `stop` have changed since.
    fn wanted(&self, state: &State) -> Config {
        let mut config = self.config.clone();
        if config.mode != Mode::Nat {
            config.vips = state.vips.keys().copied().collect();
            config.these_alone = true;
        }
        config
    }
}

impl AsRawFd for Keeper {
    fn as_raw_fd(&self) -> RawFd {
        self.monitor.as_raw_fd()
    }
}

/// Of the routes only those matter that say which interfaces carry VIPs; there may be very many others.
fn concerns(event: &Event, vips: &[IpAddr]) -> bool {
    match event {
        Event::Neighbour(_) | Event::NeighbourGone(_) => false,
        Event::Route(route) | Event::RouteReplaced(route) | Event::RouteGone(route) => {
            is_default(route) || vips.iter().any(|&vip| contains(route.destination, vip))
        }
        Event::Link(_)
        | Event::LinkGone(_)
        | Event::Address(_)
        | Event::AddressGone(_)
        | Event::Lost => true,
    }
}
