//! Between the HTTP library and the system: what is written is gathered and sent once the connection has nothing more to do.
//!
//! An HTTP/2 library flushes after each frame of data, 16 KiB at most as a rule, so a list of many keys is thousands of system
//! calls, each of which wakes its reader. Here a flush does nothing: whoever polls the connection calls [`Wire::poll_send`]
//! afterwards. A connection that has sent everything holds no buffer. HTTP/1, whose connections may become something else,
//! writes as it likes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sync::lock;

/// So much waits at most before more is taken, in bytes; the last write may go above it.
const WAITING_MAX: usize = 64 << 10;
/// What a write of the library comes to at most, as a rule: a frame with its head.
const FRAME_BYTES: usize = (16 << 10) + 64;
/// A buffer's size when small answers are written.
const SMALL_BYTES: usize = 2 << 10;

/// The two ends of a connection's bytes: one for the library, a clone for whoever polls it. Both belong to one task.
#[derive(Debug)]
pub(super) struct Wire<S>(Arc<Mutex<State<S>>>);

#[derive(Debug)]
struct State<S> {
    inner: S,
    /// Bytes that were read before the library was chosen.
    early: Bytes,
    waiting: BytesMut,
    /// Whether anything was read since somebody asked.
    read: bool,
    gathers: bool,
}

impl<S> Clone for Wire<S> {
    fn clone(&self) -> Self {
        Wire(Arc::clone(&self.0))
    }
}

impl<S> Wire<S> {
    /// Wraps `inner`, of which `early` has been read already. If it `gathers`, sending is left to [`Wire::poll_send`].
    pub(super) fn new(inner: S, early: Bytes, gathers: bool) -> Wire<S> {
        Wire(Arc::new(Mutex::new(State { inner, early, waiting: BytesMut::new(), read: false, gathers })))
    }

    /// Whether anything was read since the last time this was asked.
    pub(super) fn was_read(&self) -> bool {
        std::mem::take(&mut self.state().read)
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        lock(&self.0)
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Sends what waits, as far as the system takes it. Ready when nothing waits any more; otherwise the task is woken when the
    /// system takes more.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().poll_send(context)
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(context, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.waiting.advance(sent),
            }
        }
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.waiting.is_empty() {
            let room = if bytes.len() < SMALL_BYTES / 2 { SMALL_BYTES } else { WAITING_MAX + FRAME_BYTES };
            self.waiting.reserve(room);
        }
        self.waiting.extend_from_slice(bytes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.early.is_empty() {
            ready!(Pin::new(&mut state.inner).poll_read(context, buffer))?;
            state.read = true;
            return Poll::Ready(Ok(()));
        }
        let taken = state.early.len().min(buffer.remaining());
        buffer.put_slice(&state.early.split_to(taken));
        if state.early.is_empty() {
            state.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if !state.gathers {
            return Pin::new(&mut state.inner).poll_write(context, bytes);
        }
        if state.waiting.len() >= WAITING_MAX {
            let sent = state.poll_send(context)?;
            if sent.is_pending() && state.waiting.len() >= WAITING_MAX {
                return Poll::Pending;
            }
        }
        state.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.gathers { Poll::Ready(Ok(())) } else { Pin::new(&mut state.inner).poll_flush(context) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        ready!(state.poll_send(context))?;
        Pin::new(&mut state.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn wired(capacity: usize, early: &'static [u8]) -> (Wire<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(capacity);
        (Wire::new(server, Bytes::from_static(early), true), client)
    }

    fn send(wire: &Wire<DuplexStream>) -> Poll<()> {
        wire.poll_send(&mut Context::from_waker(Waker::noop())).map(Result::unwrap)
    }

    #[tokio::test]
    async fn what_was_read_early_comes_first() {
        let (mut wire, mut client) = wired(64, b"early ");
        client.write_all(b"late").await.unwrap();
        drop(client);
        let mut all = Vec::new();
        wire.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"early late");
    }

    #[tokio::test]
    async fn writes_go_out_together_when_the_owner_says_so() {
        let (mut wire, mut client) = wired(1 << 20, b"");
        for part in [&b"a few "[..], b"small ", b"frames"] {
            wire.write_all(part).await.unwrap();
            wire.flush().await.unwrap();
        }
        let mut got = [0; 18];
        assert!(is_pending(client.read(&mut got)).await);
        assert_eq!(send(&wire), Poll::Ready(()));
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"a few small frames");
        assert_eq!(wire.state().waiting.capacity(), 0, "an idle connection holds no buffer");
    }

    async fn is_pending(future: impl Future) -> bool {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn no_more_waits_than_the_limit_and_the_end_comes_after_all() {
        let (mut wire, mut client) = wired(1000, b"");
        let frame = vec![7; FRAME_BYTES];
        let mut written = 0;
        while !is_pending(wire.write_all(&frame)).await {
            written += frame.len();
        }
        assert!((WAITING_MAX..WAITING_MAX + 2 * FRAME_BYTES).contains(&written), "{written}");
        assert_eq!(send(&wire), Poll::Pending);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all.len()
        });
        wire.shutdown().await.unwrap();
        assert_eq!(reader.await.unwrap(), written);
    }
}
