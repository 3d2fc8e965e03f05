//! How much memory the host has left.

use std::fs;
use std::io;

/// Pages of 4 KiB that are free or hold buffers: what IPVS calls available.
///
/// # Errors
/// Without `/proc`.
pub(super) fn free_pages() -> io::Result<u64> {
    Ok(pages(&fs::read_to_string("/proc/meminfo")?))
}

fn pages(meminfo: &str) -> u64 {
    let kibibytes = meminfo.lines().filter_map(|line| {
        let number = line
            .strip_prefix("MemFree:")
            .or_else(|| line.strip_prefix("Buffers:"))?;
        number.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kibibytes.sum::<u64>() / 4
}

#[cfg(test)]
mod tests {
    #[test]
    fn free_memory_and_buffers_are_added_up() {
        let text = "MemTotal:       8000000 kB\nMemFree:            400 kB\nBuffers:     40 kB\n";
        assert_eq!(super::pages(text), 110);
    }
}
