//! The key of a private network, and the file that it is kept in.

use std::{fmt, sync::Arc};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use salsa20::{
    Salsa20,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use sha3::{
    Shake128,
    digest::{ExtendableOutput as _, Update as _, XofReader as _},
};
use zeroize::Zeroizing;

/// Bytes in a key.
const KEY: usize = 32;

/// The first line of a key file.
const HEADER: &str = "/key/swarm/psk/1.0.0/";

/// The longest key file that is read. The longest form has about 96 bytes.
pub const MAX_FILE_LEN: usize = 512;

/// A key that all members of a private network share. Cheap to clone; wiped with the last clone, and never printed.
#[derive(Clone)]
pub struct PreSharedKey(Arc<Zeroizing<[u8; KEY]>>);

/// What a [`PreSharedKey`] can be told by, without giving it away: go and rust print the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 16]);

/// Why a file is not that of a key. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// More than [`MAX_FILE_LEN`].
    #[error("{len} bytes, {MAX_FILE_LEN} allowed: this is no swarm key")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The first line says that it is something else.
    #[error("line 1: {HEADER} expected: this is no swarm key")]
    Header,
    /// The second line says nothing that is known.
    #[error("line 2: /base16/, /base64/ or /bin/ expected")]
    Encoding,
    /// The key is not written as the second line says.
    #[error("line 3: not {0}")]
    Digits(&'static str),
    /// Another length.
    #[error("line 3: a key of {len} bytes, {KEY} expected")]
    Length {
        /// Its length.
        len: usize,
    },
    /// The key is not the last thing in the file.
    #[error("line 4: nothing expected after the key")]
    Trailing,
}

impl PreSharedKey {
    /// Makes a key of the operating system's randomness.
    ///
    /// # Errors
    /// When it has none to give.
    pub fn generate() -> Result<Self, super::Error> {
        let mut key = Zeroizing::new([0; KEY]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| super::Error::Randomness)?;
        Ok(Self(Arc::new(key)))
    }

    /// Takes a key as it is.
    pub fn from_bytes(key: [u8; KEY]) -> Self {
        Self(Arc::new(Zeroizing::new(key)))
    }

    /// Reads the content of a key file, `swarm.key` by custom: the line `/key/swarm/psk/1.0.0/`, a line with the encoding,
    /// `/base16/`, `/base64/` or `/bin/`, and the key. Lines may end as on Windows.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong in which line. It never has a part of the key in it.
    pub fn from_file(content: &[u8]) -> Result<Self, KeyError> {
        if content.len() > MAX_FILE_LEN {
            return Err(KeyError::TooLong { len: content.len() });
        }
        let (header, rest) = line(content);
        if header != HEADER.as_bytes() {
            return Err(KeyError::Header);
        }
        let (encoding, rest) = line(rest);
        let key = match encoding {
            b"/bin/" => Zeroizing::new(binary(rest)?.to_vec()),
            b"/base16/" => text(rest, "base16", |text| HEXLOWER_PERMISSIVE.decode(text).ok())?,
            b"/base64/" => text(rest, "base64", |text| BASE64.decode(text).ok())?,
            _ => return Err(KeyError::Encoding),
        };
        let len = key.len();
        let key = key.as_slice().try_into().map_err(|_| KeyError::Length { len })?;
        Ok(Self::from_bytes(key))
    }

    /// The content of a key file, in base 16, the form that every implementation reads.
    pub fn to_file(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(HEXLOWER.encode(&**self.0));
        Zeroizing::new(format!("{HEADER}\n/base16/\n{}\n", *key))
    }

    /// What this key can be told by.
    pub fn fingerprint(&self) -> Fingerprint {
        // As go has it: a block of key stream, so that no hash is fed with the key, and of that half the bytes.
        let mut block = Zeroizing::new([0; 64]);
        let mut cipher = Salsa20::new(self.bytes().into(), b"finprint".into());
        cipher.apply_keystream(&mut *block);
        let mut hash = Shake128::default();
        hash.update(&*block);
        let mut fingerprint = [0; 16];
        hash.finalize_xof().read(&mut fingerprint);
        Fingerprint(fingerprint)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

/// The first line without its end, and what follows.
fn line(content: &[u8]) -> (&[u8], &[u8]) {
    let end = content.iter().position(|byte| *byte == b'\n').unwrap_or(content.len());
    let (line, rest) = content.split_at_checked(end).unwrap_or((content, &[]));
    (line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default())
}

/// The key itself, and at most the end of a line, which an editor may have added.
fn binary(rest: &[u8]) -> Result<&[u8], KeyError> {
    let Some((key, end)) = rest.split_at_checked(KEY) else {
        return Ok(rest);
    };
    if matches!(end, b"" | b"\n" | b"\r\n") { Ok(key) } else { Err(KeyError::Length { len: rest.len() }) }
}

fn text(
    rest: &[u8],
    encoding: &'static str,
    decode: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (digits, after) = line(rest);
    if !after.iter().all(u8::is_ascii_whitespace) {
        return Err(KeyError::Trailing);
    }
    decode(digits.trim_ascii()).map(Zeroizing::new).ok_or(KeyError::Digits(encoding))
}

impl PartialEq for PreSharedKey {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&**self.0, &**other.0).is_ok()
    }
}

impl Eq for PreSharedKey {}

impl fmt::Debug for PreSharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PreSharedKey").field(&self.fingerprint()).finish()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}
