use std::cell::Cell;

use futures::{FutureExt, future::poll_fn};
use tokio::net::TcpListener;

use super::*;

const OWN: usize = 4 << 20;

/// A socket with so much room.
struct Fake {
    size: Cell<usize>,
    /// What the system really gives.
    most: usize,
    refuses: Cell<bool>,
    resized: Cell<usize>,
    unsent: Cell<u32>,
    room: Cell<usize>,
    tries: Cell<usize>,
}

impl Fake {
    fn full() -> Self {
        Self {
            size: Cell::new(OWN),
            most: usize::MAX,
            refuses: Cell::default(),
            resized: Cell::default(),
            unsent: Cell::default(),
            room: Cell::default(),
            tries: Cell::default(),
        }
    }
}

impl Buffered for Fake {
    fn size(&self) -> io::Result<usize> {
        Ok(self.size.get())
    }

    fn resize(&self, bytes: usize, unsent: u32) -> io::Result<()> {
        self.resized.set(self.resized.get() + 1);
        if self.refuses.get() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let bytes = bytes.min(self.most);
        self.unsent.set(unsent);
        self.room.set(self.room.get() + bytes.saturating_sub(self.size.replace(bytes)));
        Ok(())
    }

    fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.tries.set(self.tries.get() + 1);
        let sent = self.room.get().min(pieces.iter().map(|piece| piece.len()).sum());
        self.room.set(self.room.get() - sent);
        if sent == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
    }
}

fn system(limit: usize) -> System {
    System { grown: OWN, limit, places: 2, unsent: UNSENT_MAX }
}

fn count() -> &'static Count {
    Box::leak(Box::new(Count(AtomicUsize::new(0))))
}

fn wide(count: &Count) -> usize {
    count.0.load(Ordering::Relaxed)
}

fn grown(socket: &Fake, limit: usize, count: &'static Count) -> Grown {
    Grown::of(socket, system(limit), count).expect("it has grown")
}

/// One that has found that it helps.
fn early(socket: &impl Buffered) -> Grown {
    let mut grown = Grown::of(socket, system(0), count()).expect("it has grown");
    grown.trial = Trial::early(OWN);
    grown
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Waits until something was sent, and says how much and after how many milliseconds.
async fn sent(grown: &mut Grown, socket: &impl Buffered, len: usize) -> (usize, u128) {
    let began = Instant::now();
    let bytes = vec![0; len];
    let sent = poll_fn(|cx| grown.poll_send(cx, socket, &[IoSlice::new(&bytes)])).await;
    (sent.expect("open"), began.elapsed().as_millis())
}

/// Some seconds in which a buffer passes each 60 ms, or not more than `rate` bytes do.
async fn pass(grown: &mut Grown, socket: &Fake, rate: usize) {
    let mut way = time::interval(Duration::from_millis(60));
    for _ in 0..100 {
        way.tick().await;
        let size = socket.size.get();
        let full = if grown.trial.step() == Step::Kernel { size / 6 * 5 } else { size };
        socket.room.set(full.min(rate));
        // The kernel says so.
        while let len @ 1.. = socket.room.get().min(1 << 20) {
            socket.room.set(socket.room.get() - len);
            grown.room(len);
        }
        while sent(grown, socket, 1 << 20).now_or_never().is_some() {}
        assert_eq!(grown.place.is_some(), grown.size > grown.own);
        assert_eq!(grown.size, socket.size.get());
    }
}

/// A buffer passes, sooner if it is tried early.
async fn pass_once(grown: &mut Grown, socket: &Fake) {
    time::sleep(Duration::from_millis(if grown.trial.step() == Step::Kernel { 80 } else { 60 })).await;
    grown.room(OWN);
    while sent(grown, socket, 1 << 20).now_or_never().is_some() {}
}

#[test]
fn a_machine_says_what_there_is() {
    let of = |wmem: &'static str, wmem_max: &'static str, mem: &'static str, notsent: &'static str| {
        System::from(|name| {
            let text = match name {
                "sys/net/ipv4/tcp_wmem" => wmem,
                "sys/net/core/wmem_max" => wmem_max,
                "meminfo" => mem,
                "sys/net/ipv4/tcp_notsent_lowat" => notsent,
                _ => "",
            };
            Some(text.to_owned()).filter(|text| !text.is_empty())
        })
    };
    let wmem = "4096\t16384\t4194304\n";
    // Linux 6.18 with 24 GB, and with less than one.
    let new =
        of(wmem, "4194304\n", "MemTotal:       24685792 kB\nMemFree:        22000000 kB\n", "4294967295\n");
    assert_eq!(new, Some(System { grown: OWN, limit: 2 * OWN, places: WIDE_MAX, unsent: UNSENT_MAX }));
    assert_eq!(of(wmem, "4194304", "MemTotal: 786431 kB", "").map(|system| system.places), Some(2));
    assert_eq!(of(wmem, "4194304", "MemTotal: 786432 kB", "").map(|system| system.places), Some(3));
    assert_eq!(of(wmem, "4194304", "", "").map(|system| system.places), Some(0));
    // As it was long before.
    let old =
        of(wmem, "212992\n", "MemTotal:       24685792 kB\nMemFree:        22000000 kB\n", "4294967295\n");
    assert_eq!(old, Some(System { grown: OWN, limit: 425_984, places: 0, unsent: UNSENT_MAX }));
    let limit = |wmem_max| of(wmem, wmem_max, "", "").map(|system| system.limit);
    assert_eq!(limit("8388608"), Some(BUFFER_MAX));
    assert_eq!(limit("8388609"), Some(BUFFER_MAX));
    assert_eq!(limit("18446744073709551615"), Some(BUFFER_MAX));
    assert_eq!((limit("?"), limit("")), (Some(0), Some(0)));
    let unsent = |notsent| of(wmem, "", "", notsent).map(|system| system.unsent);
    assert_eq!(unsent("1048575"), Some(UNSENT_MAX - 1));
    assert_eq!(unsent("1048577"), Some(UNSENT_MAX));
    for wmem in ["", "4096 16384", "4096 16384 much", "4096 16384 -1"] {
        assert_eq!(of(wmem, "4194304", "", ""), None, "{wmem:?}");
    }
    assert!(System::this().is_some(), "Linux says");
}

#[tokio::test]
async fn the_kernel_lets_it_grow_first() {
    let socket = Fake::full();
    let mut near = SendBuffer::new(false);
    near.look(&socket, || Some(system(0)));
    assert!(matches!(near, SendBuffer::AsIs));

    let mut far = SendBuffer::new(true);
    far.look(&socket, || None);
    far.room(1);
    socket.size.set(OWN - 1);
    far.look(&socket, || Some(system(0)));
    assert!(matches!(far, SendBuffer::Growing { seen: true }));
    // It is looked at once, until there was room.
    socket.size.set(OWN);
    far.look(&socket, || Some(system(0)));
    assert!(matches!(far, SendBuffer::Growing { seen: true }));
    far.room(1);
    far.look(&socket, || Some(system(0)));
    assert!(matches!(far, SendBuffer::Grown(_)));
}

#[test]
fn what_is_full_of_what_is_on_its_way_is_widened() {
    runtime().block_on(async {
        let (socket, count) = (Fake::full(), count());
        let mut grown = grown(&socket, 4 * OWN, count);
        pass(&mut grown, &socket, usize::MAX).await;
        assert_eq!((socket.size.get(), socket.unsent.get(), wide(count)), (4 * OWN, UNSENT_MAX, 1));
        drop(grown);
        assert_eq!(wide(count), 0);
    });
}

#[test]
fn it_is_taken_back_when_no_more_passes() {
    runtime().block_on(async {
        let (socket, count) = (Fake::full(), count());
        let mut grown = grown(&socket, 4 * OWN, count);
        pass(&mut grown, &socket, OWN).await;
        assert_eq!((socket.size.get(), socket.unsent.get(), wide(count)), (OWN, 0, 0));
        assert_eq!((grown.trial.step(), socket.resized.get()), (Step::Early, 2));
    });
}

#[test]
fn so_many_are_wide_and_no_more() {
    runtime().block_on(async {
        let count = count();
        let mut all = Vec::new();
        for wide in [true, true, false] {
            let socket = Fake::full();
            let mut grown = grown(&socket, 2 * OWN, count);
            pass(&mut grown, &socket, usize::MAX).await;
            assert_eq!(socket.size.get() > OWN, wide);
            assert_eq!(grown.trial.step() == Step::Early, !wide);
            all.push(grown);
        }
        all.remove(0);
        let socket = Fake::full();
        let mut another = grown(&socket, 2 * OWN, count);
        pass(&mut another, &socket, usize::MAX).await;
        assert_eq!(socket.size.get(), 2 * OWN);
    });
}

#[test]
fn what_is_not_given_takes_no_place() {
    runtime().block_on(async {
        let count = count();
        // It is refused, or cut short without a word.
        for most in [0, OWN / 2, 2 * OWN - 1] {
            let socket = Fake { most, ..Fake::full() };
            socket.refuses.set(most == 0);
            let mut grown = grown(&socket, 2 * OWN, count);
            pass(&mut grown, &socket, usize::MAX).await;
            assert_eq!((wide(count), grown.trial.step()), (0, Step::Early));
            assert_eq!(socket.size.get(), if most == 0 { OWN } else { most.min(OWN) });
            assert_eq!((socket.unsent.get(), socket.resized.get()), (0, 2));
        }
    });
}

#[test]
fn what_was_given_once_keeps_its_place_when_there_is_no_more() {
    runtime().block_on(async {
        let (socket, count) = (Fake { most: 2 * OWN, ..Fake::full() }, count());
        let mut grown = grown(&socket, 4 * OWN, count);
        pass(&mut grown, &socket, usize::MAX).await;
        assert_eq!((socket.size.get(), wide(count), grown.trial.step()), (2 * OWN, 1, Step::Wide(2)));
    });
}

#[test]
fn what_cannot_be_taken_back_keeps_its_place() {
    runtime().block_on(async {
        let (socket, count) = (Fake::full(), count());
        let mut grown = grown(&socket, 2 * OWN, count);
        while grown.place.is_none() {
            pass_once(&mut grown, &socket).await;
        }
        socket.refuses.set(true);
        pass(&mut grown, &socket, OWN).await;
        assert_eq!((grown.size, wide(count)), (2 * OWN, 1));
        assert_eq!((grown.trial.step(), socket.resized.get()), (Step::Early, 2));
    });
}

#[test]
fn short_of_memory_nothing_is_widened() {
    runtime().block_on(async {
        let (socket, count) = (Fake::full(), count());
        let mut grown = grown(&socket, 2 * OWN, count);
        socket.size.set(OWN - 1);
        for _ in 0..100 {
            pass_once(&mut grown, &socket).await;
        }
        assert_eq!((socket.resized.get(), wide(count)), (0, 0));
        assert_eq!(grown.trial.step(), Step::Early);
    });
}

#[test]
fn it_is_tried_less_and_less_often() {
    runtime().block_on(async {
        let socket = Fake::full();
        let mut grown = early(&socket);
        // After 4, 12, 28, 60, 124, 252, 508 and 1020 ms, and then each second.
        for (ms, tries) in
            [(3, 0), (507, 6), (509, 7), (1019, 7), (1021, 8), (2019, 8), (2021, 9), (9999, 16)]
        {
            let socket = Fake::full();
            let mut grown = early(&socket);
            let long = time::timeout(Duration::from_millis(ms), sent(&mut grown, &socket, 1));
            assert!(long.await.is_err());
            assert_eq!(socket.tries.get(), tries, "in {ms} ms");
        }
        assert!(sent(&mut grown, &socket, 1).now_or_never().is_none());
        // The kernel says that there is room: then it begins anew.
        grown.room(1);
        socket.room.set(1);
        assert_eq!(sent(&mut grown, &socket, 1).await, (1, 4));
    });
}

#[test]
fn it_goes_on_as_long_as_there_is_room() {
    runtime().block_on(async {
        let socket = Fake::full();
        let mut grown = early(&socket);
        socket.room.set(WORTH);
        assert_eq!(sent(&mut grown, &socket, WORTH - 1).await, (WORTH - 1, 4));
        assert_eq!(sent(&mut grown, &socket, WORTH).await, (1, 0));
        // That was worth it, this was not.
        assert!(sent(&mut grown, &socket, 1).now_or_never().is_none());
        socket.room.set(WORTH - 1);
        assert_eq!(sent(&mut grown, &socket, WORTH).await, (WORTH - 1, 4));
        assert!(sent(&mut grown, &socket, 1).now_or_never().is_none());
        socket.room.set(1);
        assert_eq!(sent(&mut grown, &socket, 1).await, (1, 8));
    });
}

/// A socket that takes everything lets others have their turn.
#[test]
fn it_yields() {
    let runtime = runtime();
    let turns = runtime.block_on(async {
        let socket = Fake::full();
        socket.room.set(usize::MAX);
        let mut grown = early(&socket);
        grown.next = Next::Try;
        let mut sending = 0;
        tokio::join!(
            async {
                while socket.tries.get() < 1000 {
                    sent(&mut grown, &socket, 1).await;
                }
            },
            async {
                while socket.tries.get() < 1000 {
                    sending += 1;
                    tokio::task::yield_now().await;
                }
            }
        );
        sending
    });
    assert!(turns > 5, "{turns}");
}

#[test]
fn what_is_wrong_with_the_socket_is_said() {
    struct Broken;

    impl Buffered for Broken {
        fn size(&self) -> io::Result<usize> {
            Ok(OWN)
        }

        fn resize(&self, _: usize, _: u32) -> io::Result<()> {
            Ok(())
        }

        fn send(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    runtime().block_on(async {
        let mut grown = early(&Broken);
        let error = poll_fn(|cx| grown.poll_send(cx, &Broken, &[])).await.map_err(|error| error.kind());
        assert_eq!(error, Err(io::ErrorKind::BrokenPipe));
    });
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let to = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(TcpStream::connect(to), listener.accept());
    (near.expect("it listens"), far.expect("somebody came").0)
}

/// What the kernel makes of it: less than it may have is given to every program.
#[tokio::test]
async fn a_real_buffer_has_that_size_and_that_limit_for_what_is_not_sent() {
    let (near, _far) = pair().await;
    for (size, unsent) in [(200_000, 10_000), (100_000, 0)] {
        near.resize(size, unsent).expect("open");
        assert_eq!(near.size().expect("open"), size);
        assert_eq!(SockRef::from(&near).tcp_notsent_lowat().expect("open"), unsent);
    }
}

/// More pieces than one call takes.
#[tokio::test]
async fn too_many_pieces_are_sent_in_part() {
    let (near, _far) = pair().await;
    let pieces = vec![IoSlice::new(b"."); PIECES_MAX + 1];
    assert_eq!(near.send(&pieces).expect("open"), PIECES_MAX);
    assert_eq!(near.send(&pieces[..PIECES_MAX]).expect("open"), PIECES_MAX);
}
