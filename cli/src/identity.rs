//! The private key in a file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use peerage::{
    Keypair,
    identity::{KeyType, MAX_PRIVATE_KEY_LEN},
};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// The identity in `file`, made if there is none; without a file, a new one that is not kept.
pub(crate) fn keypair(file: Option<&Path>) -> Result<Keypair, Failure> {
    keypair_of(file, KeyType::Ed25519)
}

/// The same; if one is made, it is of this type.
pub(crate) fn keypair_of(file: Option<&Path>, key_type: KeyType) -> Result<Keypair, Failure> {
    let Some(file) = file else { return Ok(Keypair::generate_of(key_type)) };
    // Twice: between the look and the making, another process may have made it.
    for _ in 0..2 {
        // Looked at first: opening a pipe would wait for somebody to write into it.
        match fs::metadata(file)
            .and_then(|about| if about.is_file() { File::open(file).map(Some) } else { Ok(None) })
        {
            Ok(Some(open)) => return load(file, open),
            Ok(None) => return Err(Failure::new(format!("{} is not a file", file.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot("open", file, &error)),
        }
        if let Some(made) = create(file, key_type)? {
            return Ok(made);
        }
    }
    Err(Failure::new(format!("{} is there and cannot be opened", file.display()))
        .hint("it may be a link that leads nowhere"))
}

fn load(file: &Path, open: File) -> Result<Keypair, Failure> {
    let about = open.metadata().map_err(|error| cannot("look at", file, &error))?;
    only_ours(file, &about)?;
    // Room for all of it from the start: growing would leave copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PRIVATE_KEY_LEN + 1));
    open.take(MAX_PRIVATE_KEY_LEN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot("read", file, &error))?;
    Keypair::from_protobuf(&bytes).map_err(|error| {
        Failure::new(format!("{} has no identity in it: {error}", file.display()))
            .hint("name another file, or move this one away and a new identity is made")
    })
}

/// As ssh has it: whoever reads the key is this peer.
#[cfg(unix)]
fn only_ours(file: &Path, about: &fs::Metadata) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let file = file.display();
    Err(Failure::new(format!("others may read or change the private key in {file} (mode {mode:03o})"))
        .hint(format!("chmod 600 {file}; if somebody may have read it, make a new identity")))
}

#[cfg(not(unix))]
fn only_ours(_file: &Path, _about: &fs::Metadata) -> Result<(), Failure> {
    Ok(())
}

/// Makes the file whole or not at all; `None` if another one was faster.
fn create(file: &Path, key_type: KeyType) -> Result<Option<Keypair>, Failure> {
    let keypair = Keypair::generate_of(key_type);
    let temporary = Temporary::write(file, &keypair).map_err(|error| {
        let failure = cannot("write beside", file, &error);
        if error.kind() == io::ErrorKind::NotFound {
            failure.hint("make its directory first")
        } else {
            failure
        }
    })?;
    // A link and not a rename, which would replace the key that another process has just put there.
    match fs::hard_link(&temporary.0, file) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(cannot("make", file, &error)),
    }
    drop(temporary);
    // So that a crash does not take the name away again. Not every file system can; the key is good either way.
    if let Some(Ok(directory)) = file.parent().map(|parent| File::open(or_here(parent))) {
        let _ = directory.sync_all();
    }
    Ok(Some(keypair))
}

/// A file that is gone when this is dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn write(beside: &Path, keypair: &Keypair) -> io::Result<Self> {
        let name = beside.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        // Named after the new peer, and so after nobody else: process numbers repeat from container to container.
        let path = beside.with_file_name(format!(".{name}.{}.tmp", keypair.peer_id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        let temporary = Self(path);
        file.write_all(&keypair.to_protobuf())?;
        file.sync_all()?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn or_here(parent: &Path) -> &Path {
    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
}

fn cannot(what: &str, file: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", file.display()))
}
