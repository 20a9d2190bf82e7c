//! Opportunistic grafting (gossipsub 1.1): every so often a mesh whose median score is below the threshold takes in some
//! peers that are above the median.

use proptest::prelude::*;

use super::*;

const THRESHOLD: f64 = 3.0;
const TICKS: u64 = 5;

/// Members have these scores and others those; nothing but the program's opinion counts.
fn rig(members: &[f64], others: &[f64], most: usize) -> Rig {
    let mut rig = Rig::new(|config| {
        (config.opportunistic_ticks, config.opportunistic_peers) = (TICKS, most);
        // No other rule adds or removes anybody.
        (config.mesh.low, config.mesh.outbound) = (1, 0);
        let scoring = config.scoring.as_mut().unwrap();
        scoring.each_topic = None;
        scoring.thresholds.opportunistic_graft = THRESHOLD;
    });
    rig.command(Command::Subscribe(topic("t")));
    let scores = members.iter().chain(others);
    for (n, score) in (1..).zip(scores) {
        rig.wants(n, "t");
        rig.command(Command::SetAppScore { peer: peer(n), score: *score });
    }
    (1..=members.len() as u16).for_each(|n| rig.grafts(n, "t"));
    assert_eq!(rig.mesh().len(), members.len());
    rig
}

fn heartbeat(rig: &mut Rig) {
    let wait = if rig.engine().heartbeats == 0 { 100 } else { 1000 };
    rig.advance(Duration::from_millis(wait));
}

/// What the spec says.
fn median(scores: &[f64]) -> f64 {
    let mut scores = scores.to_vec();
    scores.sort_by(f64::total_cmp);
    scores[scores.len() / 2]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_poor_mesh_takes_peers_above_its_median_and_no_other_mesh_takes_any(
        members in prop::collection::vec(0..8_u8, 2..=12),
        others in prop::collection::vec(-4..12_i8, 0..12),
        most in 0..4_usize,
    ) {
        let members: Vec<f64> = members.into_iter().map(f64::from).collect();
        let others: Vec<f64> = others.into_iter().map(f64::from).collect();
        let mut rig = rig(&members, &others, most);
        let before = rig.mesh();
        for _ in 1..TICKS {
            heartbeat(&mut rig);
            prop_assert_eq!(rig.mesh(), before.clone(), "not before its time");
        }
        let ids = 1..=(members.len() + others.len()) as u16;
        ids.clone().for_each(|n| drop(rig.told(n)));
        heartbeat(&mut rig);

        let median = median(&members);
        let better = others.iter().filter(|score| **score > median).count();
        let expected = if median < THRESHOLD { better.min(most) } else { 0 };
        prop_assert!(before.iter().all(|member| rig.mesh().contains(member)), "nobody has to go for them");
        prop_assert_eq!(rig.mesh().len() - before.len(), expected);
        for n in ids {
            let taken = rig.in_mesh(n) && !before.contains(&peer(n));
            prop_assert!(!taken || rig.engine().score(&peer(n)) > median);
            let told = rig.told(n).iter().filter(|rpc| rpc.grafts == [topic("t")]).count();
            prop_assert_eq!(told, usize::from(taken), "who is taken is told");
        }
    }
}

#[test]
fn at_the_threshold_a_mesh_is_not_poor_and_at_the_median_a_peer_is_not_better() {
    let cases = [
        (&[2.9, 2.9, 2.9][..], &[5.0][..], 1),
        (&[3.0, 3.0, 3.0], &[5.0], 0),
        (&[2.0, 2.0, 2.0], &[2.0], 0),
        (&[2.0, 2.0, 2.0], &[2.1], 1),
        // Most are poor; one that is rich does not help them.
        (&[0.0, 0.0, 9.0], &[5.0, 5.0, 5.0], 2),
        // One peer is no mesh that has a median.
        (&[0.0], &[5.0], 0),
    ];
    for (members, others, taken) in cases {
        let mut rig = rig(members, others, 2);
        (0..TICKS).for_each(|_| heartbeat(&mut rig));
        assert_eq!(rig.mesh().len(), members.len() + taken, "{members:?} {others:?}");
    }
}

#[test]
fn it_is_done_again_as_often_as_a_mesh_is_poor() {
    let mut rig = rig(&[0.0; 5], &[5.0; 7], 2);
    let mut sizes = Vec::new();
    for _ in 0..5 {
        (0..TICKS).for_each(|_| heartbeat(&mut rig));
        sizes.push(rig.mesh().len());
    }
    // After six good ones came, the median is theirs.
    assert_eq!(sizes, [7, 9, 11, 11, 11]);
}
