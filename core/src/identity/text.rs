//! The text forms of peer ids: bare base58, and CIDv1 in a multibase.
//!
//! peer-ids, "String representation". The base64 and hexadecimal forms that multibase also has are used by nobody for
//! peer ids.

use super::ParseError;
use data_encoding::BASE32_NOPAD;

/// The most characters of a text that are looked at. The longest form, base32, of the longest id has 75.
pub const MAX_TEXT_LEN: usize = 96;

const CID_VERSION: u8 = 1;
const LIBP2P_KEY: u8 = 0x72;

pub(super) fn to_base58(multihash: &[u8]) -> String {
    bs58::encode(multihash).into_string()
}

pub(super) fn to_cid(multihash: &[u8]) -> String {
    let cid = [&[CID_VERSION, LIBP2P_KEY], multihash].concat();
    let mut text = String::from("b");
    BASE32_NOPAD.encode_append(&cid, &mut text);
    text.make_ascii_lowercase();
    text
}

pub(super) fn to_multihash(text: &str) -> Result<Vec<u8>, ParseError> {
    if text.len() > MAX_TEXT_LEN {
        return Err(ParseError::TooLong { len: text.len() });
    }
    if text.starts_with('1') || text.starts_with("Qm") {
        return from_base58(text);
    }
    let mut characters = text.chars();
    let cid = match characters.next() {
        Some('b') => from_base32(characters.as_str())?,
        Some('k') => from_base36(characters.as_str())?,
        Some('z') => from_base58(characters.as_str())?,
        Some(_) => return Err(ParseError::UnknownForm),
        None => return Err(ParseError::Empty),
    };
    match cid.split_first_chunk() {
        Some(([CID_VERSION, LIBP2P_KEY], multihash)) => Ok(multihash.to_vec()),
        _ => Err(ParseError::NotLibp2pKey),
    }
}

fn from_base58(text: &str) -> Result<Vec<u8>, ParseError> {
    bs58::decode(text).into_vec().map_err(|_| ParseError::BadText { form: "base58" })
}

fn from_base32(text: &str) -> Result<Vec<u8>, ParseError> {
    let bad = ParseError::BadText { form: "lower case base32" };
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(bad);
    }
    BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| bad)
}

/// Base36 as multibase has it: one big number, with a zero byte for every leading `0`.
fn from_base36(text: &str) -> Result<Vec<u8>, ParseError> {
    let bad = ParseError::BadText { form: "lower case base36" };
    let zeros = text.bytes().take_while(|byte| *byte == b'0').count();
    // Least significant byte first. Quadratic, over at most `MAX_TEXT_LEN` digits.
    let mut number: Vec<u8> = Vec::new();
    for digit in text.bytes() {
        let value = match digit {
            b'0'..=b'9' => digit.wrapping_sub(b'0'),
            b'a'..=b'z' => digit.wrapping_sub(b'a').wrapping_add(10),
            _ => return Err(bad),
        };
        let mut carry = u16::from(value);
        for byte in &mut number {
            // At most 255 * 36 + 255: the carry stays below 36.
            let [low, high] = u16::from(*byte).wrapping_mul(36).wrapping_add(carry).to_le_bytes();
            *byte = low;
            carry = u16::from(high);
        }
        if carry > 0 {
            number.push(carry.to_le_bytes()[0]);
        }
    }
    let mut bytes = vec![0; zeros];
    bytes.extend(number.iter().rev());
    Ok(bytes)
}
