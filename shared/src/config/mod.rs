//! Configuration files in TOML: their tables by name and type, and every fault with its place. Pure.
//!
//! Reading never stops at the first fault: an administrator gets the whole list, each with its
//! place and with what to write instead.

mod fault;
mod section;

pub use fault::{Fault, Faults, Notes, Seen};
pub use section::{Keys, Placed, Section, Words, duration, word};

use toml::de::DeTable;

use fault::Broken;

/// What `values` makes of a text, or all its faults. `file` is only named in the faults.
///
/// # Errors
/// Every fault of the text, in the order of their places.
pub fn read<T>(
    text: &str,
    file: &str,
    keys: &'static Keys,
    values: impl FnOnce(&mut Notes<'_>, Section<'_, '_>) -> T,
) -> Result<T, Faults> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let broken = if errors.is_empty() {
        Broken::No
    } else {
        Broken::Yes
    };
    let mut notes = Notes::new(text, broken);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        notes.fault(at, format!("this is not TOML: {}", error.message()));
    }
    let root = Section::new(&mut notes, keys, document.get_ref(), 0);
    let values = values(&mut notes, root);
    let faults = notes.finish();
    if faults.is_empty() {
        return Ok(values);
    }
    Err(Faults {
        file: file.to_owned(),
        faults,
    })
}
