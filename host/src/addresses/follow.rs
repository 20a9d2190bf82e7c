use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{actor::Exit, node::Inner};

/// How often the machine's interfaces are compared with what wildcards stood for, while a listener is bound to one.
pub const INTERFACES_EVERY: Duration = Duration::from_secs(5);

/// Follows the machine's interfaces, until the node stops. Listing them is cheap and works everywhere, which the system's
/// own notices do not.
pub(crate) async fn follow(node: Arc<Inner>, stop: CancellationToken) -> Exit {
    let following = async {
        loop {
            while !node.lock_own().has_wildcard() {
                node.bound.notified().await;
            }
            sleep(INTERFACES_EVERY).await;
            node.interfaces.refresh().await;
            let known = node.interfaces.known();
            if node.lock_own().interfaces(&known) {
                node.changed();
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => Exit::Normal,
        never = following => never,
    }
}
