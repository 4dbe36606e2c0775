//! Behaviour tests of `ketch-client`, against a store in memory behind a real connection.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the message")]

mod memory_server;

use ketch_client::{Client, Error, Outcome};
use ketch_proto::rpc_error::RpcError;

#[tokio::test]
async fn a_put_can_be_read() {
    let client = Client::connect(&memory_server::start().await).await.unwrap();
    assert_eq!(client.get("a").await.unwrap(), None);
    assert_eq!(client.put("a", "1").await.unwrap(), 2);
    assert_eq!(client.clone().put("a", "2").await.unwrap(), 3);
    let found = client.get("a").await.unwrap().unwrap();
    assert_eq!((found.value.as_ref(), found.mod_revision), (b"2".as_slice(), 3));
}

#[tokio::test]
async fn a_refusal_is_typed() {
    let client = Client::connect(&memory_server::start().await).await.unwrap();
    let error = client.put("", "1").await.unwrap_err();
    assert_eq!((error.rpc_error(), error.outcome()), (Some(RpcError::EmptyKey), Outcome::Rejected));
}

#[tokio::test]
async fn nobody_there_and_no_url() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Client::connect(&format!("http://{free}")).await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert!(matches!(Client::connect("not a url").await.unwrap_err(), Error::Endpoint(_)));
}
