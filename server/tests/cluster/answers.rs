//! Answers to the only command under way, which are written by whoever carried it out, also where the client has no room for them.

use std::time::Duration;

use h2::client::{Builder, SendRequest};
use hyper::body::Bytes;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::{PutRequest, RangeRequest};
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::programs;
use crate::members::{Cluster, Member};
use crate::run::runtime;

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: usize = 20;
/// More than the answer to a put.
const WINDOW: u32 = 1 << 16;

/// One message of a call.
fn framed(request: &impl Message) -> Bytes {
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(request.encoded_len()).unwrap().to_be_bytes());
    request.encode(&mut body).unwrap();
    body.into()
}

fn begin(client: &mut SendRequest<Bytes>, key: &str) -> h2::client::ResponseFuture {
    let put = PutRequest { key: key.to_owned().into(), value: "value".into(), ..Default::default() };
    let request = http::Request::post("http://localhost/etcdserverpb.KV/Put");
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(framed(&put), true).unwrap();
    answer
}

/// The status of a call whose answer has room.
async fn end(answer: h2::client::ResponseFuture) -> String {
    let mut body = answer.await.unwrap().into_body();
    while let Some(data) = body.data().await {
        let len = data.unwrap().len();
        body.flow_control().release_capacity(len).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    trailers["grpc-status"].to_str().unwrap().to_owned()
}

#[test]
fn the_answer_of_a_lone_put_waits_for_room() {
    runtime().block_on(async {
        let cluster = tokio::task::block_in_place(|| Cluster::found(programs::ketch(), 3, &[]));
        for round in 0..ROUNDS {
            let leader = &cluster.members[cluster.leader().await];
            let stream = TcpStream::connect(("127.0.0.1", leader.client_port)).await.unwrap();
            let built = Builder::new().initial_window_size(0).handshake(stream).await;
            let (client, mut connection) = built.unwrap();
            let (open, mut opened) = tokio::sync::oneshot::channel::<()>();
            let mut pings = connection.ping_pong().unwrap();
            let served = tokio::spawn(async move {
                tokio::select! {
                    _over = &mut connection => return,
                    _room = &mut opened => connection.set_initial_window_size(WINDOW).unwrap(),
                }
                drop(connection.await);
            });
            let mut client = client.ready().await.unwrap();
            let blocked = begin(&mut client, &format!("x/{round}"));
            // It is carried out, and its answer has no room: other things on the connection go on.
            let read = async {
                while !has(leader, &format!("x/{round}")).await {
                    tokio::task::yield_now().await;
                }
            };
            timeout(PATIENCE, read).await.unwrap();
            timeout(PATIENCE, pings.ping(h2::Ping::opaque())).await.unwrap().unwrap();
            open.send(()).unwrap();
            assert_eq!(timeout(PATIENCE, end(blocked)).await.unwrap(), "0");
            // The next ones have room at once.
            for _ in 0..3 {
                let answer = begin(&mut client, "x/more");
                assert_eq!(timeout(PATIENCE, end(answer)).await.unwrap(), "0");
            }
            drop(client);
            timeout(PATIENCE, served).await.unwrap().unwrap();
        }
    });
}

/// Whether there is such a key, read without the quorum: it disturbs nobody.
async fn has(member: &Member, key: &str) -> bool {
    let request = RangeRequest { key: key.to_owned().into(), serializable: true, ..Default::default() };
    KvClient::new(member.channel()).range(request).await.unwrap().into_inner().count > 0
}
