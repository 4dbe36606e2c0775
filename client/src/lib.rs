//! A typed client for etcd v3 servers: ketch, and etcd itself.
//!
//! This is its beginning: [`Client::connect`], [`Client::put`] and [`Client::get`], over one connection to one
//! endpoint. Watches, leases, transactions, authentication and several endpoints are not here yet; until then
//! the stubs in [`ketch_proto`] reach everything.
//!
//! ```no_run
//! # async fn example() -> Result<(), ketch_client::Error> {
//! let client = ketch_client::Client::connect("http://127.0.0.1:2379").await?;
//! let revision = client.put("greeting", "hello").await?;
//! let found = client.get("greeting").await?.expect("it was just put");
//! assert_eq!((found.value.as_ref(), found.mod_revision), (b"hello".as_slice(), revision));
//! # Ok(())
//! # }
//! ```

mod error;

pub use error::{Error, Outcome};

use bytes::Bytes;
use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::{PutRequest, RangeRequest, ResponseHeader};
use ketch_proto::mvccpb::KeyValue;
use ketch_proto::tonic::transport::{Channel, Endpoint};

/// A connection to one server. Clones share it; all methods take `&self`.
#[derive(Clone, Debug)]
pub struct Client {
    kv: KvClient<Channel>,
}

impl Client {
    /// Connects to a server, for example `http://127.0.0.1:2379`.
    ///
    /// # Errors
    ///
    /// [`Error::Endpoint`] when `url` is no URL, [`Error::Connect`] when nobody answers there.
    pub async fn connect(url: &str) -> Result<Client, Error> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| Error::Endpoint(url.to_owned()))?;
        let channel = endpoint.connect().await.map_err(Error::Connect)?;
        // An answer may be as large as the server likes: the limit is the server's.
        Ok(Client { kv: KvClient::new(channel).max_decoding_message_size(usize::MAX) })
    }

    /// Puts a value and returns the revision of the put.
    ///
    /// # Errors
    ///
    /// [`Error::Status`]; [`Error::outcome`] says whether the put may have happened.
    ///
    /// # Cancel safety
    ///
    /// A put whose future is dropped may or may not happen.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<i64, Error> {
        let put = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        let response = self.kv.clone().put(put).await.map_err(Error::Status)?.into_inner();
        Ok(revision(response.header))
    }

    /// Reads one key, linearizably: the answer has every write that was acknowledged before the call.
    ///
    /// # Errors
    ///
    /// [`Error::Status`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect but that there is no answer.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, Error> {
        let range = RangeRequest { key: key.into(), ..Default::default() };
        let response = self.kv.clone().range(range).await.map_err(Error::Status)?.into_inner();
        Ok(response.kvs.into_iter().next())
    }
}

/// A header is always there; a server without one would be at no revision.
fn revision(header: Option<ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}
