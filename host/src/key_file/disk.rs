use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
};

use zeroize::Zeroizing;

/// What is done with files. A seam for tests that let each step fail.
pub(super) trait Disk {
    type File;
    /// Looks at a file and reads at most `max` bytes of it.
    fn read(&self, path: &Path, max: usize) -> io::Result<Looked>;
    /// Makes a file that was not there, for its owner only.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    fn sync(&self, file: &mut Self::File) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; fails if there is a file of that name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Syncs the directory that a file is in.
    fn sync_directory(&self, of: &Path) -> io::Result<()>;
}

/// What is at a path.
pub(super) enum Looked {
    Missing,
    NotAFile,
    File {
        /// Who may do what with it, as Unix has it; 0600 elsewhere.
        mode: u32,
        bytes: Zeroizing<Vec<u8>>,
    },
}

/// The machine's.
pub(super) struct Real;

impl Disk for Real {
    type File = File;

    fn read(&self, path: &Path, max: usize) -> io::Result<Looked> {
        // Looked at first: opening a pipe would wait for somebody to write into it.
        let file = match fs::metadata(path)
            .and_then(|about| if about.is_file() { File::open(path).map(Some) } else { Ok(None) })
        {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Looked::NotAFile),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Looked::Missing),
            Err(error) => return Err(error),
        };
        let mode = mode(&file.metadata()?);
        // Room for all of it from the start: growing would leave copies of the key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(max));
        file.take(u64::try_from(max).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        Ok(Looked::File { mode, bytes })
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    #[cfg(unix)]
    fn sync_directory(&self, of: &Path) -> io::Result<()> {
        let directory = of.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    #[cfg(not(unix))]
    fn sync_directory(&self, _of: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
fn mode(about: &fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777
}

#[cfg(not(unix))]
fn mode(_about: &fs::Metadata) -> u32 {
    0o600
}
