//! The `peerage` command.

mod address;
mod args;
mod chat;
mod dial;
mod events;
mod failure;
mod found;
mod id;
mod identify;
mod identity;
mod interrupt;
mod listen;
mod logs;
mod metrics;
mod node;
mod output;
mod perf;
mod ping;
mod psk;
mod report;
mod serve;
mod timeline;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use peerage_cli::text;

use crate::{
    args::{Cli, Command, Common},
    failure::Failure,
    interrupt::Interrupt,
    output::Output,
};

/// What every command has at hand.
struct Context {
    common: Common,
    out: Output,
    interrupt: Interrupt,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let goes_with = match cli.command {
        Command::Id(_) => Some("`id` opens no connections: only --type, --identity and --json go with it"),
        Command::Psk(_) => Some("`psk` opens no connections: only --json goes with it"),
        _ => None,
    };
    if let Some(goes_with) = goes_with.filter(|_| cli.common.says_how_to_connect()) {
        Cli::command().error(ErrorKind::ArgumentConflict, goes_with).exit();
    }
    logs::install();
    let out = Output::new(cli.common.json);
    // The node brings its own threads. Two here, so that Ctrl-C is heard while one waits for a full pipe.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(&out, &Failure::new(format!("cannot start: {error}"))),
    };
    let result = runtime.block_on(run(cli, out));
    // Nothing is left to wait for: nodes are shut down by their commands.
    runtime.shutdown_background();
    result.map_or_else(|failure| end(&out, &failure), |()| ExitCode::SUCCESS)
}

async fn run(cli: Cli, out: Output) -> Result<(), Failure> {
    let context = Context { common: cli.common, out, interrupt: Interrupt::install()? };
    match cli.command {
        Command::Id(args) => id::run(&context, &args),
        Command::Psk(args) => psk::run(&context, &args),
        Command::Listen(args) => listen::run(&context, &args).await,
        Command::Serve(args) => serve::run(&context, &args).await,
        Command::Dial(args) => dial::run(&context, &args).await,
        Command::Ping(args) => ping::run(&context, &args).await,
        Command::Perf(args) => perf::run(&context, &args).await,
        Command::Identify(args) => identify::run(&context, &args).await,
        Command::Chat(args) => chat::run(&context, &args).await,
    }
}

fn end(out: &Output, failure: &Failure) -> ExitCode {
    if let Failure::Error(told) = failure {
        out.fail(told);
    }
    failure.code()
}
