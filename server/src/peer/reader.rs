//! The reader of a lane for entries from a peer: a thread that waits for its bytes and hands their messages to raft. What a lone message
//! leads to is done by the same thread, a sync too; so it costs one wake-up, of the thread that was waiting for it.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use ketch_raft::Message;

use super::accept::{self, LaneError};
use super::frame::{self, Kind, Outgoing};
use super::handshake::Caller;
use super::network::{Inner, Network};
use super::table::{LaneKind, Peer};
use super::{QUIET_MAX, codec};
use crate::serve::{Early, Socket};

/// What is read at once, and what a block of entries that share memory comes to.
const BLOCK: usize = 64 << 10;
/// A longer frame's memory grows as its bytes come: a damaged length reserves no more than this.
const RESERVE_MAX: usize = 4 << 20;

/// Starts the thread that reads a lane that was accepted.
///
/// # Errors
/// The connection is not one that a thread could wait for, or there is no thread.
pub(super) fn start(
    net: &Network,
    peer: Arc<Peer>,
    caller: Caller,
    upgraded: Upgraded,
) -> Result<(), LaneError> {
    let (early, socket) = socket(upgraded)?;
    socket.block(QUIET_MAX)?;
    let reader = Reader { net: Arc::clone(&net.inner), peer, caller, socket: Arc::new(socket) };
    reader.peer.take_in(caller.boot, &reader.socket);
    let lane = Arc::clone(&reader.peer);
    let socket = Arc::clone(&reader.socket);
    let started = net.spawn_reader(move || reader.live(early));
    if started.is_err() {
        lane.let_go(&socket);
    }
    Ok(started?)
}

/// The socket of an upgraded connection, and what was read of it already.
fn socket(upgraded: Upgraded) -> io::Result<(BytesMut, Socket)> {
    let parts = upgraded.downcast::<TokioIo<Early>>().map_err(|_other| io::ErrorKind::Unsupported)?;
    let (first, socket) = parts.io.into_inner().into_socket()?;
    let mut early = BytesMut::from(&first[..]);
    early.put_slice(&parts.read_buf);
    Ok((early, socket))
}

struct Reader {
    net: Arc<Inner>,
    peer: Arc<Peer>,
    caller: Caller,
    socket: Arc<Socket>,
}

impl Reader {
    fn live(self, early: BytesMut) {
        let outcome = self.receive(early);
        self.peer.let_go(&self.socket);
        accept::note_end(&self.peer, LaneKind::Append.name(), outcome);
    }

    /// Hands the lane's messages to raft, as many at once as have come.
    fn receive(&self, early: BytesMut) -> Result<(), LaneError> {
        let wishes = self.peer.wishes();
        let mut incoming = Incoming { bytes: early, spare: BytesMut::new() };
        let mut batch = Batch::default();
        while !accept::is_over(&wishes, self.caller) {
            let whole = batch.fill(&mut incoming.bytes, self.net.identity.member_id);
            if !batch.messages.is_empty() {
                self.net.inlet.appends(std::mem::take(&mut batch.messages));
            }
            whole?;
            if !batch.pongs.is_empty() {
                self.socket.write_all(&batch.take_pongs())?;
            }
            match incoming.read(&self.socket) {
                Ok(0) => return Ok(()),
                Ok(count) => self.peer.meter.received_bytes.add(count as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing came for too long.
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// What has come, and the memory right behind it.
struct Incoming {
    bytes: BytesMut,
    spare: BytesMut,
}

impl Incoming {
    /// Waits for more; 0 at the end of the connection.
    fn read(&mut self, socket: &Socket) -> io::Result<usize> {
        self.make_room();
        let count = socket.read(&mut self.spare)?;
        self.bytes.unsplit(self.spare.split_to(count));
        Ok(count)
    }

    /// Makes room for what is known to come, or for a block.
    fn make_room(&mut self) {
        let (have, missing) = (self.bytes.len(), frame::missing(&self.bytes));
        let enough = if missing <= RESERVE_MAX { missing.max(BLOCK / 16) } else { BLOCK / 16 };
        if self.spare.len() >= enough {
            return;
        }
        // Longer frames are moved as often as they double.
        let room = missing.clamp(BLOCK, RESERVE_MAX).max(missing.min(have));
        let mut block = BytesMut::zeroed(have + room);
        block[..have].copy_from_slice(&self.bytes);
        self.spare = block.split_off(have);
        self.bytes = block;
    }
}

/// What came with one read.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    pub(super) pongs: Outgoing,
}

impl Batch {
    /// Takes all whole frames out of `buffer`. What came before damage is good.
    pub(super) fn fill(&mut self, buffer: &mut BytesMut, own: u64) -> Result<(), LaneError> {
        while let Some((kind, body)) = frame::next_frame(buffer)? {
            match kind {
                Kind::Message => {
                    let message = codec::decode(body).map_err(LaneError::Message)?;
                    if message.to != own {
                        return Err(LaneError::Misdirected);
                    }
                    self.messages.push(message);
                }
                Kind::Ping => self.pongs.push(Kind::Pong, |pong| pong.encoded.put_slice(&body)),
                other => return Err(LaneError::Kind(other)),
            }
        }
        Ok(())
    }

    pub(super) fn take_pongs(&mut self) -> BytesMut {
        std::mem::take(&mut self.pongs).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn frames_longer_than_a_block_come_whole_and_share_their_memory() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let socket = Socket::Unix(ours);
        let mut sent = Outgoing::default();
        let bodies = [1, 3 * BLOCK, 10, RESERVE_MAX + 7, 2 * RESERVE_MAX, BLOCK / 2];
        for (number, len) in bodies.into_iter().enumerate() {
            sent.push(Kind::Ping, |body| body.encoded.put_bytes(number as u8, len));
        }
        let sent = sent.into_bytes();
        let writer = std::thread::spawn(move || theirs.write_all(&sent).unwrap());
        let mut incoming = Incoming { bytes: BytesMut::new(), spare: BytesMut::new() };
        let mut seen = Vec::new();
        while incoming.read(&socket).unwrap() > 0 {
            while let Some((_, body)) = frame::next_frame(&mut incoming.bytes).unwrap() {
                assert!(body.iter().all(|&byte| usize::from(byte) == seen.len()));
                seen.push(body.len());
            }
        }
        writer.join().unwrap();
        assert_eq!(seen, bodies);
    }

    #[test]
    fn a_damaged_length_reserves_little() {
        let mut incoming = Incoming { bytes: BytesMut::new(), spare: BytesMut::new() };
        incoming.bytes.put_u32_le(1 << 28);
        incoming.make_room();
        assert_eq!((incoming.bytes.len(), incoming.spare.len()), (4, RESERVE_MAX));
    }
}
