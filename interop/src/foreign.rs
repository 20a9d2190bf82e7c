//! Foreign peers against each other. What fails there as well, is not ours.

use tokio::time::{Instant, timeout};

use crate::{
    matrix::{ALL_STEPS, START, dialer_steps, listening, take},
    peers::Peer,
    plan::{Direction, Setup},
    process::{Event, Process},
    row::Row,
    site::Site,
};

/// Lets one dial the other, and take these of the setup's steps. The row is that of the listener.
pub(crate) async fn pair(
    dialer: &Peer,
    listener: &'static Peer,
    site: &Site,
    setup: Setup,
    steps: &[&str],
) -> Row {
    let mut row = Row::new(listener.name, Direction::WeDial, setup);
    if let Err(why) = meet(&mut row, dialer, listener, site, steps).await {
        let step = if row.cell("dial").is_none() { "dial" } else { "end" };
        row.note(step, 0.0, Err(why));
    }
    row.complete();
    row
}

async fn meet(
    row: &mut Row,
    dialer: &Peer,
    listener: &Peer,
    site: &Site,
    steps: &[&str],
) -> Result<(), String> {
    let setup = row.setup;
    let mut listens = Process::listen(listener, site, setup)?;
    let started = timeout(START, listening(&mut listens)).await;
    let (_, address) = started.map_err(|_| "the listener does not start in time".to_owned())??;
    let (address, steps) =
        (address.to_string(), dialer_steps(setup, |step| step == "dial" || steps.contains(&step)));
    let mut dials = Process::dial(dialer, site, setup, &address, &steps)?;

    let began = Instant::now();
    let steps = async {
        loop {
            match dials.event().await? {
                Event::Step(step) => take(row, step, Ok(()))?,
                Event::Done { .. } => return Ok::<(), String>(()),
                _ => {}
            }
        }
    };
    timeout(ALL_STEPS, steps).await.map_err(|_| "the dialer was not done in time".to_owned())??;
    // The dialer's status only repeats that a step has failed.
    let dialed =
        dials.end().await.or_else(|why| if row.cells.iter().all(|cell| cell.ok) { Err(why) } else { Ok(()) });
    let identified = async {
        while !matches!(listens.event().await?, Event::Identified(_)) {}
        Ok(((), String::new()))
    };
    let wait = if row.cell("identify").is_some_and(|cell| cell.ok) { 5 } else { 0 };
    row.step("identified", std::time::Duration::from_secs(wait), identified).await;
    let ended = dialed.and(listens.end().await);
    row.note("end", began.elapsed().as_secs_f64() * 1000.0, ended.map(|()| String::new()));
    if !row.ok() {
        row.stderr = listens.stderr();
        row.noticed = dials.stderr();
    }
    Ok(())
}
