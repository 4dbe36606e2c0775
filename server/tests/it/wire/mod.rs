//! The same requests over the wire to the real etcd and to ketch, with the same answers to the field.

mod errors;
mod families;
mod generate;
mod http;
mod limits;
mod maintenance;
mod members;
mod notices;
mod range_stream;
mod request;
mod served;
mod side_by_side;
mod slow;
mod split;
mod starting;
mod unserved;
mod waiting;
mod watching;

use ketch_proto::tonic::transport::{Channel, Endpoint};

use crate::harness::process::{Instance, Process};
use crate::harness::programs;

use request::answer;

/// Both servers, running.
struct Pair {
    etcd: Instance,
    ketch: Instance,
    processes: [Process; 2],
    _dir: tempfile::TempDir,
}

impl Pair {
    /// Starts both in fresh directories, unless there is no real etcd.
    fn start(test: &str) -> Option<Pair> {
        Pair::start_with(test, &[])
    }

    /// The same with further flags.
    fn start_with(test: &str, flags: &[&str]) -> Option<Pair> {
        let tools = programs::real_etcd(test)?;
        let dir = tempfile::tempdir().unwrap();
        let mut etcd = Instance::new(tools.join("etcd"), dir.path().join("etcd"));
        let mut ketch = Instance::new(programs::ketch(), dir.path().join("ketch"));
        for server in [&mut etcd, &mut ketch] {
            server.flags = flags.iter().map(ToString::to_string).collect();
        }
        let processes = [etcd.start_settled(), ketch.start_settled()];
        Some(Pair { etcd, ketch, processes, _dir: dir })
    }

    /// Kills both and starts them again, with what they have.
    fn restart(&mut self) {
        self.processes.iter_mut().for_each(Process::kill_now);
        self.processes = [self.etcd.start_settled(), self.ketch.start_settled()];
    }

    /// A connection to each. Its windows are wide: what is not read yet on one stream must not hold up the others.
    async fn channels(&self) -> [Channel; 2] {
        let connect = async |server: &Instance| {
            let endpoint = Endpoint::from_shared(server.url()).unwrap();
            let wide = endpoint.initial_connection_window_size(WINDOW).initial_stream_window_size(WINDOW);
            wide.connect().await.unwrap()
        };
        [connect(&self.etcd).await, connect(&self.ketch).await]
    }
}

/// Flow-control windows of the clients, in bytes.
const WINDOW: u32 = 1 << 30;

/// Lines of a server's log that are shown when a test fails: its end says whether the server failed.
const LINES_SHOWN: usize = 40;

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, process) in ["etcd", "ketch"].iter().zip(&self.processes) {
                let log = process.log();
                let from = log.lines().count().saturating_sub(LINES_SHOWN);
                let end: Vec<&str> = log.lines().skip(from).collect();
                println!("{name}'s log:\n{}", end.join("\n"));
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
