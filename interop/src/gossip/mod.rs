//! Gossip with foreign peers: in pairs, and in one mesh of many.

mod crowd;
mod excuses;
mod message;
mod mixed;
mod node;
mod ours;
mod pair;
mod partial;
mod pieces;
mod plan;
mod row;
mod side;
mod table;

use std::sync::Arc;

use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::{peers::Peer, site::Site};

pub(crate) use plan::{Filter, Kind, PEERS, Signing};
pub(crate) use row::{Results, Row};
pub(crate) use table::render;

/// More rows than there are, excuses included.
pub(crate) const MOST_ROWS: u32 = 50;

/// Runs everything, so many pairs at once.
pub(crate) async fn run(peers: &[&'static Peer], filter: &Filter, site: &Arc<Site>, jobs: usize) -> Results {
    let started = Instant::now();
    let pairs = plan::pairs(peers, filter);
    let places = Arc::new(Semaphore::new(jobs));
    let mut running = JoinSet::new();
    for (at, (peer, direction, signing)) in pairs.iter().copied().enumerate() {
        let (places, site) = (Arc::clone(&places), Arc::clone(site));
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            let began = Instant::now();
            let mut row = pair::run(None, peer, direction, signing, &site, &plan::STEPS).await;
            let stale = excuses::look_again(&mut row, &site).await;
            tell(&row, began);
            (at, row, stale)
        });
    }
    let mut stale = Vec::new();
    let mut rows: Vec<Option<Row>> = pairs.iter().map(|_| None).collect();
    while let Some(done) = running.join_next().await {
        let Ok((at, row, of_row)) = done else { continue };
        stale.extend(of_row);
        if let Some(place) = rows.get_mut(at) {
            *place = Some(row);
        }
    }
    let complete = rows.iter().all(Option::is_some);
    let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
    for (peer, direction) in plan::partial(peers, filter) {
        let began = Instant::now();
        let row = partial::run(peer, direction, site).await;
        tell(&row, began);
        rows.push(row);
    }
    // Each is many programs, so one after the other.
    for peer in plan::crowds(peers, filter) {
        let began = Instant::now();
        let row = crowd::run(peer, site).await;
        tell(&row, began);
        rows.push(row);
    }
    for (signing, peers) in plan::mixed(peers, filter) {
        let began = Instant::now();
        let row = mixed::run(&peers, signing, site).await;
        tell(&row, began);
        rows.push(row);
    }
    let ok = complete && stale.is_empty() && !rows.is_empty() && rows.iter().all(Row::excused);
    Results { ok, seconds: started.elapsed().as_secs_f64(), rows, stale }
}

fn tell(row: &Row, began: Instant) {
    let word = match (row.ok(), row.excused()) {
        (true, _) => "ok",
        (false, true) => "excused",
        (false, false) => "FAIL",
    };
    eprintln!("{}: {word}, {:.1} s", row.label(), began.elapsed().as_secs_f64());
}
