//! The cluster's nouns: a member and its JSON form (as etcd keeps it), ids, versions.

pub mod id;

use crate::apply::command::RequestId;
use serde::{Deserialize, Serialize};

/// A member of the cluster. The JSON form is etcd's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The member's id.
    pub id: u64,
    /// Where its peers reach it.
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    /// Whether it only learns and does not vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    /// Its name; empty until it has started once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty until it has started once.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

impl Member {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// What is wrong with it, from the JSON parser.
    pub fn from_json(bytes: &[u8]) -> Result<Member, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Numbers, booleans and strings only: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The context of a configuration change: the member it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The member.
    #[serde(flatten)]
    pub member: Member,
    /// Whether a learner becomes a voter by this change.
    #[serde(rename = "isPromote", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_promote: bool,
    /// Who waits for the change to be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// How many learners the cluster may have, as the member that proposed a further one is told by its flags.
    #[serde(rename = "maxLearners", default, skip_serializing_if = "Option::is_none")]
    pub max_learners: Option<usize>,
}

impl Context {
    /// The context of a change about `member`.
    #[must_use]
    pub fn of(member: Member) -> Context {
        Context { member, is_promote: false, request: None, max_learners: None }
    }
}

impl Context {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// What is wrong with it, from the JSON parser.
    pub fn from_json(bytes: &[u8]) -> Result<Context, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_etcds() {
        let member = Member {
            id: 10,
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            is_learner: false,
            name: String::new(),
            client_urls: Vec::new(),
        };
        let context = Context::of(member.clone());
        assert_eq!(context.to_json(), br#"{"id":10,"peerURLs":["http://127.0.0.1:2380"]}"#);
        assert_eq!(Context::from_json(&context.to_json()).unwrap(), context);
        assert_eq!(Member::from_json(&member.to_json()).unwrap(), member);
        assert!(Member::from_json(b"{}").is_err());
    }
}
