use peerage_core::Keypair;
use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
/// 2026.
const THEN: Duration = Duration::from_secs(1_790_000_000);

fn keypair() -> Keypair {
    Keypair::from_ed25519_seed([1; 32])
}

fn address(port: u16) -> Multiaddr {
    format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
}

fn signed(keypair: &Keypair, seq: u64) -> Certified {
    let record = PeerRecord::new(keypair.peer_id(), seq, vec![address(1)]).unwrap();
    let envelope = record.seal(keypair).unwrap().encode().into();
    Certified { record, envelope }
}

fn kept() -> Kept {
    let address = |port, source, left| KeptAddress {
        address: address(port),
        source,
        left,
        worked: port == 1,
        failures: port.into(),
    };
    Kept {
        addresses: vec![
            address(1, Source::Dialed, 2 * HOUR),
            address(2, Source::Manual, HOUR),
            address(3, Source::Identify, HOUR / 60),
            address(4, Source::Other("stored"), HOUR / 6),
        ],
        protocols: vec![ProtocolId::from_static("/a/1")],
        agent: Some("test/1".to_owned()),
        facts_left: HOUR,
        record: Some(signed(&keypair(), 7)),
        security: Some(ProtocolId::from_static("/noise")),
    }
}

fn read(bytes: &[u8], unix: Duration) -> Option<Kept> {
    decode(keypair().peer_id(), bytes, unix)
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(read(&encode(&kept(), THEN), THEN), Some(kept()));
}

#[test]
fn what_has_expired_meanwhile_is_left_out() {
    let bytes = encode(&kept(), THEN);
    let after = read(&bytes, THEN + HOUR / 2).unwrap();
    assert_eq!(after.addresses.len(), 2);
    assert_eq!((after.addresses[0].left, after.facts_left), (HOUR * 3 / 2, HOUR / 2));
    let after = read(&bytes, THEN + HOUR).unwrap();
    assert_eq!((after.addresses.len(), after.agent, after.protocols), (1, None, Vec::new()));
    assert_eq!(read(&bytes, THEN + 2 * HOUR), None);
}

#[test]
fn wrong_clocks_neither_panic_nor_forget_everything_nor_keep_it_for_ever() {
    let clocks = [
        0, // 1970
        1,
        THEN.as_secs() - 288, // set back
        THEN.as_secs() - 3600,
        2_147_483_647, // 2038
        4_294_967_296,
        u64::MAX / 1000,
        u64::MAX,
    ];
    for clock in clocks.map(Duration::from_secs) {
        // Written by a wrong clock, read by a right one, and the other way round.
        for (written, now) in [(clock, THEN), (THEN, clock), (clock, clock)] {
            let found = read(&encode(&kept(), written), now);
            let passed = written >= PLAUSIBLE && now.saturating_sub(written) >= 2 * HOUR;
            assert_eq!(found.is_none(), passed, "written at {written:?}, read at {now:?}");
            assert!(found.is_none_or(|found| found.addresses.iter().all(|known| known.left <= 2 * HOUR)));
        }
    }
}

#[test]
fn only_the_peers_own_record_is_taken() {
    let mut others = kept();
    others.record = Some(signed(&Keypair::from_ed25519_seed([2; 32]), 7));
    assert_eq!(read(&encode(&others, THEN), THEN).unwrap().record, None);
    let mut forged = kept();
    let mut envelope = signed(&keypair(), 7).envelope.to_vec();
    *envelope.last_mut().unwrap() ^= 1;
    forged.record = Some(Certified { envelope: envelope.into(), ..signed(&keypair(), 7) });
    assert_eq!(read(&encode(&forged, THEN), THEN).unwrap().record, None);
}

#[test]
fn the_longest_row_has_room() {
    let long = |n: usize| ProtocolId::new(format!("/{n:0>255}")).unwrap();
    let mut kept = kept();
    kept.protocols = (0..MAX_PROTOCOLS_PER_PEER).map(long).collect();
    kept.addresses = (0..64)
        .map(|port| KeptAddress {
            address: address(port),
            source: Source::Identify,
            left: HOUR,
            worked: false,
            failures: u32::MAX,
        })
        .collect();
    let bytes = encode(&kept, THEN);
    assert!(bytes.len() <= MAX_VALUE, "{}", bytes.len());
    assert_eq!(read(&bytes, THEN), Some(kept));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), unix in any::<u64>()) {
        let _ = read(&bytes, Duration::from_secs(unix));
    }

    #[test]
    fn no_flipped_bit_panics(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = encode(&kept(), THEN);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = read(&bytes, THEN);
    }
}
