//! Hash maps that programs look into and user space fills.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::syscall::{
    MAP_DELETE, MAP_LOOKUP, MAP_UPDATE, MapCreate, MapElement, bpf, bpf_fd, object_name,
};
use crate::sys::SyscallError;

/// A hash map with keys of `KEY` bytes and values of `VALUE` bytes, read-only for programs.
///
/// Memory is taken per entry (`BPF_F_NO_PREALLOC`). The map lives as long as this descriptor or
/// a program that uses it.
#[derive(Debug)]
pub struct HashMap<const KEY: usize, const VALUE: usize> {
    fd: OwnedFd,
}

impl<const KEY: usize, const VALUE: usize> HashMap<KEY, VALUE> {
    /// A new, empty map for at most `max_entries`. Tools show the first 15 bytes of `name`, which
    /// may hold letters, digits, `_` and `.`.
    ///
    /// # Errors
    /// EPERM without `CAP_BPF`.
    pub fn create(name: &str, max_entries: u32) -> Result<HashMap<KEY, VALUE>, SyscallError> {
        let fd = bpf_fd(&mut MapCreate {
            map_type: MAP_TYPE_HASH,
            key_size: KEY as u32,
            value_size: VALUE as u32,
            max_entries,
            map_flags: FLAG_NO_PREALLOC | FLAG_READ_ONLY_FOR_PROGRAMS,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: object_name(name),
        })?;
        Ok(HashMap { fd })
    }

    /// Adds an entry, or gives it a new value.
    ///
    /// # Errors
    /// E2BIG when the map is full.
    pub fn insert(&self, key: &[u8; KEY], value: &[u8; VALUE]) -> Result<(), SyscallError> {
        // The kernel only reads what `value` points to.
        bpf(&mut self.element::<MAP_UPDATE>(key, value.as_ptr())).map(drop)
    }

    /// Takes an entry out; whether it was there.
    ///
    /// # Errors
    /// None that a map of this kind is known to give.
    pub fn remove(&self, key: &[u8; KEY]) -> Result<bool, SyscallError> {
        found(bpf(&mut self.element::<MAP_DELETE>(key, ptr::null())))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// None that a map of this kind is known to give.
    pub fn get(&self, key: &[u8; KEY]) -> Result<Option<[u8; VALUE]>, SyscallError> {
        let mut value = [0; VALUE];
        let mut element = self.element::<MAP_LOOKUP>(key, value.as_mut_ptr());
        let found = found(bpf(&mut element))?;
        Ok(found.then_some(value))
    }

    fn element<const COMMAND: u32>(
        &self,
        key: &[u8; KEY],
        value: *const u8,
    ) -> MapElement<COMMAND> {
        MapElement {
            map_fd: self.fd.as_raw_fd() as u32,
            zero: 0,
            key: key.as_ptr().expose_provenance() as u64,
            value: value.expose_provenance() as u64,
            flags: 0,
        }
    }
}

impl<const KEY: usize, const VALUE: usize> AsFd for HashMap<KEY, VALUE> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// ENOENT is an answer.
fn found<T>(result: Result<T, SyscallError>) -> Result<bool, SyscallError> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

const MAP_TYPE_HASH: u32 = 1;
const FLAG_NO_PREALLOC: u32 = 1 << 0;
const FLAG_READ_ONLY_FOR_PROGRAMS: u32 = 1 << 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_and_go() {
        let map = HashMap::<4, 1>::create("test", 2).unwrap();
        assert_eq!(map.get(b"aaaa").unwrap(), None);
        map.insert(b"aaaa", &[1]).unwrap();
        map.insert(b"aaaa", &[2]).unwrap();
        map.insert(b"bbbb", &[3]).unwrap();
        assert_eq!(map.get(b"aaaa").unwrap(), Some([2]));
        let error = map.insert(b"cccc", &[4]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::E2BIG));
        assert!(error.to_string().starts_with("bpf(BPF_MAP_UPDATE_ELEM): "));
        assert!(map.remove(b"aaaa").unwrap());
        assert!(!map.remove(b"aaaa").unwrap());
        map.insert(b"cccc", &[4]).unwrap();
    }
}
