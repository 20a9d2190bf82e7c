//! How windows follow bandwidth and round-trip time.

use super::*;
use crate::yamux::MAX_WINDOW;

/// A server that has measured its round trip on one stream, and then got another.
fn with_rtt(rtt: Duration, config: Config, budget: Budget) -> (Side, u32) {
    let mut side = Side::new(Mode::Server, config, budget);
    side.data(SYN, 1, &[0; 20_000]).unwrap();
    assert_eq!(side.headers(), [Header::new(PING, SYN, 0, 0)]);
    side.now += rtt;
    side.frame(PING, ACK, 0, 0).unwrap();
    assert_eq!(side.engine.rtt(), Some(rtt));
    let first = side.accept();
    side.engine.release(first, None);
    side.data(SYN, 3, b"").unwrap();
    let id = side.accept();
    side.headers();
    (side, id)
}

/// The peer fills the window, in `time` it is read, and the credit is given.
fn fill_and_read(side: &mut Side, id: u32, time: Duration) -> u32 {
    loop {
        let credit = side.engine.streams[&id].receive.credit();
        if credit == 0 {
            break;
        }
        side.data(0, id, &vec![0; credit.min(100_000) as usize]).unwrap();
    }
    side.now += time;
    side.read(id, usize::MAX).unwrap();
    let credit: u32 = side.headers().iter().filter(|h| h.kind == WINDOW_UPDATE).map(|h| h.length).sum();
    assert!(credit > 0);
    side.engine.window_of(id).unwrap()
}

#[test]
fn a_peer_is_near_if_its_round_trip_was_short_once() {
    let near = |rtt| with_rtt(rtt, Config::default(), Budget::unlimited()).0.engine.is_near();
    assert!(near(NEAR));
    assert!(!near(NEAR + Duration::from_nanos(1)));
    let unknown = Side::new(Mode::Server, Config::default(), Budget::unlimited());
    assert!(!unknown.engine.is_near());
}

const RTT: Duration = Duration::from_millis(50);

#[test]
fn a_window_doubles_for_a_fast_reader_up_to_its_limit() {
    let config = Config { window_growth: u32::MAX, ..Config::default() };
    let (mut side, id) = with_rtt(RTT, config, Budget::unlimited());
    let mut window = INITIAL_WINDOW;
    while window < MAX_WINDOW {
        window *= 2;
        assert_eq!(fill_and_read(&mut side, id, RTT), window);
    }
    assert_eq!(fill_and_read(&mut side, id, RTT), MAX_WINDOW);
    // js sends it in one frame.
    side.data(0, id, &vec![0; MAX_WINDOW as usize]).unwrap();
    side.engine.release(id, None);
    assert_eq!(side.engine.growth(), 0);
}

#[test]
fn a_window_stays_for_a_slow_reader_and_without_a_round_trip() {
    let (mut side, id) = with_rtt(RTT, Config::default(), Budget::unlimited());
    for _ in 0..5 {
        assert_eq!(fill_and_read(&mut side, id, 4 * RTT), INITIAL_WINDOW);
    }
    let mut side = Side::server();
    side.data(SYN, 1, b"").unwrap();
    let id = side.accept();
    assert_eq!(fill_and_read(&mut side, id, Duration::ZERO), INITIAL_WINDOW);
}

#[test]
fn windows_grow_within_the_connections_limit_and_give_it_back() {
    let config = Config { window_growth: 3 * INITIAL_WINDOW, ..Config::default() };
    let (mut side, first) = with_rtt(RTT, config, Budget::unlimited());
    assert_eq!(fill_and_read(&mut side, first, RTT), 2 * INITIAL_WINDOW);
    side.data(SYN, 5, b"").unwrap();
    let second = side.accept();
    assert_eq!(fill_and_read(&mut side, second, RTT), 2 * INITIAL_WINDOW);
    assert_eq!(fill_and_read(&mut side, second, RTT), 3 * INITIAL_WINDOW);
    assert_eq!(fill_and_read(&mut side, first, RTT), 2 * INITIAL_WINDOW);
    side.engine.release(second, None);
    assert_eq!(side.engine.growth(), INITIAL_WINDOW);
    assert_eq!(fill_and_read(&mut side, first, RTT), 4 * INITIAL_WINDOW);
}

#[test]
fn windows_grow_only_by_what_the_budget_grants() {
    // For the bytes of one full window, and not for more.
    let size = INITIAL_WINDOW as usize;
    let budget = Budget::limited(size);
    let (mut side, id) = with_rtt(RTT, Config::default(), budget.clone());
    assert_eq!(fill_and_read(&mut side, id, RTT), 2 * INITIAL_WINDOW);
    assert!(budget.reserve(1).is_err(), "promised, so taken");
    side.engine.release(id, None);
    let all = budget.reserve(size).expect("given back");
    drop(all);

    let (mut side, id) = with_rtt(RTT, Config::default(), Budget::limited(size - 1));
    // Its bytes fit: four thousand of them are free.
    assert_eq!(fill_and_read(&mut side, id, RTT), INITIAL_WINDOW);
}

#[test]
fn frames_are_short_while_many_streams_send() {
    for (streams, longest) in [(1, 64 * 1024), (8, 64 * 1024), (16, 32 * 1024), (100, 16 * 1024)] {
        let mut side = Side::new(Mode::Client, Config::default(), Budget::unlimited());
        for _ in 0..streams {
            let id = side.open();
            side.engine.write(id, &[0; 100_000]).unwrap();
        }
        let frames = side.headers();
        let first = frames.iter().filter(|header| header.kind == DATA).map(|header| header.length).next();
        assert_eq!(first, Some(longest), "{streams}");
    }
}
