//! `-L -c`: connections and persistence templates.

use super::name::{Namer, protocol_name};
use crate::control::command::{Format, Persistence};
use crate::control::names::Names;
use crate::core::view::{ConnectionView, EngineView};

/// The two lines above the rows.
pub fn heading(format: Format) -> String {
    let columns = format!(
        "pro expire {:<11} {:<18} {:<18}",
        "state", "source", "virtual"
    );
    let rest = match format.persistence {
        Persistence::Hidden => "destination".to_owned(),
        Persistence::Shown => format!("{:<18} {:<16} pe_data", "destination", "pe name"),
    };
    format!("IPVS connection entries\n{columns} {rest}\n")
}

/// One row. The columns of persistence engines are shown where there is one, and are narrower than their heading.
pub fn row(view: &ConnectionView, format: Format, names: &dyn Names) -> String {
    let namer = Namer {
        addresses: format.addresses,
        names,
    };
    let seconds = view.expires_ms / 1000;
    let expire = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    let endpoint = |address, port| namer.endpoint(address, port, view.protocol);
    let destination = endpoint(view.destination, view.destination_port);
    let rest = match (&view.engine, format.persistence) {
        (Some(EngineView { name, data }), Persistence::Shown) => {
            format!("{destination:<16} {name:<18} {data}")
        }
        _ => destination,
    };
    format!(
        "{:<3} {expire:<6} {:<11} {:<18} {:<18} {rest}\n",
        protocol_name(view.protocol),
        view.state,
        endpoint(view.client, view.client_port),
        endpoint(view.virtual_address, view.virtual_port),
    )
}
