//! `peerage id`

use serde::Serialize;

use crate::{Context, failure::Failure, identity};

#[derive(Serialize)]
#[serde(tag = "event", rename = "id")]
struct Id {
    peer: String,
    cid: String,
    key_type: String,
}

pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let file = context.common.identity.as_deref();
    let keypair = identity::keypair(file)?;
    let peer = keypair.peer_id();
    let id =
        Id { peer: peer.to_string(), cid: peer.to_cid(), key_type: keypair.public().key_type().to_string() };
    let paint = context.out.paint();
    let text = format!("{}\ncid  {}\nkey  {}", paint.bold(&id.peer), id.cid, id.key_type);
    context.out.say(&id, text)?;
    if file.is_none() && !context.out.is_json() {
        context.out.note("This identity is not kept. Keep one with --identity FILE.");
    }
    Ok(())
}
