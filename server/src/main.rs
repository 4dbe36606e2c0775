//! The `ketch` binary: flags, logging, signals, exit codes. Everything else is the library.

use std::io::Write;
use std::process::ExitCode;

use ketch_server::config::{self, Config, Parsed};
use ketch_server::consensus::shell::Stopped;
use ketch_server::snapshot::command;
use ketch_server::{logging, wiring};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    if args.next().as_deref() == Some("snapshot") {
        let outcome = command::run(&args.collect::<Vec<_>>());
        // Whoever closed a stream does not read it.
        let _closed = std::io::stdout().write_all(outcome.out.as_bytes());
        let _closed = std::io::stderr().write_all(outcome.err.as_bytes());
        return ExitCode::from(outcome.code);
    }
    match Config::from_process() {
        Ok(Parsed::Run(config)) => run(&config),
        Ok(Parsed::Version) => {
            print!("{}", config::version_text());
            ExitCode::SUCCESS
        }
        Ok(Parsed::Help) => {
            print!("{}", config::help());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", error.message());
            if error.shows_usage() {
                eprint!("{}", config::usage());
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(config: &Config) -> ExitCode {
    if let Err(why) = logging::start(&config.log) {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    for notice in &config.notices {
        if notice.warning {
            tracing::warn!(subject = notice.subject, "{}", notice.message);
        } else {
            tracing::info!(subject = notice.subject, "{}", notice.message);
        }
    }
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("ketch-api")
        // Pieces of large answers take a tenth of a millisecond each: requests that arrive do not wait for many of them.
        .event_interval(16)
        // Connections whose commands were applied are woken from outside: they do not wait for all that have sent more.
        .global_queue_interval(4)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(config));
            // Requests that did not end in time are cut off here.
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(&format!("cannot start the runtime: {error}")),
    }
}

async fn serve(config: &Config) -> ExitCode {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        return fail("cannot listen for signals");
    };
    let running = tokio::select! {
        started = wiring::start(config) => match started {
            Ok(running) => running,
            Err(why) => return fail(&why),
        },
        _ = terminate.recv() => return ExitCode::SUCCESS,
        _ = interrupt.recv() => return ExitCode::SUCCESS,
    };
    let name = tokio::select! {
        stopped = running.until_stopped() => return ended(&stopped),
        _ = terminate.recv() => "terminated",
        _ = interrupt.recv() => "interrupt",
    };
    tracing::info!(signal = name, "received signal; shutting down");
    running.stop().await;
    ExitCode::SUCCESS
}

/// A member that was removed ends as etcd does: with a warning, and without a fault.
fn ended(stopped: &Stopped) -> ExitCode {
    if !stopped.is_removed() {
        return fail(&stopped.0);
    }
    tracing::warn!(error = stopped.0, "server error");
    tracing::warn!("data-dir used by this member must be removed");
    ExitCode::SUCCESS
}

fn fail(why: &str) -> ExitCode {
    tracing::error!("{why}");
    ExitCode::FAILURE
}
