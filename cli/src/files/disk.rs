//! Files, a piece at a time, on threads that may block. Hashes go along.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::{sync::watch, task::spawn_blocking};

use super::name::Name;

/// Bytes that are read and written at once, and so what a transfer holds of its file.
pub(super) const PIECE: usize = 256 * 1024;
/// Files of one name in the folder; more are not tried.
pub(super) const MAX_SAME: u32 = 1000;

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A file of the user's, to be read twice: for its hash, and to send it.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    pub(super) size: u64,
}

impl Source {
    pub(super) async fn open(path: PathBuf) -> io::Result<Self> {
        blocking(move || {
            // Before it is opened: a pipe would wait for somebody to write.
            if !fs::metadata(&path)?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
            }
            let file = File::open(&path)?;
            let size = file.metadata()?.len();
            Ok(Self { file, size })
        })
        .await
    }

    /// The hash of all of it, but not of what is appended meanwhile. It can be given up between two pieces.
    pub(super) async fn sha256(mut self) -> io::Result<(Self, [u8; 32])> {
        let (mut hash, mut piece, mut size) = (Context::new(&SHA256), Vec::new(), 0_u64);
        while size < self.size {
            (self, piece) = self.next(piece).await?;
            piece.truncate(usize::try_from(self.size.saturating_sub(size)).unwrap_or(usize::MAX));
            if piece.is_empty() {
                break;
            }
            size = size.saturating_add(piece.len() as u64);
            (hash, piece) = blocking(move || {
                hash.update(&piece);
                Ok((hash, piece))
            })
            .await?;
        }
        self.size = size;
        let source = blocking(move || {
            self.file.seek(SeekFrom::Start(0))?;
            Ok(self)
        });
        Ok((source.await?, finish(hash)))
    }

    /// The next piece, in the place of the last one; empty at the end.
    pub(super) async fn next(mut self, mut piece: Vec<u8>) -> io::Result<(Self, Vec<u8>)> {
        blocking(move || {
            piece.resize(PIECE, 0);
            let read = self.file.read(&mut piece)?;
            piece.truncate(read);
            Ok((self, piece))
        })
        .await
    }
}

fn finish(hash: Context) -> [u8; 32] {
    // It has 32 bytes, whatever the type says.
    hash.finish().as_ref().try_into().unwrap_or_default()
}

/// Where files are received. It knows whether one there is not complete.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Every file that is not complete has a receiver of it, and lets go of that once it is removed or kept.
    incomplete: watch::Sender<()>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, incomplete: watch::Sender::new(()) }
    }

    /// Returns once no file is incomplete: what the disk was asked to do is done, even if nobody waits for it any more.
    pub(super) async fn settled(&self) {
        self.incomplete.closed().await;
    }

    #[cfg(test)]
    pub(super) fn incomplete(&self) -> usize {
        self.incomplete.receiver_count()
    }
}

/// A file that is not complete. Dropped before it is [kept](Partial::keep), it is removed.
pub(super) struct Partial {
    file: File,
    hash: Context,
    place: Place,
    folder: PathBuf,
    name: Name,
}

/// A path that is removed with this; the receiver goes after it.
struct Place(Option<PathBuf>, watch::Receiver<()>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "an incomplete file is left behind");
        }
    }
}

impl Partial {
    /// An empty one in `folder`, which is made if it is missing. Nothing that is there is opened, and no link followed.
    pub(super) async fn create(folder: &Folder, name: Name) -> io::Result<Self> {
        let (folder, incomplete) = (folder.path.clone(), folder.incomplete.subscribe());
        blocking(move || {
            fs::create_dir_all(&folder)?;
            let (file, path) = create_new(|number| name.partial(&folder, number))?;
            let place = Place(Some(path), incomplete);
            Ok(Self { file, hash: Context::new(&SHA256), place, folder, name })
        })
        .await
    }

    /// Adds the first `len` bytes of a piece, and gives its memory back.
    pub(super) async fn add(mut self, piece: Vec<u8>, len: usize) -> io::Result<(Self, Vec<u8>)> {
        blocking(move || {
            let new = piece.get(..len).unwrap_or(&piece);
            self.hash.update(new);
            self.file.write_all(new)?;
            Ok((self, piece))
        })
        .await
    }

    /// The hash of what was added.
    pub(super) fn sha256(&self) -> [u8; 32] {
        finish(self.hash.clone())
    }

    /// Closes and removes it. That of a large file takes its time, which a drop would take from the runtime.
    pub(super) async fn discard(self) {
        let removed = blocking(move || {
            drop(self);
            Ok(())
        });
        // A place that cannot be removed has said so.
        let _ = removed.await;
    }

    /// Gives it its name, or that name and a number if there is such a file. Where it is then, whatever happens to the machine.
    pub(super) async fn keep(self) -> io::Result<PathBuf> {
        blocking(move || {
            let Self { file, mut place, folder, name, .. } = self;
            file.sync_all()?;
            // A file of our own takes the place of an empty file of our own: nobody else's is overwritten.
            let (reserved, path) = create_new(|number| name.inside(&folder, number))?;
            drop((file, reserved));
            let mut reserved = Place(Some(path.clone()), place.1.clone());
            if let Some(from) = &place.0 {
                fs::rename(from, &path)?;
            }
            (place.0, reserved.0) = (None, None);
            Ok(path)
        })
        .await
    }
}

/// Makes the first file of some that is not there.
fn create_new(path: impl Fn(u32) -> PathBuf) -> io::Result<(File, PathBuf)> {
    for number in 0..MAX_SAME {
        let path = path(number);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return Ok((opened?, path)),
        }
    }
    let why = format!("{MAX_SAME} files have that name already, or are being received under it");
    Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

/// A folder of a test's own, removed with it.
#[cfg(test)]
pub(super) struct Scratch(pub(super) PathBuf);

#[cfg(test)]
impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("peerage-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// What is in `in`, where files are received.
    pub(super) fn received(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.0.join("in")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.0.join("in")
    }

    pub(super) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

#[cfg(test)]
impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The hash of some bytes.
#[cfg(test)]
pub(super) fn sha256_of(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    async fn received(folder: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        let partial = Partial::create(&Folder::new(folder.to_owned()), name("a.txt")).await?;
        let (partial, _) = partial.add(bytes.to_vec(), bytes.len()).await?;
        assert_eq!(partial.sha256(), sha256_of(bytes));
        partial.keep().await
    }

    #[tokio::test]
    async fn files_get_numbers_and_overwrite_nothing() {
        let scratch = Scratch::new("numbers");
        for (bytes, path) in [(b"1", "a.txt"), (b"2", "a (1).txt"), (b"3", "a (2).txt")] {
            assert_eq!(received(&scratch.folder(), bytes).await.unwrap(), scratch.folder().join(path));
        }
        assert_eq!(fs::read(scratch.folder().join("a.txt")).unwrap(), b"1");
        assert_eq!(fs::read(scratch.folder().join("a (2).txt")).unwrap(), b"3");
        assert_eq!(scratch.received(), ["a (1).txt", "a (2).txt", "a.txt"]);
    }

    #[tokio::test]
    async fn what_is_not_kept_is_removed() {
        let scratch = Scratch::new("dropped");
        let folder = Folder::new(scratch.folder());
        let partial = Partial::create(&folder, name("a.txt")).await.unwrap();
        let other = Partial::create(&folder, name("a.txt")).await.unwrap();
        assert_eq!(scratch.received(), [".a.txt.0.part", ".a.txt.1.part"]);
        assert_eq!(folder.incomplete(), 2);
        drop(partial);
        other.discard().await;
        assert!(scratch.received().is_empty());
        folder.settled().await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_are_not_followed() {
        let scratch = Scratch::new("links");
        let precious = scratch.file("precious", b"precious");
        fs::create_dir(scratch.folder()).unwrap();
        for link in ["a.txt", ".a.txt.0.part"] {
            std::os::unix::fs::symlink(&precious, scratch.folder().join(link)).unwrap();
        }
        // One that leads nowhere would be made by whoever followed it.
        std::os::unix::fs::symlink(scratch.0.join("nowhere"), scratch.folder().join("a (1).txt")).unwrap();
        let path = received(&scratch.folder(), b"new").await.unwrap();
        assert_eq!(path, scratch.folder().join("a (2).txt"));
        assert_eq!(fs::read(precious).unwrap(), b"precious");
        assert!(!scratch.0.join("nowhere").exists());
    }

    #[tokio::test]
    async fn so_many_of_one_name_and_not_one_more() {
        let scratch = Scratch::new("same");
        fs::create_dir(scratch.folder()).unwrap();
        for number in 0..MAX_SAME - 1 {
            fs::write(name("a.txt").inside(&scratch.folder(), number), b"").unwrap();
        }
        received(&scratch.folder(), b"the last").await.unwrap();
        let error = received(&scratch.folder(), b"one more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!scratch.received().iter().any(|name| name.ends_with(".part")));
    }

    #[tokio::test]
    async fn only_files_are_sent() {
        let scratch = Scratch::new("source");
        assert!(Source::open(scratch.0.join("missing")).await.is_err());
        assert!(Source::open(scratch.0.clone()).await.is_err());
        #[cfg(unix)]
        {
            // One that nobody writes to: who opened it would wait for ever.
            let pipe = scratch.0.join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            assert_eq!(Source::open(pipe).await.unwrap_err().to_string(), "it is not a file");
        }
        let bytes = vec![7; PIECE + 1];
        let source = Source::open(scratch.file("x", &bytes)).await.unwrap();
        let (source, sha256) = source.sha256().await.unwrap();
        assert_eq!((source.size, sha256), (PIECE as u64 + 1, sha256_of(&bytes)));
        let (source, piece) = source.next(Vec::new()).await.unwrap();
        let (source, rest) = source.next(piece.clone()).await.unwrap();
        let (_, end) = source.next(rest.clone()).await.unwrap();
        assert_eq!(([piece, rest].concat(), end), (bytes, Vec::new()));
    }
}
