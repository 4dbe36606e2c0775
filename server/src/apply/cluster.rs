//! The cluster as replicated state: members, their attributes, raft's membership and the cluster version, in
//! small tables of the store, written in the same batch as the entry that changes them.

use std::collections::BTreeMap;

use bytes::Bytes;
use ketch_mvcc::{Import, Store, TableId};
use ketch_proto::{membershippb, raftpb};
use ketch_raft::{ConfChange, ConfState, NodeId};
use prost::Message;

use super::downgrade::Downgrade;
use crate::cluster::{Context, Member};
use crate::consensus::conf_change::{conf_state_from_wire, conf_state_to_wire};

/// Members by id (hexadecimal), each as etcd's JSON.
pub const TABLE_MEMBERS: TableId = TableId(1);
/// Ids of members that were removed; never used again.
pub const TABLE_MEMBERS_REMOVED: TableId = TableId(2);
/// Single values: the cluster version, raft's membership, the downgrade job.
pub const TABLE_CLUSTER: TableId = TableId(3);
/// Alarms, by their encoding; the value is empty.
pub const TABLE_ALARMS: TableId = TableId(4);

const CONF_STATE: &[u8] = b"confState";
const CLUSTER_VERSION: &[u8] = b"clusterVersion";

/// The members and what is agreed about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    /// Members by id.
    pub members: BTreeMap<NodeId, Member>,
    /// Raft's membership as of the last applied entry.
    pub conf_state: ConfState,
    /// The cluster version ("3.7.0"), once it is decided.
    pub version: Option<String>,
    /// The downgrade job.
    pub downgrade: Downgrade,
}

impl Cluster {
    /// Reads the cluster's tables.
    ///
    /// # Errors
    /// What does not decode, in words.
    pub fn load(store: &Store) -> Result<Cluster, String> {
        let mut members = BTreeMap::new();
        for (key, value) in store.table(TABLE_MEMBERS).iter() {
            let member = Member::from_json(value).map_err(|error| {
                format!("member {} in the store does not decode: {error}", String::from_utf8_lossy(key))
            })?;
            members.insert(member.id, member);
        }
        let cluster = store.table(TABLE_CLUSTER);
        let conf_state = match cluster.get(CONF_STATE) {
            Some(bytes) => raftpb::ConfState::decode(&bytes[..])
                .map(conf_state_from_wire)
                .map_err(|error| format!("raft's membership in the store does not decode: {error}"))?,
            None => ConfState::default(),
        };
        let version = cluster.get(CLUSTER_VERSION).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok(Cluster { members, conf_state, version, downgrade: Downgrade::load(store)? })
    }

    /// Takes the members of the cluster that a snapshot comes from out of what is being taken in; what else that
    /// cluster agreed on stays.
    pub fn forget_members(import: &mut Import) {
        for table in [TABLE_MEMBERS, TABLE_MEMBERS_REMOVED] {
            let ids: Vec<Bytes> = import.table(table).iter().map(|(id, _)| id.clone()).collect();
            ids.iter().for_each(|id| import.table_delete(table, id));
        }
        import.table_delete(TABLE_CLUSTER, CONF_STATE);
    }

    /// Applies a configuration change: raft's membership and the member it names.
    ///
    /// # Errors
    /// A change that raft's rules refuse or whose context does not decode; it stops the member.
    pub fn change(&mut self, store: &mut Store, change: &ConfChange) -> Result<(), String> {
        use ketch_raft::ConfChangeKind::{AddLearner, AddVoter, Remove, Update};
        self.conf_state = self.conf_state.changed_by(change).map_err(|error| error.to_string())?;
        let encoded = conf_state_to_wire(&self.conf_state).encode_to_vec();
        store.table_put(TABLE_CLUSTER, Bytes::from_static(CONF_STATE), encoded.into());
        for single in &change.changes {
            match single.kind {
                AddVoter | AddLearner | Update => {
                    let context = Context::from_json(&change.context)
                        .map_err(|error| format!("the member that a change adds does not decode: {error}"))?;
                    if context.member.id != single.node {
                        return Err(format!(
                            "a change of member {:x} names member {:x}",
                            single.node, context.member.id
                        ));
                    }
                    self.put(store, context.member);
                }
                Remove => self.remove(store, single.node),
            }
        }
        Ok(())
    }

    /// Sets a member's name and client URLs.
    pub fn set_attributes(&mut self, store: &mut Store, request: &membershippb::ClusterMemberAttrSetRequest) {
        let Some(member) = self.members.get(&request.member_id) else { return };
        let attributes = request.member_attributes.clone().unwrap_or_default();
        let member = Member { name: attributes.name, client_urls: attributes.client_urls, ..member.clone() };
        self.put(store, member);
    }

    /// Sets the cluster version.
    pub fn set_version(&mut self, store: &mut Store, version: &str) {
        let value = Bytes::copy_from_slice(version.as_bytes());
        store.table_put(TABLE_CLUSTER, Bytes::from_static(CLUSTER_VERSION), value);
        self.version = Some(version.to_owned());
    }

    fn put(&mut self, store: &mut Store, member: Member) {
        store.table_put(TABLE_MEMBERS, member_key(member.id), member.to_json().into());
        self.members.insert(member.id, member);
    }

    fn remove(&mut self, store: &mut Store, id: NodeId) {
        if self.members.remove(&id).is_some() {
            store.table_delete(TABLE_MEMBERS, &member_key(id));
        }
        store.table_put(TABLE_MEMBERS_REMOVED, member_key(id), Bytes::from_static(b"removed"));
    }
}

fn member_key(id: NodeId) -> Bytes {
    format!("{id:x}").into()
}
