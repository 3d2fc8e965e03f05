//! `[agents]`, and `type = "agent"`: what is expected of those who report.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shared::agent::{KEY_FILE, PORT};
use shared::config::{Notes, Placed, Section};

use super::super::socket_address;
use super::Layers;
use crate::config::Agents;
use crate::health::agents::check::{AgentCheck, Weight};

/// `[agents]`
pub(in crate::config::read) fn agents(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Agents {
    let everywhere = SocketAddr::from(([0_u16; 8], PORT));
    let listen = section.text(notes, "listen");
    let listen = listen.map_or(Some(everywhere), |text| {
        socket_address(notes, text, everywhere)
    });
    let insecure = section.truth(notes, "insecure");
    let insecure = insecure.filter(|insecure| insecure.value);
    let key_file = section.text(notes, "key_file");
    if let (Some(_), Some(insecure)) = (key_file, insecure) {
        let fault = "with a key file nothing is insecure; leave `insecure' out, or `key_file' if \
                     everybody's reports are to be believed";
        notes.fault(insecure.at, fault);
    }
    if let Some(file) = key_file
        && !file.value.starts_with('/')
    {
        let fault = format!(
            "`key_file' is {:?}, which depends on where the director is started; write a path from the \
             root, such as {KEY_FILE:?}",
            file.value
        );
        notes.fault(file.at, fault);
    }
    let named = key_file.map_or(KEY_FILE, |file| file.value);
    Agents {
        listen: listen.unwrap_or(everywhere),
        key_file: insecure.is_none().then(|| PathBuf::from(named)),
    }
}

/// What is expected of the agent of a real server.
pub(super) fn agent(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> AgentCheck {
    let interval = layers.of("interval");
    let interval = interval.duration(notes, "interval", SHORTEST..=LONGEST);
    let missed = layers.of("missed");
    let missed = missed.number(notes, "missed", 1..=MOST_MISSED);
    let usual = AgentCheck::default();
    AgentCheck {
        interval: interval.map(|interval| interval.value),
        missed: missed.map_or(usual.missed, |missed| missed.value),
        weight: weight(notes, layers),
    }
}

/// `weight = true`, perhaps with bounds.
fn weight(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> Weight {
    let mut bound = |key| {
        let any = 0..=u32::from(u16::MAX);
        layers.of(key).number(notes, key, any)
    };
    let (least, most) = (bound("least_weight"), bound("most_weight"));
    let wanted = layers.of("weight").truth(notes, "weight");
    let value = |given: Option<Placed<u32>>, usual| given.map_or(usual, |given| given.value as u16);
    let bounds = (value(least, 0), value(most, u16::MAX));
    let place = least.or(most).map(|bound| bound.at);
    if !wanted.is_some_and(|wanted| wanted.value) {
        if let Some(at) = place {
            let fault = "bounds are for the weight that the agent wants; write weight = true";
            notes.fault(at, fault);
        }
        return Weight::Configured;
    }
    if let (Some(at), (least, most)) = (place, bounds)
        && least > most
    {
        let fault = format!("least_weight {least} is above most_weight {most}; write a lower one");
        notes.fault(at, fault);
    }
    Weight::Wanted {
        least: bounds.0,
        most: bounds.1,
    }
}

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(60);
const MOST_MISSED: u32 = 1000;
