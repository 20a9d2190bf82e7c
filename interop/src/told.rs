//! What identify has to have told either side.

use peerage::{Multiaddr, identify};

use crate::{
    ours::{AGENT, Ours},
    process::Told,
    streams::{CALLBACK, ECHO, SEEN},
};

/// What a peer has to have told us. Only listeners have addresses to tell, and not all tell from where they see us come.
pub(crate) fn check_info(
    info: &identify::Info,
    dialed: Option<&Multiaddr>,
    observed: bool,
) -> Result<String, String> {
    if info.agent_version.is_empty() {
        return Err("it names no agent".to_owned());
    }
    let speaks = |name: &str| info.protocols.iter().any(|protocol| protocol.as_str() == name);
    let wanted = if dialed.is_some() { &[ECHO, CALLBACK][..] } else { &[ECHO] };
    if let Some(name) = wanted.iter().find(|name| !speaks(name)) {
        return Err(format!("it does not name {name} among its {} protocols", info.protocols.len()));
    }
    if let Some(dialed) = dialed
        && !info.listen_addrs.contains(&dialed.split_peer().0)
    {
        return Err(format!("{dialed} is not among the addresses it names: {:?}", texts(&info.listen_addrs)));
    }
    if observed && info.observed_addr.is_none() {
        return Err("it does not tell from where it sees us come".to_owned());
    }
    let record = match &info.signed_record {
        identify::PeerRecordState::Absent => "no record",
        identify::PeerRecordState::Valid(_) => "a valid record",
        identify::PeerRecordState::Invalid(why) => {
            return Err(format!("its signed record is not valid: {why}"));
        }
        _ => "a record",
    };
    let (protocols, addresses) = (info.protocols.len(), info.listen_addrs.len());
    Ok(format!("{}, protocols: {protocols}, addresses: {addresses}, {record}", info.agent_version))
}

fn texts(addresses: &[Multiaddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// What we have to have told a peer.
pub(crate) fn check_told(told: &Told, ours: &Ours) -> Result<(), String> {
    let (us, address) = (ours.peer().to_string(), ours.address()?);
    if told.peer != us {
        return Err(format!("it identified {:?} instead of us, {us}", told.peer));
    }
    if told.agent != AGENT {
        return Err(format!("it takes our agent for {:?} instead of {AGENT:?}", told.agent));
    }
    for name in [ECHO, CALLBACK, SEEN] {
        if !told.protocols.iter().any(|protocol| protocol == name) {
            return Err(format!("it does not know that we speak {name}, only {:?}", told.protocols));
        }
    }
    // Some say it with our peer id, some without.
    let bare = address.split_peer().0.to_string();
    if !told.addrs.iter().any(|told| *told == bare || *told == address.to_string()) {
        return Err(format!("it does not know our address {bare}, only {:?}", told.addrs));
    }
    Ok(())
}
