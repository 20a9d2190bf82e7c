//! The transport contract: one dial and one ping, and how long both took.

use std::time::Duration;

use peerage::{Node, ping};
use tokio::time::Instant;

use super::{
    node::builder,
    published,
    redis::Redis,
    settings::{Dialect, Settings},
};

/// The listener: it answers pings, as every node does.
pub(super) async fn start(settings: &Settings) -> Result<Node, String> {
    builder(settings)?.start().await.map_err(|error| error.to_string())
}

/// The dialer. The clock starts once the address is known.
pub(super) async fn dial(settings: &Settings, redis: &mut Redis) -> Result<String, String> {
    let (builder, ping) = builder(settings)?.with(ping::Ping::default());
    let node = builder.start().await.map_err(|error| error.to_string())?;
    let address = published(redis, settings).await?;
    let began = Instant::now();
    let connected = node.connect(address).await.map_err(|error| format!("{error}\n{}", error.report))?;
    let round_trip = ping.rtt(connected.peer).await.map_err(|error| error.to_string())?;
    let handshake = began.elapsed();
    eprintln!("{}", connected.report);
    node.shutdown().await;
    Ok(report(settings.dialect, handshake, round_trip))
}

/// As the scripts of each suite read it. The misspelling is theirs.
fn report(dialect: Dialect, handshake: Duration, round_trip: Duration) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let (handshake, round_trip) = (ms(handshake), ms(round_trip));
    match dialect {
        Dialect::Unified => format!(
            "latency:\n  handshake_plus_one_rtt: {handshake:.3}\n  ping_rtt: {round_trip:.3}\n  unit: ms\n"
        ),
        Dialect::TestPlans => {
            format!("{{\"handshakePlusOneRTTMillis\":{handshake:.3},\"pingRTTMilllis\":{round_trip:.3}}}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports() {
        let (handshake, round_trip) = (Duration::from_micros(5011), Duration::from_nanos(599_400));
        assert_eq!(
            report(Dialect::Unified, handshake, round_trip),
            "latency:\n  handshake_plus_one_rtt: 5.011\n  ping_rtt: 0.599\n  unit: ms\n"
        );
        assert_eq!(
            report(Dialect::TestPlans, handshake, round_trip),
            "{\"handshakePlusOneRTTMillis\":5.011,\"pingRTTMilllis\":0.599}\n"
        );
    }
}
