//! A server process under test: started on free loopback ports in a fresh data directory, awaited by its
//! ready line, stopped by a signal to its own process id.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The log line that says a server is ready contains this.
const READY: &str = "ready to serve client requests";

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(60);

/// Log lines kept for the message about a failed start.
const LINES_KEPT: usize = 20;

/// A server program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name in reports.
    pub name: String,
    /// The executable; it must accept etcd's flags.
    pub path: PathBuf,
    /// Flags besides name, directory and addresses.
    pub flags: Vec<String>,
}

/// A running server. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub struct Server {
    child: Child,
    program: Program,
    ports: [u16; 2],
    dir: TempDir,
}

/// How a process is made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGKILL: as in a crash.
    Kill,
    /// SIGTERM: as a supervisor does it.
    Terminate,
}

impl Server {
    /// Starts `program` with its data in a new folder below `root` and waits for its ready line.
    ///
    /// # Errors
    ///
    /// The program cannot be run, ends early or is not ready in time; the text has its last log lines.
    pub fn start(program: &Program, root: &Path) -> io::Result<Server> {
        let dir = tempfile::Builder::new().prefix("ketch-versus-").tempdir_in(root)?;
        let ports = free_ports()?;
        let child = spawn(program, dir.path(), ports)?;
        Ok(Server { child, program: program.clone(), ports, dir })
    }

    /// Ends the process, starts it again on the same data and returns how long the start took, from the
    /// spawn to the ready line.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn restart(&mut self, end: End) -> io::Result<Duration> {
        if end == End::Terminate {
            let pid = libc::pid_t::try_from(self.pid()).map_err(io::Error::other)?;
            // SAFETY: a plain system call; the process is our child and was not waited for yet.
            if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
                return Err(io::Error::last_os_error());
            }
        } else {
            self.child.kill()?;
        }
        self.child.wait()?;
        let start = Instant::now();
        self.child = spawn(&self.program, self.dir.path(), self.ports)?;
        Ok(start.elapsed())
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        url(self.ports[0])
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is read from it any more, so there is no reason to let it close its files.
        end(&mut self.child);
    }
}

pub(crate) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Starts the process and waits until it is ready.
fn spawn(program: &Program, dir: &Path, [client, peer]: [u16; 2]) -> io::Result<Child> {
    let cluster = format!("bench={}", url(peer));
    let spot = Spot { name: "bench", client, peer, cluster: &cluster, joins: false };
    launch(program, dir, &spot)?.await_ready()
}

/// A member's place in its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its loopback port for clients.
    pub client: u16,
    /// Its loopback port for peers.
    pub peer: u16,
    /// All members as `--initial-cluster` names them.
    pub cluster: &'a str,
    /// It joins a cluster that exists.
    pub joins: bool,
}

/// A process that was started and may not be ready yet. Dropping it kills the process.
#[derive(Debug)]
pub struct Starting {
    child: Option<Child>,
    name: String,
    is_ready: mpsc::Receiver<()>,
    tail: Tail,
}

/// A log's last lines.
type Tail = Arc<Mutex<VecDeque<String>>>;

/// Starts `program` with its data in `dir`.
///
/// # Errors
///
/// It cannot be run.
pub fn launch(program: &Program, dir: &Path, spot: &Spot<'_>) -> io::Result<Starting> {
    let (client, peer) = (url(spot.client), url(spot.peer));
    let mut child = Command::new(&program.path)
        .args(["--name", spot.name, "--log-level", "info"])
        .args([OsStr::new("--data-dir"), dir.join("data").as_os_str()])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", spot.cluster])
        .args(["--initial-cluster-state", if spot.joins { "existing" } else { "new" }])
        .args(&program.flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.path.display())))?;
    let log = child.stderr.take().ok_or_else(|| io::Error::other("no log to read"))?;
    let (is_ready, tail) = follow(log);
    Ok(Starting { child: Some(child), name: program.name.clone(), is_ready, tail })
}

impl Starting {
    /// Waits for the ready line.
    ///
    /// # Errors
    ///
    /// It does not come in time, or the process ends; the text has its last log lines.
    pub fn await_ready(mut self) -> io::Result<Child> {
        let problem = match self.is_ready.recv_timeout(START_MAX) {
            Ok(()) => return self.child.take().ok_or_else(|| io::Error::other("no process")),
            Err(RecvTimeoutError::Timeout) => "is not ready in time",
            Err(RecvTimeoutError::Disconnected) => "ended before it was ready",
        };
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = tail.iter().map(String::as_str).collect();
        Err(io::Error::other(format!("{} {problem}; its last log lines:\n{}", self.name, lines.join("\n"))))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.child.iter_mut().for_each(end);
    }
}

/// Reads the log on a thread of its own, which goes on draining it for the life of the process.
fn follow(log: impl io::Read + Send + 'static) -> (mpsc::Receiver<()>, Tail) {
    let (ready, is_ready) = mpsc::channel();
    let tail = Tail::default();
    let kept = tail.clone();
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if line.contains(READY) {
                let _ = ready.send(());
            }
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line);
            if kept.len() > LINES_KEPT {
                kept.pop_front();
            }
        }
    });
    (is_ready, tail)
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    // All are held until the last is known, so that they differ.
    let held: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
