use std::{collections::BTreeMap, rc::Rc, time::Duration};

use peerage_core::{Multiaddr, PeerId};
use peerage_host::{ConnectOptions, Effects, NodeRef, Port, Tasks, addresses::OwnSource};
use tokio::{
    sync::broadcast,
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Event, NAME,
    codec::{MAX_MESSAGE, Names},
    engine::{Action, Command, Engine, Input},
    link::{Interfaces, Link, LinkId, links},
    socket::LinkSocket,
};

/// How often the machine's interfaces are looked at.
pub const INTERFACES_EVERY: Duration = Duration::from_secs(5);
/// Messages that are read on one link in a second. The system drops what comes beyond that, unread.
pub const MAX_HEARD_PER_SECOND: u32 = 100;
/// How many of these may come at once.
pub const HEARD_BURST: u32 = 50;

/// Owns the sockets, and a task for each that reads.
pub(super) struct Performer {
    pub(super) setting: Setting,
    port: Port<Engine>,
    tasks: Tasks,
    open: BTreeMap<LinkId, Open>,
}

/// What lasts over restarts.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) node: NodeRef,
    pub(super) names: Names,
    pub(super) interfaces: Interfaces,
    pub(super) port: u16,
    pub(super) events: broadcast::Sender<Event>,
}

/// A link that is spoken on. Whatever ends it, a shutdown or a panic, it says goodbye.
struct Open {
    socket: Rc<LinkSocket>,
    reading: AbortHandle,
    farewell: Vec<Vec<u8>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reading.abort();
        for message in &self.farewell {
            let _ = self.socket.say(message);
        }
    }
}

impl Performer {
    pub(super) fn new(setting: Setting, port: Port<Engine>) -> Self {
        Self { setting, port, tasks: Tasks::default(), open: BTreeMap::new() }
    }

    fn open(&mut self, link: Link) {
        tracing::debug!(link = link.name, v6 = link.id.v6, "others are looked for there");
        let socket = match LinkSocket::bind(&link, self.setting.port) {
            Ok(socket) => Rc::new(socket),
            Err(error) => {
                tracing::debug!(link = link.name, v6 = link.id.v6, %error, "nobody is looked for there");
                return self.port.post_input(None, Input::Failed { link: link.id });
            }
        };
        let (id, port, names) = (link.id, self.port.clone(), self.setting.names.clone());
        let failed = self.port.clone();
        let reading = {
            let socket = socket.clone();
            async move {
                let error = hear(&socket, &link, &names, &port).await;
                tracing::debug!(link = link.name, %error, "a link failed");
                port.post_input(None, Input::Failed { link: id });
            }
        };
        let panicked = move |_| failed.post_input(None, Input::Failed { link: id });
        let reading = self.tasks.spawn(reading, panicked);
        self.open.insert(id, Open { socket, reading, farewell: Vec::new() });
    }

    fn send(&self, link: LinkId, messages: &[Vec<u8>]) {
        let Some(open) = self.open.get(&link) else { return };
        for message in messages {
            if let Err(error) = open.socket.say(message) {
                tracing::debug!(?link, %error, "a link failed");
                return self.port.post_input(None, Input::Failed { link });
            }
        }
    }

    fn remember(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, ttl: Duration) {
        let node = self.setting.node.clone();
        let remembering = async move {
            if let Some(node) = node.get() {
                node.remember(peer, addresses, NAME, ttl).await;
            }
        };
        self.tasks.spawn(remembering, |_| {});
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let (node, port, panicked) = (self.setting.node.clone(), self.port.clone(), self.port.clone());
        let dialing = async move {
            if let Some(node) = node.get() {
                let mut options = ConnectOptions::default();
                options.hearsay = addresses;
                if let Err(error) = node.connect_with(peer, options).await {
                    tracing::debug!(%peer, %error, "a found peer was not reached");
                }
            }
            port.post_input(Some(peer), Input::Dialed { peer });
        };
        self.tasks.spawn(dialing, move |_| panicked.post_input(Some(peer), Input::Dialed { peer }));
    }

    /// Looks at the machine's interfaces, now and then.
    fn follow(&mut self) {
        let (port, interfaces) = (self.port.clone(), self.setting.interfaces.clone());
        let following = async move {
            loop {
                match spawn_blocking(if_addrs::get_if_addrs).await {
                    Ok(Ok(all)) => {
                        let _ = port.tell(Command::Links(links(&all, &interfaces))).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "the interfaces cannot be listed"),
                    Err(_) => return,
                }
                sleep(INTERFACES_EVERY).await;
            }
        };
        self.tasks.spawn(following, |_| {});
    }
}

impl Effects<Action> for Performer {
    fn perform(&mut self, action: Action) {
        match action {
            Action::Open(link) => self.open(link),
            Action::Close(link) => {
                self.open.remove(&link);
            }
            Action::Send { link, messages } => self.send(link, &messages),
            Action::Farewell { link, messages } => {
                if let Some(open) = self.open.get_mut(&link) {
                    open.farewell = messages;
                }
            }
            Action::Remember { peer, addresses, ttl } => self.remember(peer, addresses, ttl),
            Action::Dial { peer, addresses } => self.dial(peer, addresses),
            Action::Tell(event) => {
                // Nobody listening is fine.
                let _ = self.setting.events.send(event);
            }
            Action::Answer { reply, peers } => reply.send(peers),
        }
    }

    fn born(&mut self, _: u64) {
        self.follow();
        self.port.post(Command::Own(own_addresses(&self.setting.node)));
    }
}

/// What of this node's addresses others may be told of; where, is the engine's to decide.
pub(super) fn own_addresses(node: &NodeRef) -> Vec<Multiaddr> {
    let Some(node) = node.get() else { return Vec::new() };
    let own = node.own_addresses().into_iter().filter(|own| own.announced);
    let own = own.filter(|own| own.sources.iter().any(|source| *source != OwnSource::Observed));
    own.map(|own| own.address).collect()
}

/// Reads what is said on a link, until that fails.
async fn hear(socket: &LinkSocket, link: &Link, names: &Names, port: &Port<Engine>) -> std::io::Error {
    // One byte more than there may be: longer messages are told apart from those that are cut off.
    let mut buffer = vec![0; MAX_MESSAGE.saturating_add(1)];
    let mut pace = Pace::new(Instant::now());
    loop {
        sleep_until(pace.next(Instant::now())).await;
        let (length, from) = match socket.hear(&mut buffer).await {
            Ok(heard) => heard,
            Err(error) => return error,
        };
        tracing::trace!(link = link.name, %from, length, "a message came");
        match names.decode(buffer.get(..length).unwrap_or_default()) {
            Ok(message) => {
                // Waiting for the actor is fine: the system drops what comes meanwhile.
                let _ = port.input(None, Input::Heard { link: link.id, from: from.ip(), message }).await;
            }
            Err(error) => tracing::trace!(%from, %error, "a message is not read"),
        }
    }
}

/// When the next message is read: [`MAX_HEARD_PER_SECOND`], of which [`HEARD_BURST`] may come at once.
struct Pace {
    /// When all that were read are paid for.
    paid: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { paid: now }
    }

    fn next(&mut self, now: Instant) -> Instant {
        let cost = Duration::from_secs(1).checked_div(MAX_HEARD_PER_SECOND).unwrap_or_default();
        let burst = cost.saturating_mul(HEARD_BURST);
        let at = self.paid.checked_sub(burst).unwrap_or(now).max(now);
        self.paid = self.paid.max(now).checked_add(cost).unwrap_or(now);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_messages_are_read_in_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut read: u32 = 0;
        loop {
            let at = pace.next(Instant::now());
            if at >= start + Duration::from_secs(10) {
                break;
            }
            sleep_until(at).await;
            read += 1;
            if read == HEARD_BURST {
                assert_eq!(Instant::now(), start, "at once");
            }
        }
        assert!(
            (10 * MAX_HEARD_PER_SECOND..=10 * MAX_HEARD_PER_SECOND + HEARD_BURST + 1).contains(&read),
            "{read}"
        );
    }
}
