use bytes::Bytes;
use peerage_core::{
    protobuf::{self, Value, fields, put_bytes},
    varint,
};

use super::{decode::read_topic, encode::head_len, field};
use crate::topic::Topic;

/// The most bytes of a group id.
pub const MAX_GROUP: usize = 256;
/// The most bytes of metadata: what a peer has of a message, and wants.
pub const MAX_METADATA: usize = 4096;

/// The message of the extension: parts of one message, or what a peer has of it and wants, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// What the message is about.
    pub topic: Topic,
    /// Which message it is: 1 to [`MAX_GROUP`] bytes, of the program's choosing.
    pub group: Bytes,
    /// Parts of it, as the program writes them; an empty field is the same as none.
    pub parts: Option<Bytes>,
    /// What the sender has of it and wants, as the program writes that: up to [`MAX_METADATA`] bytes. `None` says nothing;
    /// an empty one may say something.
    pub metadata: Option<Bytes>,
}

impl Partial {
    /// As a whole frame. Parts are copied once.
    pub fn write(&self) -> Bytes {
        let topic = self.topic.as_str().as_bytes();
        let parts = [
            (field::partial::TOPIC, Some(topic)),
            (field::partial::GROUP, Some(&self.group[..])),
            (field::partial::PARTS, self.parts.as_deref()),
            (field::partial::METADATA, self.metadata.as_deref()),
        ];
        let len_of = |part: &[u8]| part.len().saturating_add(head_len(part.len()));
        let inner = parts.iter().filter_map(|(_, part)| *part).map(len_of).fold(0, usize::saturating_add);
        let rpc = inner.saturating_add(head_len(inner));
        let mut out = Vec::with_capacity(rpc.saturating_add(varint::len(rpc as u64)));
        varint::encode(rpc as u64, &mut out);
        varint::encode(u64::from(field::PARTIAL) << 3 | 2, &mut out);
        varint::encode(inner as u64, &mut out);
        for (number, part) in parts {
            if let Some(part) = part {
                put_bytes(number, part, &mut out);
            }
        }
        out.into()
    }
}

/// Its fields, as they are in an RPC. Protobuf merges an embedded message that is there twice; so does this.
#[derive(Default)]
pub(super) struct Raw<'a> {
    topic: Option<&'a [u8]>,
    group: Option<&'a [u8]>,
    parts: Option<&'a [u8]>,
    metadata: Option<&'a [u8]>,
}

impl<'a> Raw<'a> {
    pub(super) fn merge(&mut self, bytes: &'a [u8]) -> Result<(), protobuf::Error> {
        for one in fields(bytes) {
            let one = one?;
            let Value::Bytes(value) = one.value else { continue };
            match one.number {
                field::partial::TOPIC => self.topic = Some(value),
                field::partial::GROUP => self.group = Some(value),
                field::partial::PARTS => self.parts = Some(value),
                field::partial::METADATA => self.metadata = Some(value),
                _ => {}
            }
        }
        Ok(())
    }

    /// What they say; nothing, if the topic or the group is none, or the metadata is too long.
    pub(super) fn read(self, frame: &Bytes) -> Option<Partial> {
        let topic = read_topic(self.topic?)?;
        let group = self.group.filter(|group| (1..=MAX_GROUP).contains(&group.len()))?;
        if self.metadata.is_some_and(|metadata| metadata.len() > MAX_METADATA) {
            return None;
        }
        let parts = self.parts.filter(|parts| !parts.is_empty());
        // Parts that are small beside their frame must not keep all of the frame alive, nor must what is remembered longer.
        let keep = |parts: &[u8]| match parts.len() >= frame.len() / 2 {
            true => frame.slice_ref(parts),
            false => Bytes::copy_from_slice(parts),
        };
        Some(Partial {
            topic,
            group: Bytes::copy_from_slice(group),
            parts: parts.map(keep),
            metadata: self.metadata.map(Bytes::copy_from_slice),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::{
        codec::{Control, Extensions, Limits, Rpc, Subscription, decode, subscriptions},
        partial::Mode,
    };

    /// The schema of the specs, for prost: another implementation to compare with.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Outer {
        #[prost(message, optional, tag = "10")]
        partial: Option<Inner>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Inner {
        #[prost(string, optional, tag = "1")]
        topic: Option<String>,
        #[prost(bytes = "vec", optional, tag = "2")]
        group: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "3")]
        parts: Option<Vec<u8>>,
        #[prost(bytes = "vec", optional, tag = "4")]
        metadata: Option<Vec<u8>>,
    }

    fn partial(parts: Option<&[u8]>, metadata: Option<&[u8]>) -> Partial {
        let bytes = |part: &[u8]| Bytes::copy_from_slice(part);
        let topic = Topic::new("t").unwrap();
        Partial { topic, group: bytes(b"g"), parts: parts.map(bytes), metadata: metadata.map(bytes) }
    }

    fn read(rpc: &[u8]) -> Rpc {
        decode(&Bytes::copy_from_slice(rpc), &Limits::default()).unwrap()
    }

    fn inner(rpc: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(field::PARTIAL, rpc, &mut out);
        out
    }

    /// Byte for byte what the registry of the specs says, `extensions.proto`.
    #[test]
    fn numbers_of_fields_are_those_of_the_specs() {
        let whole = partial(Some(b"p"), Some(b"m")).write();
        assert_eq!(whole, &b"\x0e\x52\x0c\x0a\x01t\x12\x01g\x1a\x01p\x22\x01m"[..]);
        let topic = Topic::new("a").unwrap();
        let wants = |mode| subscriptions([Subscription::to(topic.clone()).partial(mode)]).remove(0);
        assert_eq!(wants(Mode::Requests), &b"\x0b\x0a\x09\x08\x01\x12\x01a\x18\x01\x20\x01"[..]);
        assert_eq!(wants(Mode::Sends), &b"\x09\x0a\x07\x08\x01\x12\x01a\x20\x01"[..]);
        assert_eq!(wants(Mode::Off), &b"\x07\x0a\x05\x08\x01\x12\x01a"[..]);
        let mut control = Control::default();
        control.extensions(Extensions { partial_messages: true, test: false });
        assert_eq!(control.finish().remove(0), &b"\x06\x1a\x04\x32\x02\x50\x01"[..]);
    }

    #[test]
    fn who_requests_parts_sends_them_and_who_leaves_does_neither() {
        let mode = |subscription: &[u8]| {
            let mut rpc = Vec::new();
            put_bytes(field::SUBSCRIPTIONS, subscription, &mut rpc);
            read(&rpc).subscriptions[0].partial
        };
        assert_eq!(mode(b"\x08\x01\x12\x01a\x18\x01"), Mode::Requests);
        assert_eq!(mode(b"\x08\x01\x12\x01a\x18\x01\x20\x00"), Mode::Requests);
        assert_eq!(mode(b"\x08\x01\x12\x01a\x18\x00\x20\x01"), Mode::Sends);
        assert_eq!(mode(b"\x08\x01\x12\x01a\x18\x00\x20\x00"), Mode::Off);
        assert_eq!(mode(b"\x08\x00\x12\x01a\x18\x01\x20\x01"), Mode::Off);
        let left = subscriptions([Subscription::end(Topic::new("a").unwrap()).partial(Mode::Requests)]);
        assert_eq!(left[0], &b"\x07\x0a\x05\x08\x00\x12\x01a"[..]);
    }

    #[test]
    fn limits_hold_at_n_and_not_at_n_plus_1() {
        let of = |group: usize, metadata: usize| {
            let mut fields = b"\x0a\x01t".to_vec();
            put_bytes(field::partial::GROUP, &vec![1; group], &mut fields);
            put_bytes(field::partial::METADATA, &vec![2; metadata], &mut fields);
            let rpc = read(&inner(&fields));
            (rpc.partial.is_some(), rpc.skipped)
        };
        assert_eq!(of(1, 0), (true, 0));
        assert_eq!(of(MAX_GROUP, MAX_METADATA), (true, 0));
        assert_eq!(of(0, 0), (false, 1));
        assert_eq!(of(MAX_GROUP + 1, 0), (false, 1));
        assert_eq!(of(1, MAX_METADATA + 1), (false, 1));
        assert_eq!(read(&inner(b"\x12\x01g")).skipped, 1, "of no topic");
        assert_eq!(read(&inner(b"\x0a\x01\xff\x12\x01g")).skipped, 1, "of none that is a name");
        assert_eq!(read(&inner(b"\x0a\x01t")).skipped, 1, "of no message");
    }

    #[test]
    fn empty_parts_are_none_and_empty_metadata_is_some() {
        let rpc = read(&inner(b"\x0a\x01t\x12\x01g\x1a\x00\x22\x00"));
        assert_eq!(rpc.partial.as_deref(), Some(&partial(None, Some(b""))));
    }

    /// What is twice in one RPC is one, the later fields before the earlier.
    #[test]
    fn embedded_twice_it_is_merged() {
        let rpc = [inner(b"\x0a\x01t\x12\x01x\x1a\x01p"), inner(b"\x12\x01g\x22\x01m")].concat();
        assert_eq!(read(&rpc).partial.as_deref(), Some(&partial(Some(b"p"), Some(b"m"))));
    }

    #[test]
    fn small_parts_do_not_keep_a_large_frame_alive() {
        let small = inner(b"\x0a\x01t\x12\x01g\x1a\x01p");
        let mut large = small.clone();
        put_bytes(9, &[0; 10_000], &mut large);
        let frame = Bytes::from(large);
        let parts = decode(&frame, &Limits::default()).unwrap().partial.unwrap().parts.unwrap();
        assert!(!frame.as_ptr_range().contains(&parts.as_ptr()));
    }

    proptest! {
        #[test]
        fn it_survives_and_prost_reads_the_same(
            group in prop::collection::vec(any::<u8>(), 1..=MAX_GROUP),
            parts in prop::option::of(prop::collection::vec(any::<u8>(), 1..300)),
            metadata in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
        ) {
            let bytes = |part: &Vec<u8>| Bytes::from(part.clone());
            let ours = Partial {
                topic: Topic::new("t").unwrap(),
                group: Bytes::from(group.clone()),
                parts: parts.as_ref().map(bytes),
                metadata: metadata.as_ref().map(bytes),
            };
            let frame = ours.write();
            let (len, head) = varint::decode(&frame).unwrap().unwrap();
            let rpc = frame.slice(head..);
            prop_assert_eq!(len as usize, rpc.len());
            let again = decode(&rpc, &Limits::default()).unwrap();
            prop_assert_eq!(again.partial.as_deref(), Some(&ours));
            let theirs = Inner { topic: Some("t".to_owned()), group: Some(group), parts, metadata };
            prop_assert_eq!(Outer::decode(rpc).unwrap().partial, Some(theirs));
        }

        /// Whatever is in the fields, what is read is within the limits.
        #[test]
        fn what_is_read_is_within_the_limits(
            topic: Option<String>,
            group: Option<Vec<u8>>,
            parts: Option<Vec<u8>>,
            metadata in prop::option::of(MAX_METADATA - 8..MAX_METADATA + 8),
        ) {
            let metadata = metadata.map(|len| vec![1; len]);
            let is_long = metadata.as_ref().is_some_and(|metadata| metadata.len() > MAX_METADATA);
            let rpc = Outer { partial: Some(Inner { topic, group, parts, metadata }) }.encode_to_vec();
            let Rpc { partial, skipped, .. } = read(&rpc);
            prop_assert_eq!(partial.is_some(), skipped == 0);
            if let Some(read) = partial {
                prop_assert!(!is_long);
                prop_assert!((1..=MAX_GROUP).contains(&read.group.len()));
                prop_assert!(read.parts.is_none_or(|parts| !parts.is_empty()));
                prop_assert!(read.metadata.is_none_or(|metadata| metadata.len() <= MAX_METADATA));
            }
        }
    }
}
