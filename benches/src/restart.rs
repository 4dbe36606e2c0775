//! How long a server needs until it is ready again after so many puts.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::load::{Length, Operation, Plan, run};
use crate::server::{End, Program, Server};
use crate::usage::{Memory, memory};

/// What a program needed.
#[derive(Clone, Debug)]
pub struct Restart {
    /// Name of the program.
    pub program: String,
    /// From the start to the ready line, after a kill in the middle of nothing.
    pub after_kill: Duration,
    /// Likewise, after an end in order.
    pub after_terminate: Duration,
    /// Resident memory just after the last start.
    pub memory: Memory,
}

/// Puts `puts` values of `value_size` bytes over `keys` keys, then restarts the server twice.
///
/// # Errors
///
/// The server does not start or a put failed.
pub fn measure(
    program: &Program,
    root: &Path,
    puts: u64,
    keys: u64,
    value_size: usize,
) -> io::Result<Restart> {
    let mut server = Server::start(program, root)?;
    let plan = Plan {
        endpoints: vec![server.url()],
        connections: 8,
        clients: 256,
        operation: Operation::Put,
        length: Length::Requests(puts),
        key_space: keys,
        value_size,
        ..Plan::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(run(&plan))?;
    if report.failed() > 0 {
        return Err(io::Error::other(format!("puts failed: {report}")));
    }
    let after_kill = server.restart(End::Kill)?;
    let after_terminate = server.restart(End::Terminate)?;
    let memory = memory(server.pid())?;
    Ok(Restart { program: program.name.clone(), after_kill, after_terminate, memory })
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{}: ready {:.0?} after a kill, {:.0?} after SIGTERM; anonymous {:.1} MiB, file-backed {:.1} MiB",
            self.program,
            self.after_kill,
            self.after_terminate,
            mib(self.memory.anonymous),
            mib(self.memory.file_backed)
        )
    }
}
