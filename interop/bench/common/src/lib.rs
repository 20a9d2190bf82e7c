//! What the Rust benchmark peers have in common: the command line, the protocols, and how each measure is taken. A peer
//! brings its [`Stack`], so that all of them do the same over it.
//!
//! `interop/bench/README.md` describes the command line and what is printed.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

mod args;
mod crowding;
pub mod gossip;
mod measure;
mod say;
mod serve;

use std::{fmt, future::Future, io::Read as _, process::ExitCode, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

pub use args::{Measure, Options, Transport};
pub use serve::{PERF, PING, PROTOCOLS, REQUEST, serve};

/// Why a peer cannot do what it was asked for.
#[derive(Debug)]
pub enum Error {
    /// Its library has no such thing. That is no failure: the cell stays empty.
    Unsupported(String),
    /// It did not work.
    Failed(String),
}

/// What comes of an attempt.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(what) => write!(f, "{what} is not supported"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

/// Any error is a failure, with what was attempted before it.
pub fn failed<E: fmt::Display>(doing: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Failed(format!("{doing}: {error}"))
}

/// A library that is measured.
pub trait Stack: Send + Sync + 'static {
    /// A node that dials.
    type Dialer: Dialer;
    /// A node that listens, until it is dropped.
    type Listener: Send;
    /// A node that gossips; [`gossip::Silent`] if none does.
    type Gossiper: gossip::Gossiper;

    /// The library and its version, and what else there is to know of how it is used.
    fn about(&self) -> String;

    /// Starts a node that listens on loopback and serves all of [`PROTOCOLS`] with [`serve`]; gives its address, with its
    /// peer id.
    fn listen(&self, options: &Options) -> impl Future<Output = Result<(Self::Listener, String)>> + Send;

    /// Starts a node with an identity of its own. It is one of a `crowd`, or alone in this process.
    fn dialer(&self, options: &Options, crowd: bool) -> impl Future<Output = Result<Self::Dialer>> + Send;

    /// Starts a node that gossips, with an identity of its own. It is one of many in this process.
    fn gossiper(&self, options: &Options) -> impl Future<Output = Result<Self::Gossiper>> + Send {
        let _ = options;
        async { Err(Error::Unsupported("gossip".to_owned())) }
    }
}

/// A node with at most one connection.
pub trait Dialer: Send + Sync + 'static {
    /// A stream on which a protocol was agreed, or will be with the first bytes.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects: both have proven who they are, and streams can be opened.
    fn dial(&self, address: &str) -> impl Future<Output = Result<()>> + Send;

    /// Opens a stream.
    fn open(&self, protocol: &'static str) -> impl Future<Output = Result<Self::Stream>> + Send;

    /// Works with a stream on the thread that serves its connection, which is where programs do what shall take little time.
    ///
    /// The default is for libraries that run on the runtime of their program: the caller is one of its tasks already.
    fn beside<T, F>(
        &self,
        stream: Self::Stream,
        work: impl FnOnce(Self::Stream) -> F + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        work(stream)
    }

    /// Connects and asks in one: the request leaves before there is a connection. Gives the stream on which the answer comes.
    fn ask(
        &self,
        address: &str,
        protocol: &'static str,
        request: &[u8],
    ) -> impl Future<Output = Result<Self::Stream>> + Send {
        let _ = (address, protocol, request);
        async { Err(Error::Unsupported("data ahead of a handshake".to_owned())) }
    }

    /// Closes the connection, so that this node can dial the same address again.
    fn hang_up(&self) -> impl Future<Output = Result<()>> + Send;
}

/// The `main` of a peer whose library runs on the tokio runtime of its program: one with as many workers as was asked for.
pub fn main<S: Stack>(stack: S) -> ExitCode {
    run(stack, |options| {
        let mut builder = match options.workers {
            1 => tokio::runtime::Builder::new_current_thread(),
            workers => {
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                builder.worker_threads(workers);
                builder
            }
        };
        builder.enable_all().build()
    })
}

/// The `main` of a peer whose library brings threads of its own: what is measured runs on the main thread beside them.
pub fn main_beside<S: Stack>(stack: S) -> ExitCode {
    run(stack, |_| tokio::runtime::Builder::new_current_thread().enable_all().build())
}

fn run<S: Stack>(
    stack: S,
    runtime: impl FnOnce(&Options) -> std::io::Result<tokio::runtime::Runtime>,
) -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("peer: {error}\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    let runtime = match runtime(&options) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("peer: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        // On the workers, where the tasks of the library are.
        let work = work(Arc::new(stack), options);
        tokio::spawn(work).await.unwrap_or_else(|error| Err(Error::Failed(error.to_string())))
    });
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Unsupported(what)) => {
            say::unsupported(&what);
            ExitCode::SUCCESS
        }
        Err(Error::Failed(why)) => {
            eprintln!("peer: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn work<S: Stack>(stack: Arc<S>, options: Options) -> Result<()> {
    let ended = stdin_ends();
    match &options.role {
        args::Role::Server if options.gossip => {
            let (_node, address) = gossip::listen(&*stack, &options).await?;
            say::listening(&address, &stack.about());
            ended.await;
        }
        args::Role::Server => {
            let (_listener, address) = stack.listen(&options).await?;
            say::listening(&address, &stack.about());
            ended.await;
        }
        args::Role::Client { address, measure } if measure.is_gossip() => {
            let kept = gossip::take(&*stack, address, *measure, &options).await?;
            ended.await;
            drop(kept);
        }
        args::Role::Client { address, measure } => {
            let kept = measure::take(&*stack, address, *measure, &options).await?;
            // Whoever reads the result looks at this process once more.
            ended.await;
            drop(kept);
        }
    }
    Ok(())
}

/// Ends when the harness lets go of stdin, or goes away itself.
fn stdin_ends() -> impl Future<Output = ()> + Send {
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    // A thread of its own, because a read of stdin cannot be given up.
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        drop(sender);
    });
    async move { drop(receiver.await) }
}
