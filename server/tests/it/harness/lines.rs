//! The first lines of what a program writes that does not end by itself.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long a command may take for its next line. None that works comes near it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first lines of what a command writes; fewer if it ends or says nothing more.
pub(crate) fn first(from: impl Read + Send + 'static, count: usize) -> Vec<u8> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut text = Vec::new();
    for _ in 0..count {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => text.extend(line.into_iter().chain([b'\n'])),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                text.extend(b"and then nothing\n");
                break;
            }
        }
    }
    text
}
