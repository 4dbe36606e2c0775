//! `Maintenance.Hash` and `HashKV`: whether members hold the same data.
//!
//! Equal on all members with the same history; not equal to etcd's, whose hash is over the bytes of its files.

use std::sync::Arc;

use ketch_mvcc::View;
use ketch_proto::etcdserverpb::{HashKvRequest, HashKvResponse, HashRequest, HashResponse};

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::api::range::beside;
use crate::apply::cluster::{TABLE_ALARMS, TABLE_CLUSTER, TABLE_MEMBERS, TABLE_MEMBERS_REMOVED};
use crate::clock::Stopwatch;
use crate::stint;

/// `Maintenance.Hash`: over keys and tables.
pub async fn hash(api: Arc<Api>, _context: Context, _request: HashRequest) -> Result<HashResponse, ApiError> {
    let view = api.shared.reader.view().resting(stint::rest);
    let header = Some(api.shared.header(view.revision()));
    let watch = Stopwatch::start();
    let hash = beside(&api, move || {
        let mut hash = crc32fast::Hasher::new();
        hash.update(&view.hash(0)?.hash.to_le_bytes());
        tables(&view, &mut hash);
        Ok(hash.finalize())
    });
    let hash = hash.await?;
    api.metrics.hash.observe(watch.elapsed());
    Ok(HashResponse { header, hash })
}

/// `Maintenance.HashKV`: over the keys, up to a revision; at one of the last compaction points, over what there was before.
pub async fn hash_kv(
    api: Arc<Api>,
    _context: Context,
    request: HashKvRequest,
) -> Result<HashKvResponse, ApiError> {
    let view = api.shared.reader.view();
    let header = Some(api.shared.header(view.revision()));
    if request.revision < 0 {
        // Nothing lies below revision 0: the hash of nothing, under the name it was asked for.
        let (compact_revision, hash_revision) = (view.compacted(), request.revision);
        return Ok(HashKvResponse { header, hash: 0, compact_revision, hash_revision });
    }
    let watch = Stopwatch::start();
    let hashes = Arc::clone(&api.shared.hashes);
    // A hash at an older revision reads the changes since.
    let found = beside(&api, move || match hashes.at(request.revision, stint::rest)? {
        Some(of_a_compaction) => Ok(of_a_compaction),
        None => Ok(view.resting(stint::rest).hash(request.revision)?),
    });
    let found = found.await?;
    api.metrics.hash_rev.observe(watch.elapsed());
    Ok(HashKvResponse {
        header,
        hash: folded(found.hash),
        compact_revision: found.compact_revision,
        hash_revision: found.hash_revision,
    })
}

/// The hash as clients and peers are told it.
pub(crate) fn folded(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

fn tables(view: &View, hash: &mut crc32fast::Hasher) {
    for id in [TABLE_MEMBERS, TABLE_MEMBERS_REMOVED, TABLE_CLUSTER, TABLE_ALARMS] {
        hash.update(&[id.0]);
        for (key, value) in view.table(id).iter() {
            for part in [key, value] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
    }
}
