//! `/unix/<path>`: Unix domain sockets, between processes of one machine.
//!
//! Who may connect is what the file system allows: a socket file's permissions follow the umask, and whoever may not enter
//! its directory does not reach it. The security handshake is done here as anywhere.
//!
//! A multiaddr ends with the path, so it cannot name a peer; who is expected there is said beside it
//! ([`DialOpts::expected`]). The end that dials has no path of its own: both ends of a connection are known by the
//! listener's.

use std::{
    fs, io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use peerage_core::Multiaddr;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    net::{UnixListener, UnixStream},
    time,
};

use crate::{
    DialOpts, Link, ListenError, ListenOpts, Listener, ListenerEvent, Raw, Transport, TransportError,
    address,
    tcp::{Accepting, Accepts, Failure, LISTEN_BACKLOG, classify},
};

/// The longest path in bytes. The operating system keeps a socket's path in an array, and ends it with a zero there.
pub const MAX_PATH_LEN: usize = MAX_SUN_PATH - 1;

#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_SUN_PATH: usize = 108;
/// The least that any Unix has.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MAX_SUN_PATH: usize = 104;

/// How long a dial waits before it asks again at a listener whose queue is full. TCP would ask again by itself.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The transport for Unix domain sockets.
#[derive(Clone, Debug, Default)]
pub struct Unix(());

impl Unix {
    /// The transport. It has no state.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Transport for Unix {
    fn name(&self) -> &'static str {
        "unix"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        address::as_unix(address).is_some()
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        address::as_unix(address).is_some()
    }

    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        async move {
            let Some(path) = address::as_unix(&address).map(Path::new) else {
                return Err(TransportError::Unsupported(address));
            };
            check(path).map_err(|len| TransportError::PathTooLong { len, max: MAX_PATH_LEN })?;
            let connected = time::timeout_at(opts.deadline, connect(path)).await;
            let stream = connected.map_err(|_| TransportError::Timeout)??;
            Ok(Link::Raw(raw(stream, address)))
        }
        .boxed()
    }

    fn listen(
        &self,
        address: Multiaddr,
        _: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        async move {
            let Some(path) = address::as_unix(&address).map(PathBuf::from) else {
                return Err(ListenError::Unsupported(address));
            };
            if let Err(len) = check(&path) {
                return Err(ListenError::PathTooLong { address, len, max: MAX_PATH_LEN });
            }
            match Bound::new(path, address.clone()) {
                Ok(bound) => Ok(Box::new(bound) as Box<dyn Listener>),
                Err(source) => Err(ListenError::Bind { address, source }),
            }
        }
        .boxed()
    }
}

/// The length of a path that is too long.
fn check(path: &Path) -> Result<(), usize> {
    let len = path.as_os_str().as_bytes().len();
    if len > MAX_PATH_LEN { Err(len) } else { Ok(()) }
}

async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => time::sleep(FULL_PAUSE).await,
            result => return result,
        }
    }
}

/// Binds a path, in the place of a socket file that nobody answers on any more.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let name = SockAddr::unix(path)?;
    match socket.bind(&name) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, error)?;
            socket.bind(&name)?;
        }
        result => result?,
    }
    let listening = socket.listen(LISTEN_BACKLOG).and_then(|()| UnixListener::from_std(socket.into()));
    // Not bound for long, and of no use to anybody.
    listening.inspect_err(|_| drop(fs::remove_file(path)))
}

/// Removes what a process left behind that ended without doing so. Anything else that has the path is somebody's:
/// `taken` is the answer then.
///
/// Two processes that begin to listen at one path in the same instant may still take each other's file for stale. The
/// path is the later one's then; the earlier one hears nobody, and leaves the file alone at its end.
fn remove_stale(path: &Path, taken: io::Error) -> io::Result<()> {
    let Some(file) = FileId::of(path) else {
        return Err(taken);
    };
    // Local and at once: what would wait is answered by an error, and does mean that somebody is there.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => return Err(taken),
    }
    file.remove(path)
}

/// Which socket file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// `None` unless there is a socket. A symbolic link is none.
    fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok().filter(|found| found.file_type().is_socket())?;
        Some(Self { device: found.dev(), inode: found.ino() })
    }

    /// Removes it, if it still has that name.
    fn remove(self, path: &Path) -> io::Result<()> {
        if Self::of(path) == Some(self) { fs::remove_file(path) } else { Ok(()) }
    }
}

fn raw(stream: UnixStream, address: Multiaddr) -> Raw {
    Raw { io: Box::new(stream), local: address.clone(), remote: address, limited: false }
}

impl Accepts for UnixListener {
    type Accepted = UnixStream;

    async fn accept(&self) -> Result<UnixStream, (Failure, io::Error)> {
        let (stream, _) = Self::accept(self).await.map_err(|error| (classify(&error), error))?;
        Ok(stream)
    }
}

/// A listener. Its file goes with it.
struct Bound {
    address: Multiaddr,
    accepting: Accepting<UnixListener>,
    _file: SocketFile,
}

impl Bound {
    fn new(path: PathBuf, address: Multiaddr) -> io::Result<Self> {
        let socket = bind(&path)?;
        let file = SocketFile { id: FileId::of(&path), path };
        Ok(Self { address, accepting: Accepting::new(socket), _file: file })
    }
}

impl Listener for Bound {
    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.address.clone()]
    }

    fn next(&mut self) -> BoxFuture<'_, ListenerEvent> {
        async {
            match self.accepting.next().await {
                Ok(stream) => ListenerEvent::Incoming(Link::Raw(raw(stream, self.address.clone()))),
                Err(event) => event,
            }
        }
        .boxed()
    }
}

struct SocketFile {
    path: PathBuf,
    id: Option<FileId>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let removed = self.id.map_or(Ok(()), |id| id.remove(&self.path));
        if let Err(error) = removed {
            tracing::debug!(path = %self.path.display(), %error, "a socket file is left behind");
        }
    }
}
