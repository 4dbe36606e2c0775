//! Connections that asked once and then do nothing.

use std::io;

use ketch_proto::etcdserverpb::RangeRequest;
use ketch_proto::etcdserverpb::kv_client::KvClient;

use super::clients::connect;
use super::meter::mib;
use super::{Figures, Sizes, figure};
use crate::server::Server;
use crate::usage::memory;

/// Connects, reads a key on each connection, and looks at the server's memory.
pub(super) async fn connections(server: &Server, sizes: Sizes) -> io::Result<Figures> {
    let before = memory(server.pid())?.anonymous;
    let channels = connect(&server.url(), sizes.idle).await?;
    for channel in &channels {
        let request = RangeRequest { key: "idle".into(), serializable: true, ..Default::default() };
        KvClient::new(channel.clone()).range(request).await.map_err(io::Error::other)?;
    }
    let after = memory(server.pid())?.anonymous;
    let kib = after.saturating_sub(before) as f64 / 1024.0 / channels.len() as f64;
    Ok(vec![
        figure(format!("{} idle connections: anonymous MiB", channels.len()), mib(after)),
        figure("the same: KiB/connection", kib),
    ])
}
