//! The steps of each row, for both directions.

use std::{path::Path, time::Duration};

use peerage::{Event as OurEvent, Events, Multiaddr, PeerId};
use tokio::time::{Instant, timeout};

use crate::{
    build::Built,
    ours::Ours,
    peers::Peer,
    process::{Event, Process},
    row::{Direction, Results, Row, STEPS},
    told::{check_info, check_told},
};

/// How long a peer may take to start: some interpreters read thousands of files first.
const START: Duration = Duration::from_secs(60);
/// How long one step of ours may take. The peers allow theirs 20 s.
const STEP: Duration = Duration::from_secs(20);
/// How long all steps of a foreign dialer may take, its start included.
const ALL_STEPS: Duration = Duration::from_secs(190);
/// What a foreign dialer is told to do.
const DIALER_STEPS: &str = "dial,ping,identify,echo-64k,echo-4m,callback";

/// Runs everything.
pub(crate) async fn run(chosen: &[&Peer], peers: &Path, repeat: u32, builds: Vec<Built>) -> Results {
    let started = Instant::now();
    let mut rows: Vec<Row> = Vec::new();
    for round in 0..repeat {
        for peer in chosen {
            for direction in [Direction::WeDial, Direction::TheyDial] {
                let began = Instant::now();
                let row = one(peer, peers, direction).await;
                let word = if row.ok() { "ok" } else { "FAIL" };
                let which = match direction {
                    Direction::WeDial => "as listener",
                    Direction::TheyDial => "as dialer",
                };
                let counted = if repeat > 1 { format!("{}/{repeat} ", round + 1) } else { String::new() };
                let took = began.elapsed().as_secs_f64();
                eprintln!("{counted}{} {which}: {word}, {took:.1} s", peer.name);
                match rows.iter_mut().find(|other| other.peer == row.peer && other.direction == direction) {
                    Some(other) => other.absorb(row),
                    None => rows.push(row),
                }
            }
        }
    }
    let ok = !rows.is_empty() && rows.iter().all(Row::ok);
    Results { ok, repeat, seconds: started.elapsed().as_secs_f64(), builds, rows }
}

async fn one(peer: &Peer, peers: &Path, direction: Direction) -> Row {
    let mut row = Row::new(peer.name, direction);
    let ours = match timeout(STEP, Ours::start()).await {
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
        Direction::WeDial => we_dial(&mut row, &ours, peer, peers).await,
        Direction::TheyDial => they_dial(&mut row, &ours, peer, peers).await,
    };
    let mut process = match process {
        Ok(process) => process,
        Err(error) => {
            row.note("dial", 0.0, Err(error));
            return row;
        }
    };
    let ending = async {
        // Who dialed goes first. Both at once is another test: js-libp2p may wait for ever then, and node calls that 13.
        let (stopped, ended) = match direction {
            Direction::WeDial => (ours.stop().await, process.end().await),
            Direction::TheyDial => {
                let ended = process.end().await;
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
async fn we_dial(row: &mut Row, ours: &Ours, peer: &Peer, peers: &Path) -> Result<Process, String> {
    let mut process = Process::spawn(peer, peers, &["listen", "--addr", "/ip4/127.0.0.1/tcp/0"])?;
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
        let said = check_info(&info, Some(&address))?;
        Ok((info, said))
    };
    if let Some(info) = row.step("identify", STEP, identify).await {
        row.agent = Some(info.agent_version.clone());
    }
    row.step("identified", STEP, heard_of_us(&mut process, ours)).await;
    row.step("echo-64k", STEP, ours.echo(id, 64 << 10)).await;
    row.step("echo-4m", STEP, ours.echo(id, 4 << 20)).await;
    row.step("callback", STEP, ours.callback(id)).await;
    Ok(process)
}

async fn listening(process: &mut Process) -> Result<(PeerId, Multiaddr), String> {
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
async fn they_dial(row: &mut Row, ours: &Ours, peer: &Peer, peers: &Path) -> Result<Process, String> {
    let address = ours.address()?.to_string();
    let mut events = ours.node.events();
    let mut process = Process::spawn(peer, peers, &["dial", "--addr", &address, "--steps", DIALER_STEPS])?;

    let mut seen = Row::new(peer.name, Direction::TheyDial);
    let mut told = Row::new(peer.name, Direction::TheyDial);
    let watching = watch_dialer(&mut seen, ours, &mut events);
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
    for step in row.expected().filter(|step| *step != "end") {
        match told.cell(step).or_else(|| seen.cell(step)) {
            Some(cell) => row.cells.push(cell.clone()),
            None => row.note(step, 0.0, Err(why.clone())),
        }
    }
    row.agent = seen.agent;
    Ok(process)
}

/// Takes the steps from the dialer's events.
async fn follow_dialer(row: &mut Row, ours: &Ours, process: &mut Process) -> Result<(), String> {
    loop {
        match process.event().await? {
            Event::Step(step) => {
                let Some(name) = STEPS.into_iter().find(|name| *name == step.step) else {
                    return Err(format!("it took a step that nobody asked for: {}", step.step));
                };
                let result = match (step.ok, name) {
                    (false, _) => Err(step.error.unwrap_or_else(|| "it did not say why".to_owned())),
                    (true, "dial") if step.told.peer != ours.peer().to_string() => {
                        Err(format!("it is connected with {:?} instead of us", step.told.peer))
                    }
                    (true, "identify") => check_told(&step.told, ours),
                    (true, _) => Ok(()),
                };
                row.note(name, step.ms, result.map(|()| String::new()));
            }
            Event::Done { .. } => return Ok(()),
            Event::Listening { .. } | Event::Identified(_) | Event::Nonsense(_) => {}
        }
    }
}

/// Looks at the dialer from our side: whether we learn who it is, and whether it answers pings.
async fn watch_dialer(row: &mut Row, ours: &Ours, events: &mut Events) {
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
    row.step("ping-back", STEP, ours.ping(peer)).await;
    let identified = async {
        loop {
            match events.next().await {
                Some(OurEvent::Identified { peer: who, info }) if who == peer => {
                    let said = check_info(&info, None)?;
                    return Ok((info, said));
                }
                Some(OurEvent::Disconnected { connection, why, .. }) if connection.peer == peer => {
                    return Err(format!("it left before it was identified: {why}"));
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
