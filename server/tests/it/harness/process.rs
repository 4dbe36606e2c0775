//! A server process: how it is started, awaited, killed and asked to end.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{http, ports};

/// Patience with a busy machine. Nothing that works comes near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log line that says a server is ready contains this.
pub(crate) const READY: &str = "ready to serve client requests";

/// Advertised by every server of the tests, so that member and cluster ids are the same everywhere. A sole
/// member never connects to its own peer address.
pub(crate) const ADVERTISED_PEER: &str = "http://127.0.0.1:2380";

/// Likewise for clients: it shows in member lists.
pub(crate) const ADVERTISED_CLIENT: &str = "http://127.0.0.1:2379";

/// How to start one member.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) program: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
    /// Flags besides name, directory and addresses; they come last and win.
    pub(crate) flags: Vec<String>,
}

impl Instance {
    /// A sole member of `program` on free ports.
    pub(crate) fn new(program: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Instance {
        Instance {
            program: program.into(),
            data_dir: data_dir.into(),
            client_port: ports::free(),
            peer_port: ports::free(),
            flags: Vec::new(),
        }
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// The command line.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--name", "tester", "--initial-cluster-token", "tests"])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen-client-urls", &self.url(), "--advertise-client-urls", ADVERTISED_CLIENT])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", self.peer_port)])
            .args(["--initial-advertise-peer-urls", ADVERTISED_PEER])
            .args(["--initial-cluster", &format!("tester={ADVERTISED_PEER}")])
            .args(&self.flags);
        command
    }

    /// Starts the process without waiting for anything.
    pub(crate) fn spawn(&self) -> Process {
        Process::spawn(&mut self.command())
    }

    /// Starts the process and waits until it is ready and says of itself what it will go on saying: etcd
    /// raises its storage version a moment after it is ready.
    pub(crate) fn start_settled(&self) -> Process {
        let process = self.start();
        let start = Instant::now();
        while !http::request(self.client_port, "GET", "/version").1.contains("\"storage\":\"3.7.0\"") {
            assert!(start.elapsed() < PATIENCE, "no storage version:\n{}", process.log());
            thread::sleep(Duration::from_millis(5));
        }
        process
    }

    /// Starts the process and waits until it is ready.
    pub(crate) fn start(&self) -> Process {
        let mut process = self.spawn();
        if !process.await_line(READY) {
            let status = process.wait();
            panic!("{} ended with {status} before it was ready:\n{}", self.program.display(), process.log());
        }
        process
    }
}

/// Lines that a process wrote so far, and whether it can write more.
#[derive(Debug, Default)]
struct Lines {
    text: Vec<String>,
    open: usize,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Arc<(Mutex<Lines>, Condvar)>,
}

impl Process {
    /// Starts a command whose standard output and error are read line by line.
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = Arc::new((Mutex::new(Lines { text: Vec::new(), open: 2 }), Condvar::new()));
        read_lines(child.stdout.take().unwrap(), lines.clone());
        read_lines(child.stderr.take().unwrap(), lines.clone());
        Process { child, lines }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line with this text; false if the process ends without one.
    pub(crate) fn await_line(&self, text: &str) -> bool {
        let (lines, changed) = &*self.lines;
        let mut seen = 0;
        let mut lines = lines.lock().unwrap();
        loop {
            if lines.text[seen..].iter().any(|line| line.contains(text)) {
                return true;
            }
            if lines.open == 0 {
                return false;
            }
            seen = lines.text.len();
            let (next, waited) = changed.wait_timeout(lines, PATIENCE).unwrap();
            lines = next;
            assert!(!waited.timed_out(), "no line with {text:?} in {PATIENCE:?}:\n{}", lines.text.join("\n"));
        }
    }

    /// Everything it wrote so far.
    pub(crate) fn log(&self) -> String {
        self.lines.0.lock().unwrap().text.join("\n")
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success(), "kill -{name} {}", self.pid());
    }

    /// Kills it at once, as a crash would, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.kill_now();
    }

    /// The same, for one that is to be replaced.
    pub(crate) fn kill_now(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end and for its last line.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let (lines, changed) = &*self.lines;
                let lines = lines.lock().unwrap();
                drop(changed.wait_timeout_while(lines, PATIENCE, |lines| lines.open > 0).unwrap());
                return status;
            }
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("still running after {PATIENCE:?}:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(from: impl Read + Send + 'static, lines: Arc<(Mutex<Lines>, Condvar)>) {
    thread::spawn(move || {
        let (lines, changed) = &*lines;
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lines.lock().unwrap().text.push(line);
            changed.notify_all();
        }
        lines.lock().unwrap().open -= 1;
        changed.notify_all();
    });
}

/// Copies a folder. Blocks of zeroes become holes: segments are mostly zeroes.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            copy_file(&entry.path(), &target);
        }
    }
}

fn copy_file(from: &Path, to: &Path) {
    const BLOCK: usize = 1 << 16;
    let bytes = std::fs::read(from).unwrap();
    let file = std::fs::File::create(to).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, (index * BLOCK) as u64).unwrap();
        }
    }
}
