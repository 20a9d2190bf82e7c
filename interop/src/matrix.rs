//! The steps of each row, for both directions.

use std::{sync::Arc, time::Duration};

use peerage::{Event as OurEvent, Events, Multiaddr, PeerId};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    build::Built,
    excuses,
    ours::{Ours, rates},
    peers::Peer,
    plan::{Direction, STEPS, Setup},
    process::{Event, Process, Step},
    row::{Results, Row},
    site::Site,
    streams::{CALLBACK, PING_BACK},
    told::{check_info, check_told},
};

/// How long a peer may take to start: some interpreters read thousands of files first.
pub(crate) const START: Duration = Duration::from_secs(60);
/// How long one step of ours may take. The peers allow theirs 20 s.
const STEP: Duration = Duration::from_secs(20);

/// How long a peer may take to push what it left out of its first answer. go-libp2p hands out what it knew of itself a
/// moment ago, which may be before its handlers were all set, and pushes the rest.
const PUSH: Duration = Duration::from_secs(5);
/// How long all steps of a foreign dialer may take, its start included.
pub(crate) const ALL_STEPS: Duration = Duration::from_secs(290);
/// How many rows that may be excused run beside the others. Most of their time they wait for a deadline.
const WAITING: usize = 8;

/// Runs everything, so many rows at once, and looks again at the excuses for what failed.
pub(crate) async fn run(
    plan: &[(&'static Peer, Direction, Setup)],
    site: &Arc<Site>,
    repeat: u32,
    jobs: usize,
    builds: Vec<Built>,
) -> Results {
    let started = Instant::now();
    let (working, waiting) = (Arc::new(Semaphore::new(jobs)), Arc::new(Semaphore::new(WAITING)));
    let mut running = JoinSet::new();
    for _ in 0..repeat {
        for (at, &(peer, direction, setup)) in plan.iter().enumerate() {
            let places = match excuses::concern(&Row::new(peer.name, direction, setup)) {
                true => Arc::clone(&waiting),
                false => Arc::clone(&working),
            };
            let site = Arc::clone(site);
            running.spawn(async move {
                let _place = places.acquire_owned().await;
                let began = Instant::now();
                let mut row = one(peer, &site, direction, setup).await;
                row.complete();
                let stale = excuses::look_again(&mut row, &site).await;
                let word = match (row.ok(), row.excused()) {
                    (true, _) => "ok",
                    (false, true) => "excused",
                    (false, false) => "FAIL",
                };
                eprintln!("{}: {word}, {:.1} s", row.label(), began.elapsed().as_secs_f64());
                (at, row, stale)
            });
        }
    }
    let mut rows: Vec<Option<Row>> = plan.iter().map(|_| None).collect();
    let mut stale = Vec::new();
    while let Some(done) = running.join_next().await {
        let Ok((at, row, of_row)) = done else { continue };
        stale.extend(of_row);
        match rows.get_mut(at) {
            Some(Some(other)) => other.absorb(row),
            Some(place) => *place = Some(row),
            None => {}
        }
    }
    let complete = rows.iter().all(Option::is_some);
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    let ok = complete && !rows.is_empty() && stale.is_empty() && rows.iter().all(Row::excused);
    Results { ok, repeat, seconds: started.elapsed().as_secs_f64(), builds, rows, stale }
}

async fn one(peer: &Peer, site: &Site, direction: Direction, setup: Setup) -> Row {
    let mut row = Row::new(peer.name, direction, setup);
    let ours = match timeout(STEP, Ours::start(setup, site)).await {
        Ok(Ok(ours)) => ours,
        Ok(Err(error)) => {
            row.note("dial", 0.0, Err(error));
            return row;
        }
        Err(_) => {
            row.note("dial", 0.0, Err("our node does not start in time".to_owned()));
            return row;
        }
    };
    let process = match direction {
        Direction::WeDial => we_dial(&mut row, &ours, peer, site).await,
        Direction::TheyDial => they_dial(&mut row, &ours, peer, site).await,
    };
    let mut process = match process {
        Ok(process) => process,
        Err(error) => {
            row.note("dial", 0.0, Err(error));
            return row;
        }
    };
    let failed = row.cells.iter().any(|cell| !cell.ok);
    let ending = async {
        // Who dialed goes first. Both at once is another test: js-libp2p may wait for ever then, and node calls that 13.
        let (stopped, ended) = match direction {
            Direction::WeDial => (ours.stop().await, process.end().await),
            Direction::TheyDial => {
                let ended = process.end().await;
                // A dialer's status only repeats that a step has failed, which stands there already.
                let ended = if failed { Ok(()) } else { ended };
                (ours.stop().await, ended)
            }
        };
        stopped.and(ended.map_err(|error| format!("the peer: {error}"))).map(|()| ((), String::new()))
    };
    row.step("end", 3 * STEP, ending).await;
    if !row.ok() {
        row.noticed = ours.noticed();
        row.stderr = process.stderr();
    }
    row
}

/// Our node dials a foreign listener.
async fn we_dial(row: &mut Row, ours: &Ours, peer: &Peer, site: &Site) -> Result<Process, String> {
    let setup = row.setup;
    let mut process = Process::listen(peer, site, setup)?;
    let (id, address) = match timeout(START, listening(&mut process)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            row.note("dial", 0.0, Err(format!("it does not listen: {error}")));
            return Ok(process);
        }
        Err(_) => {
            row.note("dial", 0.0, Err(format!("the peer does not listen after {} s", START.as_secs())));
            return Ok(process);
        }
    };

    let mut report = None;
    let dial = async {
        let connected = ours.node.connect(&address).await.map_err(|error| {
            report = Some(error.report.to_string());
            error.to_string()
        })?;
        report = Some(connected.report.to_string());
        if connected.peer != id {
            return Err(format!("connected with {} instead of {id}", connected.peer));
        }
        Ok(((), connected.report.to_string()))
    };
    if row.step("dial", STEP, dial).await.is_none() {
        row.dial_report = report;
        return Ok(process);
    }
    row.step("ping", STEP, ours.ping(id)).await;
    let identify = async {
        let info = ours.identify.info(id).await.map_err(|error| error.to_string())?;
        let said = check_info(&info, Some(&address), peer.tells_observed(setup))?;
        Ok((info, said))
    };
    if let Some(info) = row.step("identify", STEP, identify).await {
        row.agent = Some(info.agent_version.clone());
    }
    row.step("identified", STEP, heard_of_us(&mut process, ours)).await;
    for step in row.setup.steps() {
        match *step {
            "echo-64k" => row.step(step, STEP, ours.echo(id, 64 << 10)).await,
            "echo-4m" => row.step(step, STEP, ours.echo(id, 4 << 20)).await,
            "perf" => row.step(step, STEP, ours.perf(id)).await,
            "many" => row.step(step, STEP, ours.many(id)).await,
            "callback" => row.step(step, STEP, ours.ask(id, CALLBACK)).await,
            "ping-back" => row.step(step, STEP, ours.ask(id, PING_BACK)).await,
            "push" => row.step(step, STEP, ours.push(id)).await,
            "pushed" => row.step(step, STEP, ours.pushed(id)).await,
            _ => None,
        };
    }
    Ok(process)
}

pub(crate) async fn listening(process: &mut Process) -> Result<(PeerId, Multiaddr), String> {
    loop {
        if let Event::Listening { peer, addrs } = process.event().await? {
            let address = addrs.first().ok_or("it names no address")?;
            let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
            return Ok((peer.parse().map_err(|error| format!("{peer}: {error}"))?, address));
        }
    }
}

/// Waits until a listener says that it has identified us, and looks whether it has understood.
async fn heard_of_us(process: &mut Process, ours: &Ours) -> Result<((), String), String> {
    loop {
        if let Event::Identified(told) = process.event().await? {
            check_told(&told, ours)?;
            return Ok(((), String::new()));
        }
    }
}

/// A foreign dialer dials our node. Its steps come as events, while we look at it from here.
async fn they_dial(row: &mut Row, ours: &Ours, peer: &Peer, site: &Site) -> Result<Process, String> {
    let address = ours.address()?.to_string();
    let mut events = ours.node.events();
    let steps = dialer_steps(row.setup, |_| true);
    let mut process = Process::dial(peer, site, row.setup, &address, &steps)?;

    let mut seen = Row::new(peer.name, row.direction, row.setup);
    let mut told = Row::new(peer.name, row.direction, row.setup);
    let watching = watch_dialer(&mut seen, &mut events, peer.tells_observed(row.setup));
    let telling = timeout(ALL_STEPS, follow_dialer(&mut told, ours, &mut process));
    let done = {
        tokio::pin!(watching, telling);
        let mut watched = false;
        let done = loop {
            tokio::select! {
                () = &mut watching, if !watched => watched = true,
                done = &mut telling => break done,
            }
        };
        if !watched {
            // It is gone; what it left behind for us to see may take a moment.
            let _ = timeout(Duration::from_secs(2), watching).await;
        }
        done
    };
    let why = match done {
        Ok(Ok(())) => "it did not come to that before the peer was done".to_owned(),
        Ok(Err(why)) => why,
        Err(_) => format!("the peer was not done within {} s", ALL_STEPS.as_secs()),
    };
    for step in row.setup.steps().iter().filter(|step| **step != "end") {
        match told.cell(step).or_else(|| seen.cell(step)) {
            Some(cell) => row.cells.push(cell.clone()),
            None => row.note(step, 0.0, Err(why.clone())),
        }
    }
    row.agent = seen.agent;
    Ok(process)
}

/// What a foreign dialer is told to do.
pub(crate) fn dialer_steps(setup: Setup, wanted: impl Fn(&str) -> bool) -> String {
    let of_dialer = |step: &&str| !matches!(*step, "identified" | "end") && wanted(step);
    setup.steps().iter().copied().filter(of_dialer).collect::<Vec<_>>().join(",")
}

/// Takes the steps from the dialer's events.
async fn follow_dialer(row: &mut Row, ours: &Ours, process: &mut Process) -> Result<(), String> {
    loop {
        match process.event().await? {
            Event::Step(step) => {
                let wrong = match step.step.as_str() {
                    "dial" if step.told.peer != ours.peer().to_string() => {
                        Err(format!("it is connected with {:?} instead of us", step.told.peer))
                    }
                    "identify" => check_told(&step.told, ours),
                    _ => Ok(()),
                };
                take(row, step, wrong)?;
            }
            Event::Done { .. } => return Ok(()),
            _ => {}
        }
    }
}

/// Notes a step as its dialer tells it. If it went well, it may be wrong all the same.
pub(crate) fn take(row: &mut Row, step: Step, wrong: Result<(), String>) -> Result<(), String> {
    let Some(name) = STEPS.into_iter().find(|name| *name == step.step) else {
        return Err(format!("it took a step that nobody asked for: {}", step.step));
    };
    let rates = step.up_ms.zip(step.down_ms).map(|(up, down)| rates(up, down));
    let result = if step.ok {
        wrong.map(|()| rates.unwrap_or_default())
    } else {
        Err(step.error.unwrap_or_else(|| "it did not say why".to_owned()))
    };
    row.note(name, step.ms, result);
    Ok(())
}

/// Looks at the dialer from our side: whether we learn who it is.
async fn watch_dialer(row: &mut Row, events: &mut Events, observed: bool) {
    let connected = async {
        loop {
            match events.next().await {
                Some(OurEvent::Connected { connection, .. }) => return Some(connection.peer),
                Some(_) => {}
                None => return None,
            }
        }
    };
    let Some(peer) = timeout(START, connected).await.ok().flatten() else { return };
    let identified = async {
        let (mut lacks, mut patience) = (None, STEP);
        loop {
            let Ok(event) = timeout(patience, events.next()).await else {
                return Err(lacks.unwrap_or_else(|| "it said nothing".to_owned()));
            };
            match event {
                Some(OurEvent::Identified { peer: who, info }) if who == peer => {
                    match check_info(&info, None, observed) {
                        Ok(said) => return Ok((info, said)),
                        Err(why) => (lacks, patience) = (Some(why), PUSH),
                    }
                }
                Some(OurEvent::Disconnected { connection, why, .. }) if connection.peer == peer => {
                    let left = || format!("it left before it was identified: {why}");
                    return Err(lacks.unwrap_or_else(left));
                }
                Some(_) => {}
                None => return Err("our node has ended".to_owned()),
            }
        }
    };
    if let Some(info) = row.step("identified", STEP, identified).await {
        row.agent = Some(info.agent_version.clone());
    }
}
