//! `--listen-client-http-urls`: gRPC on one port, HTTP/1 on the other.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ketch_proto::etcdserverpb::*;

use super::request::{Asker, Request};
use super::runtime;
use crate::harness::http::request as http;
use crate::harness::ports;
use crate::harness::process::{Instance, Process, READY};
use crate::harness::programs;

/// What a server with two ports says to this and that.
fn said_by(server: &Instance, plain: u16) -> Vec<String> {
    let mut said = Vec::new();
    for path in ["/version", "/health", "/readyz", "/nothing"] {
        said.push(format!("{path}: {:?}", http(plain, "GET", path)));
    }
    said.push(format!("/metrics: {}", http(plain, "GET", "/metrics").0));
    let whole = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n";
    for (asked, ends) in [(&whole[..], false), (b"", true), (b"GET", true), (b"PRI * HTTP/2.0\r\n", true)] {
        let told = String::from_utf8_lossy(asked);
        said.push(format!("to {told:?}: {:?}", told_by(server.client_port, asked, ends)));
    }
    runtime().block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(server.url()).unwrap();
        let mut asker = Asker::new(channel.connect().await.unwrap());
        let put = PutRequest { key: "a".into(), ..Default::default() };
        said.push(format!("{:?}", asker.ask(Request::Put(put)).await));
        for (method, kind) in
            [("GET", ""), ("POST", "text/plain"), ("PUT", "application/grpc"), ("POST", "application/grpc")]
        {
            let of_client = http2(server.client_port, method, kind).await;
            let of_plain = http2(plain, method, kind).await.is_ok();
            said.push(format!("{method} {kind}: {of_client:?} {of_plain}"));
        }
    });
    said
}

/// Types, flags and streams of the frames that a port of gRPC alone says to this, but for the windows of a connection. It is heard before
/// anything is asked; then the connection ends, because the client's side does or by itself, with or without a reset.
fn told_by(port: u16, asked: &[u8], ends: bool) -> Vec<(u8, u8, Vec<u8>)> {
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = vec![0; 9];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[3], SETTINGS);
    stream.write_all(asked).unwrap();
    if ends {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    let _reset = stream.read_to_end(&mut answer);
    let (mut frames, mut rest) = (Vec::new(), &answer[..]);
    while let Some((&[a, b, c, kind, flags, ref stream @ ..], behind)) = rest.split_first_chunk::<9>() {
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        rest = &behind[len..];
        if kind != WINDOW_UPDATE {
            frames.push((kind, flags, stream.to_vec()));
        }
    }
    assert!(rest.is_empty(), "{rest:?}");
    frames
}

/// The answer of a port that speaks HTTP/2: its status and what gRPC says of it.
async fn http2(port: u16, method: &str, kind: &str) -> Result<(u16, [Option<String>; 3]), ()> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|_| ())?;
    tokio::spawn(connection);
    let mut request = ::http::Request::builder().method(method).uri("http://localhost/etcdserverpb.KV/None");
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    let answer = sender.send_request(request.body(Body::empty()).unwrap()).await.map_err(|_| ())?;
    let of = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    // Of a call that is one, the wording of the refusal is not of interest here. What is escaped means the same.
    let message = of("grpc-message").filter(|_| answer.status() != 200);
    let message = message.map(|text| text.replace("%20", " ").replace("%22", "\""));
    Ok((answer.status().as_u16(), [of("content-type"), of("grpc-status"), message]))
}

#[test]
fn grpc_and_http_have_a_port_each() {
    let Some(tools) = programs::real_etcd("grpc_and_http_have_a_port_each") else { return };
    let dir = tempfile::tempdir().unwrap();
    let [expected, found] =
        [("etcd", tools.join("etcd")), ("ketch", programs::ketch())].map(|(name, program)| {
            let mut server = Instance::new(program, dir.path().join(name));
            let plain = ports::free();
            server.flags = vec![format!("--listen-client-http-urls=http://127.0.0.1:{plain}")];
            let process: Process = server.spawn();
            assert!(process.await_line(READY), "{}", process.log());
            for (traffic, port) in [("http", plain), ("grpc", server.client_port)] {
                let line = format!("\"traffic\":\"{traffic}\",\"address\":\"127.0.0.1:{port}\"");
                assert!(process.await_line(&line), "{line} is missing: {}", process.log());
            }
            until_settled(plain);
            said_by(&server, plain)
        });
    assert_eq!(found.join("\n"), expected.join("\n"), "ketch is left, etcd right");
}

/// etcd raises its storage version a moment after it is ready.
fn until_settled(plain: u16) {
    let start = Instant::now();
    while !http(plain, "GET", "/version").1.contains("\"storage\":\"3.7.0\"") {
        assert!(start.elapsed() < Duration::from_secs(60), "no storage version");
        std::thread::yield_now();
    }
}
