//! The perf contract: uploads, downloads and round trips over one connection, by `/perf/1.0.0` of the libp2p specs.

use std::time::Duration;

use peerage::{Node, PeerId, perf};

use super::{node::builder, published, redis::Redis, settings::Settings, stats::Stats};

/// Bytes each way of what measures latency.
const ONE: u64 = 1;
/// The longest that one iteration may take.
const ITERATION: Duration = Duration::from_secs(600);

/// The listener.
pub(super) async fn start(settings: &Settings) -> Result<Node, String> {
    let (builder, _) = builder(settings)?.with(perf::Perf::default());
    builder.start().await.map_err(|error| error.to_string())
}

/// The dialer: one measurement after the other.
pub(super) async fn dial(settings: &Settings, redis: &mut Redis) -> Result<String, String> {
    let (builder, perf) = builder(settings)?.with(perf::Perf::default());
    let node = builder.start().await.map_err(|error| error.to_string())?;
    let address = published(redis, settings).await?;
    let connected = node.connect(address).await.map_err(|error| format!("{error}\n{}", error.report))?;
    let amounts = &settings.amounts;

    let measure = |name, up, down, times| measure(&perf, connected.peer, name, up, down, times);
    let uploads = measure("upload", amounts.upload_bytes, 0, amounts.upload_iterations).await?;
    let downloads = measure("download", 0, amounts.download_bytes, amounts.download_iterations).await?;
    let trips = measure("latency", ONE, ONE, amounts.latency_iterations).await?;
    node.shutdown().await;

    let rates = |bytes: u64, times: &[Duration]| times.iter().map(|time| gbps(bytes, *time)).collect();
    let millis = trips.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
    let maps = [
        ("upload", "Gbps", 2, Stats::of(rates(amounts.upload_bytes, &uploads))),
        ("download", "Gbps", 2, Stats::of(rates(amounts.download_bytes, &downloads))),
        ("latency", "ms", 3, Stats::of(millis)),
    ];
    let text = maps.into_iter().filter_map(|(name, unit, digits, of)| Some(of?.yaml(name, unit, digits)));
    Ok(text.collect())
}

/// How long each iteration took, from the opened stream to its end.
async fn measure(
    perf: &perf::Handle,
    peer: PeerId,
    name: &str,
    up: u64,
    down: u64,
    times: u32,
) -> Result<Vec<Duration>, String> {
    let mut took = Vec::new();
    for _ in 0..times {
        let mut request = perf::Request::new(up, down);
        request.timeout = ITERATION;
        let measured = perf.measure(peer, request).await.map_err(|error| format!("{name}: {error}"))?;
        took.push(measured.upload_time + measured.download_time);
    }
    eprintln!("{name}: {times} iterations");
    Ok(took)
}

fn gbps(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8.0 / 1e9 / time.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_gigabits() {
        assert!((gbps(1 << 30, Duration::from_secs(1)) - 8.59).abs() < 0.01);
        assert!(gbps(1, Duration::ZERO).is_finite());
    }
}
