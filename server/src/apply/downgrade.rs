//! The downgrade job: which older version the cluster is to be made ready for, agreed through raft.

use bytes::Bytes;
use ketch_mvcc::Store;
use ketch_proto::membershippb::DowngradeInfoSetRequest;
use serde::{Deserialize, Serialize};

use super::cluster::TABLE_CLUSTER;

const KEY: &[u8] = b"downgrade";

/// The downgrade job. The JSON form is etcd's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    /// The version to go to ("3.6.0"); empty when no job is under way.
    #[serde(rename = "target-version", default)]
    pub target: String,
    /// Whether a job is under way.
    #[serde(default)]
    pub enabled: bool,
}

impl Downgrade {
    /// Reads the job.
    ///
    /// # Errors
    /// What does not decode, in words.
    pub fn load(store: &Store) -> Result<Downgrade, String> {
        match store.table(TABLE_CLUSTER).get(KEY) {
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|error| format!("the downgrade job in the store does not decode: {error}")),
            None => Ok(Downgrade::default()),
        }
    }

    /// Begins or ends a job.
    #[must_use]
    pub fn set(store: &mut Store, request: &DowngradeInfoSetRequest) -> Downgrade {
        let job = if request.enabled {
            Downgrade { target: request.ver.clone(), enabled: true }
        } else {
            Downgrade::default()
        };
        // A text and a boolean: this cannot fail.
        let json = serde_json::to_vec(&job).unwrap_or_default();
        store.table_put(TABLE_CLUSTER, Bytes::from_static(KEY), json.into());
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_job_is_kept_in_the_store_until_it_ends() {
        let disk = ketch_wal::SimDisk::new(1);
        let mut store = Store::open(disk, Path::new("/s"), ketch_mvcc::Options::default()).unwrap();
        assert_eq!(Downgrade::load(&store).unwrap(), Downgrade::default());
        let job =
            Downgrade::set(&mut store, &DowngradeInfoSetRequest { enabled: true, ver: "3.6.0".to_owned() });
        assert_eq!(job, Downgrade { target: "3.6.0".into(), enabled: true });
        assert_eq!(Downgrade::load(&store).unwrap(), job);
        let json = store.table(TABLE_CLUSTER).get(KEY).unwrap();
        assert_eq!(&json[..], br#"{"target-version":"3.6.0","enabled":true}"#);
        let ended = DowngradeInfoSetRequest { enabled: false, ver: "ignored".to_owned() };
        assert_eq!(Downgrade::set(&mut store, &ended), Downgrade::default());
        assert_eq!(Downgrade::load(&store).unwrap(), Downgrade::default());
    }
}
