//! A way between a QUIC client and a server that a test can block, and on which it records.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use peerage_core::Multiaddr;
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

const DATAGRAM: usize = 2048;

/// Carries datagrams as long as it lives.
pub(crate) struct Way {
    pub(crate) address: Multiaddr,
    server: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    /// Whether answers go through; those that do not wait.
    answers: watch::Sender<bool>,
    /// Whether what the client says goes through; what does not is lost.
    questions: AtomicBool,
    recorded: Mutex<Vec<Vec<u8>>>,
}

impl Way {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("loopback"));
        let port = socket.local_addr().expect("bound").port();
        let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().expect("an address");
        let (questions, recorded) = (AtomicBool::new(true), Mutex::default());
        let state = Arc::new(State { answers: watch::Sender::new(true), questions, recorded });
        let task = tokio::spawn(carry(socket, server, Arc::clone(&state)));
        Self { address, server, state, task }
    }

    pub(crate) fn hold_answers(&self, hold: bool) {
        self.state.answers.send_replace(!hold);
    }

    pub(crate) fn lose_questions(&self, lose: bool) {
        self.state.questions.store(!lose, Ordering::Relaxed);
    }

    /// What the client sent since the last time this was asked, whether it went through or not.
    pub(crate) fn take_recorded(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.state.recorded.lock().expect("sound"))
    }

    /// How many datagrams that are.
    pub(crate) fn recorded(&self) -> usize {
        self.state.recorded.lock().expect("sound").len()
    }

    /// Sends the server what was recorded, from somewhere else.
    pub(crate) async fn replay(&self, recorded: &[Vec<u8>]) -> UdpSocket {
        let elsewhere = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        for datagram in recorded {
            elsewhere.send_to(datagram, self.server).await.expect("sent");
        }
        elsewhere
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(socket: Arc<UdpSocket>, server: SocketAddr, state: Arc<State>) {
    let mut clients: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut backward = JoinSet::new();
    let mut datagram = [0; DATAGRAM];
    while let Ok((len, client)) = socket.recv_from(&mut datagram).await {
        state.recorded.lock().expect("sound").push(datagram[..len].to_vec());
        if !state.questions.load(Ordering::Relaxed) {
            continue;
        }
        let onward = match clients.get(&client) {
            Some(onward) => Arc::clone(onward),
            None => {
                let onward = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("loopback"));
                clients.insert(client, Arc::clone(&onward));
                let (socket, from, state) = (Arc::clone(&socket), Arc::clone(&onward), Arc::clone(&state));
                backward.spawn(async move {
                    let mut open = state.answers.subscribe();
                    let mut datagram = [0; DATAGRAM];
                    while let Ok((len, _)) = from.recv_from(&mut datagram).await {
                        open.wait_for(|open| *open).await.expect("the way is there");
                        let _ = socket.send_to(&datagram[..len], client).await;
                    }
                });
                onward
            }
        };
        let _ = onward.send_to(&datagram[..len], server).await;
    }
}
