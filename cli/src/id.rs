//! `peerage id`

use peerage::identity::KeyType;
use serde::Serialize;

use crate::{Context, args, failure::Failure, identity};

#[derive(Serialize)]
#[serde(tag = "event", rename = "id")]
struct Id {
    peer: String,
    cid: String,
    key_type: String,
}

pub(crate) fn run(context: &Context, args: &args::Id) -> Result<(), Failure> {
    let file = context.common.identity.as_deref();
    let keypair = identity::keypair_of(file, args.key_type.unwrap_or(KeyType::Ed25519))?;
    let there = keypair.public().key_type();
    if let (Some(file), Some(wanted)) = (file, args.key_type)
        && wanted != there
    {
        return Err(Failure::new(format!("the identity in {} is {there}, not {wanted}", file.display()))
            .hint("--type is for a new identity: name another file, or leave it out to see this one"));
    }
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
