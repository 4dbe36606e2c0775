//! The cluster as replicated state: members, their attributes, raft's membership and the cluster version, in
//! small tables of the store, written in the same batch as the entry that changes them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ketch_mvcc::{Import, Store, TableId};
use ketch_proto::{membershippb, raftpb};
use ketch_raft::ConfChangeKind::{AddLearner, AddVoter, Remove, Update};
use ketch_raft::{ConfChange, ConfChangeSingle, ConfState, NodeId};
use prost::Message;

use super::answer::ApplyError;
use super::command::RequestId;
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
    /// Ids of members that were removed; never used again.
    pub removed: BTreeSet<NodeId>,
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
        let removed = store.table(TABLE_MEMBERS_REMOVED).iter().map(|(key, _)| {
            let text = String::from_utf8_lossy(key);
            NodeId::from_str_radix(&text, 16)
                .map_err(|_| format!("a removed member is called {text:?} in the store"))
        });
        let removed = removed.collect::<Result<_, _>>()?;
        let cluster = store.table(TABLE_CLUSTER);
        let conf_state = match cluster.get(CONF_STATE) {
            Some(bytes) => raftpb::ConfState::decode(&bytes[..])
                .map(conf_state_from_wire)
                .map_err(|error| format!("raft's membership in the store does not decode: {error}"))?,
            None => ConfState::default(),
        };
        let version = cluster.get(CLUSTER_VERSION).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok(Cluster { members, removed, conf_state, version, downgrade: Downgrade::load(store)? })
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

    /// The members that vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| !member.is_learner)
    }

    /// Applies a configuration change: raft's membership and the member it names. Says who waits for it and what to
    /// tell them; a refused change leaves everything as it was.
    ///
    /// # Errors
    /// A change that raft's rules refuse or whose context does not decode; it stops the member.
    pub fn change(
        &mut self,
        store: &mut Store,
        change: &ConfChange,
    ) -> Result<(Option<RequestId>, Result<(), ApplyError>), String> {
        let context = context_of(change)?;
        let request = context.as_ref().and_then(|context| context.request);
        for single in &change.changes {
            if let Err(refusal) = self.check(single, context.as_ref()) {
                return Ok((request, Err(refusal)));
            }
        }
        self.conf_state = self.conf_state.changed_by(change).map_err(|error| error.to_string())?;
        let encoded = conf_state_to_wire(&self.conf_state).encode_to_vec();
        store.table_put(TABLE_CLUSTER, Bytes::from_static(CONF_STATE), encoded.into());
        for single in &change.changes {
            self.take_effect(store, single, context.as_ref());
        }
        Ok((request, Ok(())))
    }

    /// etcd's rules, asked of the replicated members alone.
    fn check(&self, single: &ConfChangeSingle, context: Option<&Context>) -> Result<(), ApplyError> {
        let found = self.members.get(&single.node);
        if self.removed.contains(&single.node) {
            return Err(ApplyError::MemberNotFound);
        }
        let urls_are_free = || {
            let mut others = self.members.values().filter(|member| member.id != single.node);
            let wanted = context.map_or(&[][..], |context| &context.member.peer_urls);
            match others.any(|other| other.peer_urls.iter().any(|url| wanted.contains(url))) {
                true => Err(ApplyError::PeerUrlExists),
                false => Ok(()),
            }
        };
        match single.kind {
            AddVoter if context.is_some_and(|context| context.is_promote) => match found {
                None => Err(ApplyError::MemberNotFound),
                Some(member) if !member.is_learner => Err(ApplyError::MemberNotLearner),
                Some(_) => Ok(()),
            },
            AddVoter | AddLearner if found.is_some() => Err(ApplyError::MemberExists),
            AddVoter => urls_are_free(),
            AddLearner => {
                urls_are_free()?;
                let learners = self.members.values().filter(|member| member.is_learner).count();
                let limit = context.and_then(|context| context.max_learners);
                if limit.is_some_and(|limit| learners >= limit) {
                    return Err(ApplyError::TooManyLearners);
                }
                Ok(())
            }
            Remove if found.is_none() => Err(ApplyError::MemberNotFound),
            Remove => Ok(()),
            Update if found.is_none() => Err(ApplyError::MemberNotFound),
            Update => urls_are_free(),
        }
    }

    fn take_effect(&mut self, store: &mut Store, single: &ConfChangeSingle, context: Option<&Context>) {
        let found = self.members.get(&single.node).cloned();
        match (single.kind, found, context) {
            (Remove, _, _) => self.remove(store, single.node),
            (AddVoter, Some(member), _) => self.put(store, Member { is_learner: false, ..member }),
            (Update, Some(member), Some(context)) => {
                self.put(store, Member { peer_urls: context.member.peer_urls.clone(), ..member });
            }
            (kind, _, Some(context)) => {
                let member = Member { id: single.node, ..context.member.clone() };
                self.put(store, Member { is_learner: kind == AddLearner, ..member });
            }
            // A change without a context adds a member of whom nothing is known; `context_of` refuses it.
            (_, _, None) => {}
        }
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
        self.removed.insert(id);
    }
}

/// The context of a change. One that adds or changes a member must name it.
fn context_of(change: &ConfChange) -> Result<Option<Context>, String> {
    if change.context.is_empty() && change.changes.iter().all(|single| single.kind == Remove) {
        return Ok(None);
    }
    let context = Context::from_json(&change.context)
        .map_err(|error| format!("the member that a change is about does not decode: {error}"))?;
    match change.changes.iter().find(|single| single.node != context.member.id) {
        Some(single) => {
            Err(format!("a change of member {:x} names member {:x}", single.node, context.member.id))
        }
        None => Ok(Some(context)),
    }
}

fn member_key(id: NodeId) -> Bytes {
    format!("{id:x}").into()
}
