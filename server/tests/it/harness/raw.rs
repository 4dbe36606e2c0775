//! Calls without a client library: deadlines are for the server alone to keep, and what it says in the end is seen as it is.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a status; and how many bytes came before it.
    Status { code: String, message: String, bytes: usize },
    /// By a reset of the stream, or with the connection.
    Broken(String),
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct RawClient(SendRequest<Body>);

impl RawClient {
    pub(crate) async fn connect(port: u16) -> RawClient {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        // How it ends shows in the calls.
        tokio::spawn(connection);
        RawClient(sender)
    }

    /// Sends a call.
    fn send<M: Message>(
        &mut self,
        path: &str,
        message: &M,
        deadline: Option<&str>,
    ) -> impl Future<Output = Result<Response<Incoming>, hyper::Error>> + use<M> {
        let mut body = vec![0];
        body.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
        message.encode(&mut body).unwrap();
        let mut request = Request::post(format!("http://localhost/{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(deadline) = deadline {
            request = request.header("grpc-timeout", deadline);
        }
        self.0.send_request(request.body(Body::from(body)).unwrap())
    }

    /// One call, to its end. Dropping it resets the stream.
    pub(crate) async fn call(&mut self, path: &str, message: &impl Message, deadline: Option<&str>) -> End {
        end_of(self.send(path, message, deadline)).await
    }
}

/// An answer that has begun, and of which nothing is read that the connection's windows do not take by themselves.
#[derive(Debug)]
pub(crate) struct Unread(Incoming);

impl Unread {
    /// Reads it to its end; how many bytes there were.
    pub(crate) async fn read(mut self) -> usize {
        let mut bytes = 0;
        while let Some(frame) = poll_fn(|task| Pin::new(&mut self.0).poll_frame(task)).await {
            match frame.unwrap().into_data() {
                Ok(data) => bytes += data.len(),
                Err(last) => {
                    let trailers = last.into_trailers().unwrap();
                    assert_eq!(trailers["grpc-status"], "0", "{trailers:?}");
                }
            }
        }
        bytes
    }
}

impl RawClient {
    /// Begins a call: its answer is there, and is not read.
    pub(crate) async fn begin(&mut self, path: &str, message: &impl Message) -> Unread {
        let answer = self.send(path, message, None);
        Unread(timeout(PATIENCE, answer).await.expect("no answer in a minute").unwrap().into_body())
    }
}

/// Reads an answer to its end.
async fn end_of(answer: impl Future<Output = Result<Response<Incoming>, hyper::Error>>) -> End {
    let read = async {
        let (parts, mut body) = answer.await?.into_parts();
        let (mut trailers, mut bytes) = (parts.headers, 0);
        while let Some(frame) = poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
            match frame?.into_data() {
                Ok(data) => bytes += data.len(),
                Err(last) => trailers = last.into_trailers().unwrap_or_default(),
            }
        }
        let text = |name: &str, of: &HeaderMap| {
            let value = of.get(name).map_or(&b""[..], |value| value.as_bytes());
            // The only character of these texts that some escape.
            String::from_utf8_lossy(value).replace("%20", " ")
        };
        let (code, message) = (text("grpc-status", &trailers), text("grpc-message", &trailers));
        Ok(End::Status { code, message, bytes })
    };
    match timeout(PATIENCE, read).await.expect("no end in a minute") {
        Ok(end) => end,
        Err(error) => End::Broken(chain(&error)),
    }
}

/// An error with its causes.
fn chain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
