//! `peerage psk`, and the key of a private network in a file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
};

use peerage::transport::pnet::{MAX_FILE_LEN, PreSharedKey};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{Context, args, failure::Failure};

#[derive(Serialize)]
#[serde(tag = "event", rename = "psk")]
struct Psk {
    fingerprint: String,
    made: bool,
}

pub(crate) fn run(context: &Context, args: &args::Psk) -> Result<(), Failure> {
    let (key, made) = match make(&args.file)? {
        Some(key) => (key, true),
        None => (load(&args.file)?, false),
    };
    let psk = Psk { fingerprint: key.fingerprint().to_string(), made };
    let paint = context.out.paint();
    let text = format!("fingerprint  {}", paint.bold(&psk.fingerprint));
    context.out.say(&psk, text)?;
    if made && !context.out.is_json() {
        let file = args.file.display();
        context.out.note(format_args!(
            "A new key is in {file}. Copy it to each node, and start them with --psk {file}"
        ));
    }
    Ok(())
}

/// The key in `file`. None is made if it is missing: a node that is alone in its network is no use.
pub(crate) fn load(file: &Path) -> Result<PreSharedKey, Failure> {
    read(file).map_err(|error| {
        let failure = Failure::new(format!("cannot read {}: {error}", file.display()));
        if error.kind() == io::ErrorKind::NotFound {
            failure.hint(format!(
                "copy it from another node of the network, or make one: peerage psk {}",
                file.display()
            ))
        } else {
            failure
        }
    })
}

fn read(file: &Path) -> io::Result<PreSharedKey> {
    // Looked at first: opening a pipe would wait for somebody to write into it.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    // Room for all of it from the start: growing would leave copies of the key behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE_LEN + 1));
    File::open(file)?.take(MAX_FILE_LEN as u64 + 1).read_to_end(&mut content)?;
    PreSharedKey::from_file(&content).map_err(io::Error::other)
}

/// Makes a key that only this user can read; `None` if there is something already.
fn make(file: &Path) -> Result<Option<PreSharedKey>, Failure> {
    let cannot = |error: io::Error| Failure::new(format!("cannot make {}: {error}", file.display()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut open = match options.open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    let written = PreSharedKey::generate().map_err(io::Error::other).and_then(|key| {
        open.write_all(key.to_file().as_bytes())?;
        open.sync_all()?;
        Ok(key)
    });
    written.map(Some).map_err(|error| {
        // Half a key is none.
        let _ = fs::remove_file(file);
        cannot(error)
    })
}
