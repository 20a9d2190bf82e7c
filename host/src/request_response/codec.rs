#[cfg(any(feature = "cbor", feature = "json"))]
use std::{fmt, marker::PhantomData};

use bytes::Bytes;
#[cfg(any(feature = "cbor", feature = "json"))]
use serde::{Serialize, de::DeserializeOwned};

/// How messages become bytes, and bytes messages. It is given whole messages, which are within their limits.
pub trait Codec: Clone + Send + Sync + 'static {
    /// What is asked.
    type Request: Send + 'static;
    /// What is answered.
    type Response: Send + 'static;

    /// Writes a request.
    ///
    /// # Errors
    /// If it cannot be written.
    fn encode_request(&self, request: &Self::Request) -> Result<Vec<u8>, CodecError>;

    /// Reads a request of a peer.
    ///
    /// # Errors
    /// If it is not one; the peer's fault.
    fn decode_request(&self, bytes: Vec<u8>) -> Result<Self::Request, CodecError>;

    /// Writes a response.
    ///
    /// # Errors
    /// If it cannot be written.
    fn encode_response(&self, response: &Self::Response) -> Result<Vec<u8>, CodecError>;

    /// Reads a response of a peer.
    ///
    /// # Errors
    /// If it is not one; the peer's fault.
    fn decode_response(&self, bytes: Vec<u8>) -> Result<Self::Response, CodecError>;
}

/// What a codec could not write or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

impl CodecError {
    #[cfg(any(feature = "cbor", feature = "json"))]
    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Request = Bytes;
    type Response = Bytes;

    fn encode_request(&self, request: &Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(request.to_vec())
    }

    fn decode_request(&self, bytes: Vec<u8>) -> Result<Bytes, CodecError> {
        Ok(bytes.into())
    }

    fn encode_response(&self, response: &Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(response.to_vec())
    }

    fn decode_response(&self, bytes: Vec<u8>) -> Result<Bytes, CodecError> {
        Ok(bytes.into())
    }
}

/// CBOR. Values may be nested 256 deep; nothing may follow one.
#[cfg(feature = "cbor")]
pub struct Cbor<Q, A>(pub(super) PhantomData<fn(Q) -> A>);

/// JSON. Values may be nested 128 deep; only white space may follow one.
#[cfg(feature = "json")]
pub struct Json<Q, A>(pub(super) PhantomData<fn(Q) -> A>);

/// The two differ in how they write and read one value.
#[cfg(any(feature = "cbor", feature = "json"))]
macro_rules! serde_codec {
    ($codec:ident, $write:path, $read:path) => {
        impl<Q, A> Codec for $codec<Q, A>
        where
            Q: Serialize + DeserializeOwned + Send + 'static,
            A: Serialize + DeserializeOwned + Send + 'static,
        {
            type Request = Q;
            type Response = A;

            fn encode_request(&self, request: &Q) -> Result<Vec<u8>, CodecError> {
                $write(request)
            }

            fn decode_request(&self, bytes: Vec<u8>) -> Result<Q, CodecError> {
                $read(&bytes)
            }

            fn encode_response(&self, response: &A) -> Result<Vec<u8>, CodecError> {
                $write(response)
            }

            fn decode_response(&self, bytes: Vec<u8>) -> Result<A, CodecError> {
                $read(&bytes)
            }
        }

        impl<Q, A> Clone for $codec<Q, A> {
            fn clone(&self) -> Self {
                Self(PhantomData)
            }
        }

        impl<Q, A> fmt::Debug for $codec<Q, A> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($codec))
            }
        }
    };
}

#[cfg(feature = "cbor")]
serde_codec!(Cbor, write_cbor, read_cbor);
#[cfg(feature = "json")]
serde_codec!(Json, write_json, read_json);

#[cfg(feature = "cbor")]
fn write_cbor<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    cbor4ii::serde::to_vec(Vec::new(), value).map_err(CodecError::of)
}

#[cfg(feature = "cbor")]
fn read_cbor<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, CodecError> {
    // From the slice itself, because `from_slice` does not say what it left unread.
    let value = cbor4ii::serde::from_reader(&mut bytes).map_err(CodecError::of)?;
    if bytes.is_empty() { Ok(value) } else { Err(CodecError("bytes follow the value".to_owned())) }
}

#[cfg(feature = "json")]
fn write_json<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    serde_json::to_vec(value).map_err(CodecError::of)
}

#[cfg(feature = "json")]
fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    serde_json::from_slice(bytes).map_err(CodecError::of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Message = (u32, Option<String>, Vec<(i64, bool)>);

    #[test]
    fn cbor_is_that_of_the_standard() {
        // RFC 8949, appendix A.
        for (value, bytes) in
            [(0_u64, &[0x00][..]), (24, &[0x18, 0x18]), (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40])]
        {
            assert_eq!(write_cbor(&value).unwrap(), bytes);
            assert_eq!(read_cbor::<u64>(bytes), Ok(value));
        }
        assert_eq!(write_cbor(&"IETF").unwrap(), b"\x64IETF");
        assert_eq!(write_cbor(&vec![1, 2, 3]).unwrap(), [0x83, 1, 2, 3]);
    }

    #[test]
    fn nothing_may_follow_and_nothing_may_be_missing() {
        assert_eq!(read_cbor::<u64>(&[0, 0]), Err(CodecError("bytes follow the value".into())));
        assert!(read_cbor::<u64>(&[]).is_err() && read_cbor::<String>(b"\x64IET").is_err());
        assert!(read_json::<u64>(b"1 2").is_err() && read_json::<u64>(b"").is_err());
    }

    #[test]
    fn nesting_and_announced_lengths_cost_nothing() {
        #[derive(Debug, serde::Deserialize, Serialize)]
        struct Deep(Vec<Deep>);
        // One array in another, 100,000 times; and arrays of 2^64 - 1 entries that do not come.
        assert!(read_cbor::<Deep>(&vec![0x81; 100_000]).is_err());
        assert!(read_json::<Deep>(&vec![b'['; 100_000]).is_err());
        let announced = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
        assert!(read_cbor::<Vec<u64>>(&announced).is_err());
        let announced = [0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
        assert!(read_cbor::<String>(&announced).is_err());
    }

    proptest! {
        #[test]
        fn messages_go_there_and_back(message: Message) {
            prop_assert_eq!(&read_cbor::<Message>(&write_cbor(&message).unwrap()).unwrap(), &message);
            prop_assert_eq!(&read_json::<Message>(&write_json(&message).unwrap()).unwrap(), &message);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read_cbor::<Message>(&bytes);
            let _ = read_json::<Message>(&bytes);
        }
    }
}
