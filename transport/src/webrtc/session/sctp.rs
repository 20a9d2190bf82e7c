//! SCTP by sctp-proto, and the channels that it carries (RFC 8831).

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationError, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig,
    Payload, PayloadProtocolIdentifier as Ppi, ServerConfig, StreamEvent, Transmit, TransportConfig,
};

use super::{
    ChannelId, Ended, Event, NEGOTIATED, Side,
    dcep::{self, Message},
    flight::Flight,
    packet::{self, DATA, FIRST_CHUNK, INIT, SACK, SHUTDOWN_COMPLETE},
    resets::Resets,
};

/// The longest packet with data: with the record around it 1200 bytes, which every path carries that carries QUIC.
const MAX_PACKET: usize = 1160;

/// What a packet has beside the data of one chunk: the common header and the chunk's; and what sctp-proto forgets to
/// count when it puts a chunk behind others, the header and the padding of the last. (It forgets the padding of all;
/// with many tiny ones a packet comes to 1400 bytes.)
const HEADERS: usize = 12 + 16 + 16 + 3;

/// The longest message that is taken. Messages of streams have 16 KiB, but several may come in one.
pub(super) const MAX_SCTP_MESSAGE: usize = 64 * 1024;

/// Channels that are there in any state, closing ones included. The other side can open as many as there are numbers,
/// 65536; an honest one opens no more than it is let, and some that are refused.
pub(super) const MAX_CHANNELS: usize = 2048;

/// Retransmission timeouts in milliseconds. The RFC's, 3 s at first and 1 s at least, are from a time when a timer
/// cost something; Chromium's lower bound is 400 ms, and acknowledgements are 200 ms late at most.
const FIRST_RETRY: u64 = 500;
const MIN_RETRY: u64 = 300;
const MAX_RETRY: u64 = 10_000;

/// Where an acknowledgement has the window.
const SACK_WINDOW: usize = 8;

pub(super) struct Sctp {
    side: Side,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    window: u32,
    connected: bool,
    channels: BTreeMap<ChannelId, Channel>,
    packets: VecDeque<Bytes>,
    resets: Resets,
    flight: Flight,
    events: VecDeque<Event>,
    /// What the last acknowledgement said.
    advertised: u32,
    /// The last packet that brought data.
    last_data: Option<Bytes>,
}

/// How far a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    /// The other side sends on it, and has not said what it is.
    Unknown,
    Open,
    /// Closed here; the other side may not know it yet.
    Closing,
}

impl Sctp {
    pub(super) fn new(side: Side, window: u32) -> Self {
        let mut config = EndpointConfig::new();
        config.max_payload_size(u32::try_from(MAX_PACKET.saturating_sub(HEADERS)).unwrap_or(1100));
        let mut server = ServerConfig::new();
        server.transport = transport(window);
        Self {
            side,
            endpoint: Endpoint::new(Arc::new(config), Some(Arc::new(server))),
            association: None,
            window,
            connected: false,
            channels: BTreeMap::new(),
            packets: VecDeque::new(),
            resets: Resets::default(),
            flight: Flight::default(),
            events: VecDeque::new(),
            advertised: window,
            last_data: None,
        }
    }

    /// DTLS is done. The dialer begins; a listener that began as well (all others do) would only be told to wait.
    pub(super) fn start(&mut self, now: Instant) {
        if self.side == Side::Dialer && self.association.is_none() {
            let mut config = ClientConfig::new();
            config.transport = transport(self.window);
            match self.endpoint.connect(config, nowhere()) {
                Ok(association) => self.association = Some(association),
                Err(error) => self.events.push_back(Event::Ended(Ended::Sctp(error.to_string()))),
            }
            self.endpoint.reject_new_associations();
            self.handle_timeout(now);
        }
    }

    pub(super) fn handle_packet(&mut self, packet: Bytes, now: Instant) {
        let first = packet.get(FIRST_CHUNK).copied();
        if first == Some(INIT) && !self.awaits_init() {
            // sctp-proto would begin another association with each, or give up one that is there.
            return;
        }
        if first == Some(DATA) {
            self.last_data = Some(packet.clone());
        }
        self.flight.receive(&packet, now);
        self.packets.extend(self.resets.receive(&packet));
        self.deliver(packet, now);
    }

    fn awaits_init(&self) -> bool {
        let handshaking = |(_, association): &(_, Association)| association.is_handshaking();
        self.side == Side::Listener && self.association.as_ref().is_none_or(handshaking)
    }

    fn deliver(&mut self, packet: Bytes, now: Instant) {
        let Some((handle, event)) = self.endpoint.handle(now, nowhere(), None, None, packet) else {
            return;
        };
        match (event, &mut self.association) {
            (DatagramEvent::NewAssociation(association), slot @ None) => {
                *slot = Some((handle, association));
                self.endpoint.reject_new_associations();
            }
            (DatagramEvent::AssociationEvent(event), Some((own, association))) if *own == handle => {
                association.handle_event(event);
            }
            _ => {}
        }
        // The association has one thing to tell the endpoint: that it is on its way out. The endpoint would then bring
        // it nothing more, not even the other side's goodbye.
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.1.poll_timeout()
    }

    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        let packet = loop {
            self.refill(now);
            if let Some(packet) = self.resets.send(self.packets.pop_front()?) {
                break packet;
            }
        };
        self.flight.send(&packet, now);
        self.note(&packet);
        self.refill(now);
        // The last for now: nothing that follows would make the other side acknowledge it soon.
        Some(if self.packets.is_empty() { packet::hurried(packet) } else { packet })
    }

    fn refill(&mut self, now: Instant) {
        while self.packets.is_empty() {
            let transmit = self.endpoint.poll_transmit();
            let transmit = transmit.or_else(|| self.association.as_mut()?.1.poll_transmit(now));
            let Some(Transmit { payload, .. }) = transmit else { return };
            if let Payload::RawEncode(packets) = payload {
                self.packets.extend(packets);
            }
        }
    }

    /// What is sent says things that sctp-proto does not. Both kinds of chunks have a packet of their own.
    fn note(&mut self, packet: &[u8]) {
        let Some(chunk) = packet.get(FIRST_CHUNK..) else { return };
        match chunk.first() {
            Some(&SACK) => {
                if let Some(window) = chunk.get(SACK_WINDOW..).and_then(|rest| rest.first_chunk::<4>()) {
                    self.advertised = u32::from_be_bytes(*window);
                }
            }
            // The last word of the side that said goodbye first.
            Some(&SHUTDOWN_COMPLETE) => self.events.push_back(Event::Ended(Ended::ByPeer)),
            _ => {}
        }
    }

    pub(super) fn advertised(&self) -> u32 {
        self.advertised
    }

    /// A packet that came twice is answered with an acknowledgement, and only the second one at once.
    pub(super) fn advertise(&mut self, now: Instant) {
        if let Some(packet) = self.last_data.clone() {
            self.deliver(packet.clone(), now);
            self.deliver(packet, now);
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let event = self.association.as_mut()?.1.poll()?;
            self.handle_event(event);
        }
    }

    fn handle_event(&mut self, event: sctp_proto::Event) {
        match event {
            sctp_proto::Event::Connected => {
                self.connected = true;
                self.events.push_back(Event::Connected);
            }
            sctp_proto::Event::HandshakeFailed { reason } | sctp_proto::Event::AssociationLost { reason } => {
                self.events.push_back(Event::Ended(match reason {
                    AssociationError::AssociationClosed
                    | AssociationError::ApplicationClosed
                    | AssociationError::LocallyClosed
                    | AssociationError::Reset => Ended::ByPeer,
                    reason => Ended::Sctp(reason.to_string()),
                }));
            }
            sctp_proto::Event::Stream(event) => self.handle_stream_event(&event),
            _ => {}
        }
    }

    fn handle_stream_event(&mut self, event: &StreamEvent) {
        match *event {
            StreamEvent::Opened { id } => {
                self.channels.entry(id).or_insert(Channel::Unknown);
                if self.channels.len() > MAX_CHANNELS {
                    self.events.push_back(Event::Ended(Ended::Sctp("too many channels".to_owned())));
                }
            }
            StreamEvent::Readable { id } => match self.channels.get(&id) {
                Some(Channel::Unknown) if id != NEGOTIATED => self.learn(id),
                Some(Channel::Open) => self.events.push_back(Event::Readable(id)),
                _ => {}
            },
            // sctp-proto closes the other direction by itself.
            StreamEvent::Finished { id } => match self.channels.insert(id, Channel::Closing) {
                Some(Channel::Open) => self.events.push_back(Event::Closed(id)),
                Some(_) => {}
                None => {
                    self.channels.remove(&id);
                }
            },
            // A number whose reset failed stays taken in sctp-proto, but has no channel any more.
            StreamEvent::ResetComplete { id } | StreamEvent::ResetFailed { id, .. }
                if self.channels.get(&id) == Some(&Channel::Closing) =>
            {
                self.channels.remove(&id);
                self.events.push_back(Event::Free(id));
            }
            _ => {}
        }
    }

    /// The first message of a channel says what it is.
    fn learn(&mut self, id: ChannelId) {
        let Some((message, ppi)) = self.take(id) else { return };
        if ppi != Ppi::Dcep || Message::parse(&message) != Message::Open {
            return self.close(id);
        }
        self.channels.insert(id, Channel::Open);
        self.send(id, &dcep::ACK_MESSAGE, Ppi::Dcep);
        self.events.push_back(Event::Opened(id));
        self.events.push_back(Event::Readable(id));
    }

    /// Whether the association takes channels.
    fn is_up(&self) -> bool {
        self.connected
            && self
                .association
                .as_ref()
                .is_some_and(|(_, association)| !association.is_closed() && !association.is_closing())
    }

    pub(super) fn open(&mut self, id: ChannelId) -> bool {
        self.open_negotiated(id) && self.send(id, &dcep::OPEN_MESSAGE, Ppi::Dcep)
    }

    pub(super) fn open_negotiated(&mut self, id: ChannelId) -> bool {
        if !self.is_up() {
            return false;
        }
        let Some((_, association)) = &mut self.association else { return false };
        match self.channels.get(&id) {
            None => {
                if association.open_stream(id, Ppi::Binary).is_err() {
                    return false;
                }
            }
            // The other side was faster.
            Some(Channel::Unknown) => self.events.push_back(Event::Readable(id)),
            Some(_) => return false,
        }
        self.channels.insert(id, Channel::Open);
        true
    }

    pub(super) fn write(&mut self, id: ChannelId, message: Vec<u8>) -> bool {
        self.channels.get(&id) == Some(&Channel::Open) && self.send(id, &message, Ppi::Binary)
    }

    fn send(&mut self, id: ChannelId, message: &[u8], ppi: Ppi) -> bool {
        let Some((_, association)) = &mut self.association else { return false };
        association.stream(id).is_ok_and(|mut stream| stream.write_with_ppi(message, ppi).is_ok())
    }

    pub(super) fn read(&mut self, id: ChannelId) -> Option<Bytes> {
        loop {
            if self.channels.get(&id) != Some(&Channel::Open) {
                return None;
            }
            match self.take(id)? {
                // That the other side has opened it as well. It may say so at any time and as often as it likes.
                (_, Ppi::Dcep) => {}
                (_, Ppi::StringEmpty | Ppi::BinaryEmpty) => {}
                (message, _) => return Some(message),
            }
        }
    }

    fn take(&mut self, id: ChannelId) -> Option<(Bytes, Ppi)> {
        let (_, association) = self.association.as_mut()?;
        let chunks = association.stream(id).ok()?.read().ok()??;
        let mut message = vec![0; chunks.len()];
        chunks.read(&mut message).ok()?;
        Some((message.into(), chunks.ppi))
    }

    pub(super) fn close(&mut self, id: ChannelId) {
        if !matches!(self.channels.get(&id), Some(Channel::Unknown | Channel::Open)) {
            return;
        }
        self.channels.insert(id, Channel::Closing);
        if let Some((_, association)) = &mut self.association
            && let Ok(mut stream) = association.stream(id)
        {
            let _ = stream.close();
        }
    }

    pub(super) fn buffered(&mut self) -> usize {
        let Some((_, association)) = &mut self.association else { return 0 };
        let mut sum = 0_usize;
        for id in self.channels.keys() {
            if let Ok(stream) = association.stream(*id) {
                sum = sum.saturating_add(stream.buffered_amount().unwrap_or(0));
            }
        }
        sum
    }

    /// Whether more should be written for now.
    pub(super) fn limit(&self) -> usize {
        self.flight.limit()
    }

    pub(super) fn shutdown(&mut self) {
        if let Some((_, association)) = &mut self.association {
            let _ = association.shutdown();
        }
    }
}

/// SCTP's own patience has no end: whether the other side is there, the connectivity checks tell.
fn transport(window: u32) -> Arc<TransportConfig> {
    let longest = u32::try_from(MAX_SCTP_MESSAGE).unwrap_or(u32::MAX);
    Arc::new(
        TransportConfig::default()
            .with_max_init_retransmits(None)
            .with_max_data_retransmits(None)
            .with_max_receive_buffer_size(window.max(longest))
            .with_max_receive_message_size(longest)
            .with_max_send_message_size(longest)
            .with_rto_initial_ms(FIRST_RETRY)
            .with_rto_min_ms(MIN_RETRY)
            .with_rto_max_ms(MAX_RETRY),
    )
}

/// SCTP inside DTLS has no addresses of its own.
fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 5000))
}
