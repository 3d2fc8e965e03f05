//! Sets of addresses of both families, as maps of the programs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shared::addr::{Addr, Family};
use shared::sys::SyscallError;
use shared::sys::bpf::Reg::{R0, R1, R2, R10};
use shared::sys::bpf::{Assembler, Cond, HashMap, Helper, Label, MapIndex, Size};

/// Bytes of a key: an address of IPv6, or one of IPv4 in its mapped form.
pub(super) const KEY_BYTES: i16 = 16;

/// A map of these addresses.
///
/// # Errors
/// There is no memory, or no permission.
pub(super) fn map(
    name: &str,
    addresses: &BTreeSet<IpAddr>,
) -> Result<HashMap<16, 1>, SyscallError> {
    let room = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let map = HashMap::create(name, room.max(1))?;
    for &address in addresses {
        map.insert(&Addr::from(address).to_bytes(), &[1])?;
    }
    Ok(map)
}

/// To `leave` unless the address on the stack at `address` is in the map; `key` is room for a key of it.
pub(super) fn known(
    asm: &mut Assembler,
    family: Family,
    map: MapIndex,
    (address, key): (i16, i16),
    leave: Label,
) {
    let at = match family {
        Family::V6 => address,
        Family::V4 => {
            asm.store(Size::Double, R10, key, 0);
            asm.store(Size::Word, R10, key + 8, 0x0000_ffff_u32.to_be() as i32);
            asm.load(Size::Word, R1, R10, address);
            asm.store(Size::Word, R10, key + 12, R1);
            key
        }
    };
    asm.load_map(R1, map);
    asm.stack_address(R2, at);
    asm.call(Helper::MapLookup);
    asm.jump_if(R0, Cond::Eq, 0, leave);
}
