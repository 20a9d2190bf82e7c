//! Networks that swallow a kind of address.

use super::*;

/// A node that dials everything.
#[derive(Debug)]
struct Everything;

impl Screen for Everything {
    fn refuses(&self, _: PeerId) -> Option<String> {
        None
    }

    fn skip(&self, _: &Multiaddr, _: Option<PeerId>, _: Trust) -> Option<Skip> {
        None
    }
}

/// Over UDP nobody answers. Dials a peer, and says in which order its addresses were tried.
fn dial_where_udp_is_swallowed(dialer: &mut Dialer, who: u8) -> Vec<String> {
    let quic: Multiaddr = "/ip4/8.8.8.8/udp/1/quic-v1".parse().unwrap();
    let tcp: Multiaddr = "/ip4/8.8.8.8/tcp/1".parse().unwrap();
    ask(dialer, u64::from(who), Some(who), &[quic, tcp], 5 * SECOND);
    let mut order = Vec::new();
    loop {
        let wants = wants(dialer);
        for (dial, attempt, address) in wants.attempts {
            order.push(address.to_string());
            if address.iter().any(|part| part == Protocol::QuicV1) {
                continue;
            }
            dialer.advance(Duration::from_millis(40));
            dialer.input(Input::AttemptStage { attempt, stage: Stage::Security });
            wins(dialer, attempt, who);
            adopted(dialer, dial, Ok(1));
            return order;
        }
        dialer.advance(Duration::from_millis(10));
    }
}

#[test]
fn udp_that_is_swallowed_is_noticed_and_then_costs_nothing() {
    let mut dialer = Sim::new(Engine::new(peer(OWN), 7 << 32, Box::new(Everything), engine::rng(7)));
    for who in 1..=5 {
        let began = dialer.now();
        assert_eq!(dial_where_udp_is_swallowed(&mut dialer, who).len(), 2);
        assert_eq!(dialer.now().since(began.mono), HEAD_START + Duration::from_millis(40), "its head start");
        wants(&mut dialer);
    }
    let began = dialer.now();
    assert_eq!(dial_where_udp_is_swallowed(&mut dialer, 6), ["/ip4/8.8.8.8/tcp/1"]);
    assert_eq!(dialer.now().since(began.mono), Duration::from_millis(40));
    let report = wants(&mut dialer).answers.remove(0).unwrap().report;
    assert_eq!((report.attempts[0].doubt, report.attempts[1].doubt), (Some("UDP"), None));
    assert!(report.to_string().contains("UDP seems to lead nowhere here"), "{report}");
}
