//! What happens on a connection, in a file.

use std::{net::SocketAddr, path::Path};

use quinn::TransportConfig;

/// Lets the connection write its log into a new file in `directory`, if there is one. That it cannot be written is
/// no reason to have no connection.
pub(super) fn attach(
    transport: &mut TransportConfig,
    directory: Option<&Path>,
    side: &'static str,
    remote: SocketAddr,
) {
    let Some(directory) = directory else { return };
    let file = match create(directory, side, remote) {
        Ok(file) => file,
        Err(error) => return tracing::warn!(directory = %directory.display(), %error, "no qlog"),
    };
    let mut config = quinn::QlogConfig::default();
    config.writer(Box::new(std::io::BufWriter::new(file))).title(Some(format!("{side}, {remote}")));
    transport.qlog_stream(config.into_stream());
}

/// Numbered, so that one peer may come often.
fn create(directory: &Path, side: &str, remote: SocketAddr) -> std::io::Result<std::fs::File> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST: AtomicU64 = AtomicU64::new(0);
    std::fs::create_dir_all(directory)?;
    let remote = remote.to_string().replace([':', '[', ']', '%'], "-");
    loop {
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{number:06}-{side}-{remote}.sqlog"));
        match std::fs::File::create_new(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => return result,
        }
    }
}
