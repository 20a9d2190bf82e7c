//! The private key in a file: who a node is, over restarts.

mod disk;
mod form;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use peerage_core::{
    Keypair,
    identity::{DecodeError, KeyType},
};
use zeroize::Zeroizing;

use disk::{Disk, Looked, Real};

/// Bytes of a key file that are read: the longest key, in base64, inside the JSON that others write around it.
pub const MAX_LEN: usize = 32 * 1024;

/// A file that holds a private key, for its owner only (mode 0600).
///
/// It is written as the libp2p spec's `PrivateKey` protobuf. Read are as well: that protobuf in base64, as other
/// implementations print it, also inside the JSON that js-libp2p (`privKey`) and kubo (`Identity.PrivKey`) write; an
/// Ed25519 key as its bare 32-byte seed, or as 64 bytes with the public half behind it.
///
/// What is not a key is an error, and left as it is: a node that cannot read its key must not become somebody else.
///
/// ```no_run
/// use peerage_host::{KeyFile, Node};
///
/// let keypair = KeyFile::new("node.key").load_or_create()?;
/// let node = Node::builder(keypair);
/// # Ok::<(), peerage_host::KeyFileError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The file at `path`. Nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the key.
    ///
    /// # Errors
    /// [`KeyFileError`]. A file that others than its owner may read or change is refused, as ssh does: whoever has read
    /// it is this peer, too, and a mode that is silently mended would hide that.
    pub fn load(&self) -> Result<Keypair, KeyFileError> {
        load(&Real, &self.path)?.ok_or_else(|| self.error(Kind::Missing))
    }

    /// Reads the key, or makes an Ed25519 key and the file if there is none. When several processes do so at once, all
    /// get the key of the one that was first. Nothing ever takes the place of a file that is there.
    ///
    /// # Errors
    /// As [`KeyFile::load`], and if the file cannot be made; then there is none, or a whole one.
    pub fn load_or_create(&self) -> Result<Keypair, KeyFileError> {
        self.load_or_create_of(KeyType::Ed25519)
    }

    /// As [`KeyFile::load_or_create`]; a key that is made is of this type. One that is there may be of another.
    ///
    /// # Errors
    /// As [`KeyFile::load_or_create`].
    pub fn load_or_create_of(&self, key_type: KeyType) -> Result<Keypair, KeyFileError> {
        load_or_create(&Real, &self.path, || Keypair::generate_of(key_type))
    }

    /// Makes the file hold `keypair`. One that is there is replaced at once and whole: after a crash there is the old
    /// key or the new one.
    ///
    /// # Errors
    /// [`KeyFileError`]; the file holds the key that it held, or, if only the directory could not be synced, the new
    /// one.
    pub fn save(&self, keypair: &Keypair) -> Result<(), KeyFileError> {
        save(&Real, &self.path, keypair)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, kind: Kind) -> KeyFileError {
        KeyFileError { path: self.path.clone(), kind }
    }
}

/// Why a key file was not read or written. It is for the user to decide about; [`KeyFileError::hint`] says how.
#[derive(Debug)]
pub struct KeyFileError {
    path: PathBuf,
    kind: Kind,
}

/// What is wrong with a key file.
#[derive(Debug)]
enum Kind {
    Missing,
    NotAFile,
    NoTarget,
    Exposed { mode: u32 },
    NotAKey(form::Error),
    Io(&'static str, io::Error),
}

impl KeyFileError {
    /// What to do about it, if that can be said.
    pub fn hint(&self) -> Option<String> {
        let path = self.path.display();
        Some(match &self.kind {
            Kind::NoTarget => "it may be a link that leads nowhere".to_owned(),
            Kind::Exposed { .. } => {
                format!("chmod 600 {path}; if somebody may have read it, make a new identity")
            }
            Kind::NotAKey(form::Error::Key(DecodeError::Curve(_))) => {
                "name another file; this version cannot be that peer".to_owned()
            }
            Kind::NotAKey(_) => {
                "name another file, or move this one away and a new identity is made".to_owned()
            }
            Kind::Missing => "name another file, or have one made".to_owned(),
            Kind::Io("write beside", error) if error.kind() == io::ErrorKind::NotFound => {
                "make its directory first".to_owned()
            }
            Kind::Io(_, error) if error.kind() == io::ErrorKind::StorageFull => {
                "make room on the disk".to_owned()
            }
            Kind::NotAFile | Kind::Io(..) => return None,
        })
    }

    /// Whether the file is there and holds no key, as opposed to not being there or not being readable.
    pub fn is_not_a_key(&self) -> bool {
        matches!(self.kind, Kind::NotAKey(_))
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            Kind::Missing => write!(f, "there is no {path}"),
            Kind::NotAFile => write!(f, "{path} is not a file"),
            Kind::NoTarget => write!(f, "{path} is there and cannot be opened"),
            Kind::Exposed { mode } => {
                write!(f, "others may read or change the private key in {path} (mode {mode:03o})")
            }
            Kind::NotAKey(why) => write!(f, "{path} has no identity in it: {why}"),
            Kind::Io(what, error) => write!(f, "cannot {what} {path}: {error}"),
        }
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::NotAKey(error) => Some(error),
            Kind::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// `None` if there is no file.
fn load(disk: &impl Disk, path: &Path) -> Result<Option<Keypair>, KeyFileError> {
    let fail = |kind| Err(KeyFileError { path: path.to_owned(), kind });
    let bytes = match disk.read(path, MAX_LEN.saturating_add(1)) {
        Ok(Looked::Missing) => return Ok(None),
        Ok(Looked::NotAFile) => return fail(Kind::NotAFile),
        Ok(Looked::File { mode, .. }) if mode & 0o077 != 0 => return fail(Kind::Exposed { mode }),
        Ok(Looked::File { bytes, .. }) => bytes,
        Err(error) => return fail(Kind::Io("read", error)),
    };
    match form::read(&bytes) {
        Ok(keypair) => Ok(Some(keypair)),
        Err(why) => fail(Kind::NotAKey(why)),
    }
}

fn load_or_create(
    disk: &impl Disk,
    path: &Path,
    generate: impl Fn() -> Keypair,
) -> Result<Keypair, KeyFileError> {
    // Twice: between the look and the making, another process may have made it.
    for _ in 0..2 {
        if let Some(keypair) = load(disk, path)? {
            return Ok(keypair);
        }
        let keypair = generate();
        if create(disk, path, &keypair)? {
            return Ok(keypair);
        }
    }
    Err(KeyFileError { path: path.to_owned(), kind: Kind::NoTarget })
}

/// Makes the file whole or not at all; `false` if another one was faster.
fn create(disk: &impl Disk, path: &Path, keypair: &Keypair) -> Result<bool, KeyFileError> {
    let temporary = Temporary::write(disk, path, keypair)?;
    // A link and not a rename, which would replace the key that another process has just put there.
    match disk.link(&temporary.path, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(KeyFileError { path: path.to_owned(), kind: Kind::Io("make", error) }),
    }
    drop(temporary);
    // So that a crash does not take the name away again. Not every file system can; the key is good either way.
    let _ = disk.sync_directory(path);
    Ok(true)
}

fn save(disk: &impl Disk, path: &Path, keypair: &Keypair) -> Result<(), KeyFileError> {
    let temporary = Temporary::write(disk, path, keypair)?;
    let fail = |error| KeyFileError { path: path.to_owned(), kind: Kind::Io("replace", error) };
    disk.rename(&temporary.path, path).map_err(fail)?;
    // It has the other name now.
    temporary.forget();
    disk.sync_directory(path).map_err(fail)
}

/// A whole and synced copy beside the file, which is gone when this is dropped.
struct Temporary<'a, D: Disk> {
    disk: &'a D,
    path: PathBuf,
    there: bool,
}

impl<'a, D: Disk> Temporary<'a, D> {
    fn write(disk: &'a D, beside: &Path, keypair: &Keypair) -> Result<Self, KeyFileError> {
        let fail = |error| KeyFileError { path: beside.to_owned(), kind: Kind::Io("write beside", error) };
        let Some(name) = beside.file_name() else {
            return Err(fail(io::ErrorKind::InvalidInput.into()));
        };
        // Named after the peer, and so after nobody else: process numbers repeat from container to container.
        let path = beside.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), keypair.peer_id()));
        // One of the same name is what a crash left of this very key.
        let _ = disk.remove(&path);
        let mut file = disk.create(&path).map_err(fail)?;
        let temporary = Self { disk, path, there: true };
        let bytes: Zeroizing<Vec<u8>> = keypair.to_protobuf();
        disk.write(&mut file, &bytes).map_err(fail)?;
        disk.sync(&mut file).map_err(fail)?;
        Ok(temporary)
    }

    fn forget(mut self) {
        self.there = false;
    }
}

impl<D: Disk> Drop for Temporary<'_, D> {
    fn drop(&mut self) {
        if self.there {
            let _ = self.disk.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;

/// For the fuzz targets.
#[cfg(feature = "fuzzing")]
pub(crate) fn read(bytes: &[u8]) -> Option<Keypair> {
    form::read(bytes).ok()
}
