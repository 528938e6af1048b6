//! Ids in Fly's shapes, made from the injected ones.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::ambient::Ids;

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn bytes(ids: &dyn Ids) -> [u8; 32] {
    Sha256::digest(ids.uid()).into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A machine's id: 14 hexadecimal digits. [doc]
pub(super) fn machine(ids: &dyn Ids) -> String {
    hex(&bytes(ids)[..7])
}

/// A volume's id: `vol_` and 16 characters. [doc]
pub(super) fn volume(ids: &dyn Ids) -> String {
    format!("vol_{}", &ulid(ids, Timestamp::UNIX_EPOCH).to_lowercase()[10..])
}

/// A ULID: 48 bits of milliseconds and 80 of chance, in 26 characters. [doc]
pub(super) fn ulid(ids: &dyn Ids, now: Timestamp) -> String {
    let chance = bytes(ids);
    let time = u128::from(now.as_millisecond().unsigned_abs()) & ((1 << 48) - 1);
    let mut low = [0_u8; 16];
    low[6..].copy_from_slice(&chance[..10]);
    let all = (time << 80) | u128::from_be_bytes(low);
    (0..26)
        .rev()
        .map(|place| {
            let digit = usize::try_from((all >> (place * 5)) & 31).unwrap_or_default();
            char::from(CROCKFORD[digit])
        })
        .collect()
}

/// The nonce of a lease.
pub(super) fn nonce(ids: &dyn Ids) -> String {
    hex(&bytes(ids)[..6])
}

/// An address in the private network. [doc]
pub(super) fn address(ids: &dyn Ids) -> String {
    let it = bytes(ids);
    format!(
        "fdaa:0:{:x}:a7b:{:x}:{:x}:{:x}:2",
        u16::from_be_bytes([0x18, it[0]]),
        u16::from_be_bytes([it[1], it[2]]),
        u16::from_be_bytes([it[3], it[4]]),
        u16::from_be_bytes([it[5], it[6]])
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ambient::{RandomIds, later};

    #[test]
    fn ids_look_like_flys() {
        let ids = RandomIds;
        let id = machine(&ids);
        assert!(id.len() == 14 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_eq!(volume(&ids).len(), 20);
        let first = ulid(&ids, Timestamp::UNIX_EPOCH);
        let second = ulid(&ids, later(Timestamp::UNIX_EPOCH, Duration::from_secs(9)));
        assert_eq!(first.len(), 26);
        assert!(first < second, "ULIDs sort by time");
        assert!(address(&ids).parse::<std::net::Ipv6Addr>().is_ok());
    }
}
