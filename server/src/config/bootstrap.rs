//! What a new data directory starts from: the members of `--initial-cluster` and their ids.
//!
//! Read only when the directory is new. On a restart the same flags are passed and ignored, as in etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;

use super::gotext::quote;
use super::url::{self, Url};
use super::{Config, ConfigError};
use crate::cluster::{Member, id};

/// The first configuration of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The id of the cluster.
    pub cluster_id: u64,
    /// The id of this member.
    pub member_id: u64,
    /// All members, sorted by id.
    pub members: Vec<InitialMember>,
}

/// One member of the first configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its peer URLs, sorted.
    pub peer_urls: Vec<Url>,
}

impl Config {
    /// Reads `--initial-cluster` of a new cluster and checks it against `--name` and `--initial-advertise-peer-urls`.
    ///
    /// Host names are looked up only when the two lists differ in writing.
    ///
    /// # Errors
    /// In etcd's words.
    pub fn bootstrap(&self) -> Result<Bootstrap, ConfigError> {
        let clusters = self.listed()?;
        self.check_advertised(&clusters[&self.name])?;
        check_duplicates(&clusters)?;
        Ok(self.members_of(clusters))
    }

    /// Reads `--initial-cluster` of a member that joins the cluster `cluster_id`, whose members are `existing`: both lists
    /// must name the same URLs. The ids are those of the cluster.
    ///
    /// # Errors
    /// In etcd's words.
    pub fn joining(&self, cluster_id: u64, existing: &[Member]) -> Result<Bootstrap, ConfigError> {
        let clusters = self.listed()?;
        check_duplicates(&clusters)?;
        let mut listed = self.members_of(clusters).members;
        let invalid = |why: String| {
            let found = describe(cluster_id, existing);
            ConfigError::invalid(format!("error validating peerURLs {found}: {why}"))
        };
        if listed.len() != existing.len() {
            return Err(invalid("member count is unequal".into()));
        }
        for member in existing {
            let mut last = None;
            let urls = parse_all(&member.peer_urls);
            let found = listed.iter_mut().find(|listed| match same_addresses(&urls, &listed.peer_urls) {
                Ok(()) => true,
                Err(why) => {
                    last = Some(why);
                    false
                }
            });
            let Some(found) = found else {
                let why = last.unwrap_or_else(|| "<nil>".into());
                let urls = member.peer_urls.join(" ");
                return Err(invalid(format!(
                    "PeerURLs: no match found for existing member ({:x}, [{urls}]), last resolver error ({why})",
                    member.id
                )));
            };
            found.id = member.id;
        }
        listed.sort_by_key(|member| member.id);
        let member_id = listed.iter().find(|member| member.name == self.name).map_or(0, |member| member.id);
        Ok(Bootstrap { cluster_id, member_id, members: listed })
    }

    /// The peer URLs of the other members that `--initial-cluster` names, in order.
    ///
    /// # Errors
    /// A list that cannot be read, that names a URL twice, or that does not name this member.
    pub fn remote_peer_urls(&self) -> Result<Vec<String>, ConfigError> {
        let clusters = self.listed()?;
        check_duplicates(&clusters)?;
        let others = clusters.into_iter().filter(|(name, _)| *name != self.name);
        let mut urls: Vec<String> = others.flat_map(|(_, urls)| urls).map(|url| url.to_string()).collect();
        urls.sort();
        Ok(urls)
    }

    /// The list as written; this member is in it.
    fn listed(&self) -> Result<BTreeMap<String, Vec<Url>>, ConfigError> {
        let clusters = parse_cluster(&self.initial_cluster)
            .map_err(|why| ConfigError::invalid(format!("error setting up initial cluster: {why}")))?;
        if clusters.contains_key(&self.name) {
            return Ok(clusters);
        }
        Err(ConfigError::invalid(format!(
            "couldn't find local name {} in the initial cluster configuration",
            quote(&self.name)
        )))
    }

    fn members_of(&self, clusters: BTreeMap<String, Vec<Url>>) -> Bootstrap {
        let mut members: Vec<InitialMember> = clusters
            .into_iter()
            .map(|(name, peer_urls)| {
                let written: Vec<String> = peer_urls.iter().map(Url::to_string).collect();
                let id = id::member_id(&written, &self.initial_cluster_token, None);
                InitialMember { id, name, peer_urls }
            })
            .collect();
        members.sort_by_key(|member| member.id);
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        let member_id = members.iter().find(|member| member.name == self.name).map_or(0, |member| member.id);
        Bootstrap { cluster_id: id::cluster_id(&ids), member_id, members }
    }

    /// The URLs this member advertises must be those the list gives it.
    fn check_advertised(&self, listed: &[Url]) -> Result<(), ConfigError> {
        let advertised = &self.initial_advertise_peer_urls;
        let Err(why) = same_addresses(advertised, listed) else { return Ok(()) };
        let written = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<BTreeSet<_>>();
        let (of_list, of_flag) = (written(listed), written(advertised));
        let name = &self.name;
        let missing: Vec<String> = of_list.difference(&of_flag).map(|url| format!("{name}={url}")).collect();
        if !missing.is_empty() {
            return Err(ConfigError::invalid(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({why})",
                missing.join(","),
                url::join(advertised)
            )));
        }
        let missing: Vec<String> = of_flag.difference(&of_list).cloned().collect();
        let own = advertised.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",");
        Err(ConfigError::invalid(format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={own}",
            missing.join(",")
        )))
    }
}

/// `name=url,name=url`: a member with several URLs is named several times.
pub(super) fn parse_cluster(text: &str) -> Result<BTreeMap<String, Vec<Url>>, String> {
    let mut clusters: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (name, url) = item.split_once('=').unwrap_or((item, ""));
        clusters.entry(name.to_owned()).or_default().push(Url::parse(url)?);
    }
    for urls in clusters.values_mut() {
        urls.sort_by_cached_key(Url::to_string);
    }
    Ok(clusters)
}

fn parse_all(urls: &[String]) -> Vec<Url> {
    let mut urls: Vec<Url> = urls.iter().filter_map(|url| Url::parse(url).ok()).collect();
    urls.sort_by_cached_key(Url::to_string);
    urls
}

/// A cluster as etcd writes it into this message.
fn describe(cluster_id: u64, members: &[Member]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|member| {
            format!(
                "&{{ID:{:x} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
                member.id,
                member.peer_urls.join(" "),
                member.is_learner,
                member.name,
                member.client_urls.join(" ")
            )
        })
        .collect();
    format!("{{ClusterID:{cluster_id:x} Members:[{}] RemovedMemberIDs:[]}}", members.join(" "))
}

fn check_duplicates(clusters: &BTreeMap<String, Vec<Url>>) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    if clusters.values().flatten().all(|url| seen.insert(url.to_string())) {
        return Ok(());
    }
    let mut pairs: Vec<String> = clusters
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    pairs.sort();
    Err(ConfigError::invalid(format!("initial cluster {} has duplicate url", pairs.join(","))))
}

/// Whether both lists lead to the same addresses; the message of a failure is etcd's.
fn same_addresses(a: &[Url], b: &[Url]) -> Result<(), String> {
    if a == b {
        return Ok(());
    }
    if a.len() != b.len() {
        let list = |urls: &[Url]| {
            let quoted: Vec<String> = urls.iter().map(|url| quote(&url.to_string())).collect();
            format!("[{}]", quoted.join(" "))
        };
        return Err(format!("len({}) != len({})", list(a), list(b)));
    }
    let resolve = |urls: &[Url]| -> Result<Vec<String>, String> {
        let mut resolved = urls.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        resolved.sort();
        Ok(resolved)
    };
    let (a, b) = (resolve(a)?, resolve(b)?);
    match a.iter().zip(&b).find(|(a, b)| a != b) {
        Some((a, b)) => Err(format!("resolved urls: {} != {}", quote(a), quote(b))),
        None => Ok(()),
    }
}

fn resolve(url: &Url) -> Result<String, String> {
    if url.scheme().is_unix() || url.host().parse::<std::net::IpAddr>().is_ok() {
        return Ok(url.to_string());
    }
    let mut addresses =
        url.address().to_socket_addrs().map_err(|error| error.to_string())?.collect::<Vec<_>>();
    addresses.sort_by_key(std::net::SocketAddr::is_ipv6);
    let first = addresses.first().ok_or_else(|| format!("no address for {}", url.host()))?;
    let host = if first.is_ipv6() { format!("[{}]", first.ip()) } else { first.ip().to_string() };
    Ok(url.with_host_port(&host, url.port()).to_string())
}
