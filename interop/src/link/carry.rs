//! Takes packets out of one device and puts them into another when it is time.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tun_rs::{InterruptEvent, SyncDevice};

use super::{
    MTU,
    shape::{Shape, Way},
};

/// Packets on their way in one direction; more are dropped. At 1 Gbit/s and 1,500 bytes it is more than half a second.
const UNDER_WAY: usize = 1 << 16;

type Packet = (Instant, Vec<u8>);

/// One direction, by two threads, until it is dropped.
pub(super) struct Carrier {
    stop: Arc<InterruptEvent>,
    threads: Vec<JoinHandle<()>>,
}

impl Carrier {
    pub(super) fn start(
        from: &Arc<SyncDevice>,
        to: &Arc<SyncDevice>,
        shape: &Shape,
        seed: u64,
    ) -> Result<Self, String> {
        let stop = Arc::new(InterruptEvent::new().map_err(|error| error.to_string())?);
        let (sender, receiver) = sync_channel(UNDER_WAY);
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        let (way, stopped) = (Way::new(shape.clone(), Instant::now(), seed), Arc::clone(&stop));
        let threads = vec![
            thread::spawn(move || take(&from, way, &sender, &stopped)),
            thread::spawn(move || give(&to, &receiver)),
        ];
        Ok(Self { stop, threads })
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let _ = self.stop.trigger();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn take(from: &SyncDevice, mut way: Way, to: &SyncSender<Packet>, stop: &InterruptEvent) {
    let mut buffer = vec![0; usize::from(MTU)];
    loop {
        let read = match from.recv_intr(&mut buffer, stop) {
            Ok(read) => read,
            Err(error) if is_down(&error) && !stop.is_trigger() => {
                // Before it is set up.
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(_) => return,
        };
        let now = Instant::now();
        if let (Some(at), Some(packet)) = (way.offer(read, now), buffer.get(..read)) {
            // Full is full.
            let _ = to.try_send((at, packet.to_vec()));
        }
    }
}

fn is_down(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::Interrupted
}

fn give(to: &SyncDevice, packets: &Receiver<Packet>) {
    while let Ok((at, packet)) = packets.recv() {
        let early = at.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        // A device that takes nothing has lost it, as networks do.
        let _ = to.send(&packet);
    }
}
