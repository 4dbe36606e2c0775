//! etcd's own log, in a program of its own that is told over a pipe how long each slice lasts.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::{Contender, Failure, Figure};

/// The program, built if need be; or why there is none.
pub(crate) fn program() -> Result<&'static Path, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(build).as_deref().map_err(Clone::clone)
}

fn build() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("KETCH_ETCD_WAL") {
        return Ok(named.into());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/etcd-wal");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("etcd-wal");
    let output =
        Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(source).output();
    match output {
        Err(error) => Err(format!("go cannot be run: {error}")),
        Ok(output) if output.status.success() => Ok(program),
        Ok(output) => Err(format!("go build failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

struct Etcd {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

pub(crate) fn open(dir: &Path, figure: Figure) -> Result<Box<dyn Contender>, Failure> {
    let mut child = Command::new(program()?)
        .arg(dir.join("wal"))
        .args([figure.record.to_string(), figure.writers.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (orders, answers) = (child.stdin.take(), child.stdout.take().ok_or("no pipe")?);
    Ok(Box::new(Etcd { child, orders, answers: BufReader::new(answers) }))
}

impl Contender for Etcd {
    fn slice(&mut self, time: Duration) -> Result<f64, Failure> {
        let orders = self.orders.as_mut().ok_or("no pipe")?;
        writeln!(orders, "{}", time.as_secs_f64())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().parse()?)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // The end of its orders ends it.
        self.orders = None;
        let _ = self.child.wait();
    }
}
