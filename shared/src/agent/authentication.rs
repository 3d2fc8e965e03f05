//! The key that directors and agents share: HMAC-SHA-256 (RFC 2104, FIPS 180-4) over a datagram.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

/// Bytes of a message authentication code.
pub const MAC: usize = 32;
/// Least bytes of a key.
pub const MIN_KEY: usize = 16;

/// A shared key, prepared for its use. It is never printed.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// Why something is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// It is too short to withstand guessing.
    #[error("the key has {0} bytes; write at least {MIN_KEY}, as `openssl rand -hex 32' does")]
    TooShort(usize),
}

impl Key {
    /// A key from what a key file has in it; a newline at the end is not part of it.
    ///
    /// # Errors
    ///
    /// If there are fewer than [`MIN_KEY`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Key, KeyError> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.len() < MIN_KEY {
            return Err(KeyError::TooShort(bytes.len()));
        }
        let hmac = Hmac::new_from_slice(bytes).expect("HMAC takes keys of any length");
        Ok(Key(hmac))
    }

    /// The code that vouches for a message.
    pub fn code(&self, message: &[u8]) -> [u8; MAC] {
        let mut hmac = self.0.clone();
        hmac.update(message);
        hmac.finalize().into_bytes().into()
    }

    /// Whether a code vouches for a message; takes the same time for every wrong one.
    pub fn vouches(&self, message: &[u8], code: &[u8; MAC]) -> bool {
        let mut hmac = self.0.clone();
        hmac.update(message);
        hmac.verify_slice(code).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_example_of_rfc_4231() {
        // Test case 3: twenty bytes 0xaa, fifty bytes 0xdd.
        let key = Key::from_bytes(&[0xaa; 20]).unwrap();
        let code = key.code(&[0xdd; 50]);
        let expected = "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe";
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
        assert!(key.vouches(&[0xdd; 50], &code));
        assert!(!key.vouches(&[0xdd; 49], &code));
    }

    #[test]
    fn a_newline_is_no_part_of_the_key_and_a_short_key_is_none() {
        let code = |bytes: &[u8]| Key::from_bytes(bytes).unwrap().code(b"message");
        assert_eq!(code(b"0123456789abcdef"), code(b"0123456789abcdef\n"));
        assert_eq!(code(b"0123456789abcdef"), code(b"0123456789abcdef\r\n"));
        assert_ne!(code(b"0123456789abcdef"), code(b"0123456789abcdeg"));
        let error = Key::from_bytes(b"0123456789abcde\n").unwrap_err();
        assert_eq!(error, KeyError::TooShort(15));
        let key = Key::from_bytes(b"0123456789abcdef").unwrap();
        assert_eq!(format!("{key:?}"), "Key(..)");
    }
}
