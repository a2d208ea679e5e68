//! `onevip`: one UDP address for a whole fleet of SFUs.
//!
//! Joins the crates; the work is theirs.

#![forbid(unsafe_code)]

mod check;
mod cli;
mod demo;
mod error;
mod id;
mod operate;
mod say;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use cli::{Cli, Command, LogFormat, Operate};
use error::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.log_format;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Who reads each line as JSON reads the last one, too.
            if format == LogFormat::Json && tracing::dispatcher::has_been_set() {
                tracing::error!("{error}");
            } else {
                eprintln!("onevip: {error}");
            }
            error.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Demo(arguments) => {
            start_log(LevelFilter::WARN, cli.log_format);
            runtime()?.block_on(demo::run(&arguments, cli.output))
        }
        Command::Lb(cli::Lb { command: Some(command), at }) => {
            runtime()?.block_on(operate::lb(&command, &at, cli.output))
        }
        Command::Lb(cli::Lb { command: None, .. }) => {
            start_log(LevelFilter::INFO, cli.log_format);
            let file = cli.config.unwrap_or_else(|| "lb.toml".into());
            Ok(runtime()?.block_on(lb::service::run(&file))?)
        }
        Command::Sfu => {
            start_log(LevelFilter::INFO, cli.log_format);
            let file = cli.config.unwrap_or_else(|| "sfu.toml".into());
            Ok(runtime()?.block_on(sfu::service::run(&file))?)
        }
        Command::Control => {
            start_log(LevelFilter::INFO, cli.log_format);
            let file = cli.config.unwrap_or_else(|| "control.toml".into());
            Ok(runtime()?.block_on(control::service::run(&file))?)
        }
        Command::Check => check::run(&cli.config.ok_or(Error::MissingConfig)?, cli.output),
        Command::Id(command) => id::run(&command, cli.output),
        Command::Node(Operate { command, at }) => {
            runtime()?.block_on(operate::node(&command, &at, cli.output))
        }
        Command::Room(Operate { command, at }) => {
            runtime()?.block_on(operate::room(&command, &at, cli.output))
        }
        Command::Session(Operate { command, at }) => {
            runtime()?.block_on(operate::session(&command, &at, cli.output))
        }
        Command::Routing(Operate { command, at }) => {
            runtime()?.block_on(operate::routing(&command, &at, cli.output))
        }
    }
}

/// One thread. An LB's datagrams have threads of their own; a node's share it, and more nodes, not
/// more threads, are how a fleet grows.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)
}

/// Logs go to stderr; `RUST_LOG` takes levels by target, as in `info,lb=debug`.
fn start_log(level: LevelFilter, format: LogFormat) {
    let filter = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse::<Targets>().ok());
    // These warn of what any peer can send.
    let filter = filter.unwrap_or_else(|| {
        let noisy = ["is", "str0m", "dimpl", "web_transport_quinn"]
            .map(|target| (target, LevelFilter::ERROR));
        Targets::new().with_default(level).with_targets(noisy)
    });
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
}
