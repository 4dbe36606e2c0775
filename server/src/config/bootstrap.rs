//! What a new data directory starts from: the members of `--initial-cluster` and their ids.
//!
//! Read only when the directory is new. On a restart the same flags are passed and ignored, as in etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;

use super::gotext::quote;
use super::url::{self, Url};
use super::{Config, ConfigError};
use crate::cluster::id;

/// The first configuration of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The id of the cluster.
    pub cluster_id: u64,
    /// The id of this member.
    pub member_id: u64,
    /// All members, sorted by id. For now exactly one, this member.
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
    /// Reads `--initial-cluster` and checks it against `--name` and `--initial-advertise-peer-urls`.
    ///
    /// Host names are looked up only when the two lists differ in writing.
    ///
    /// # Errors
    /// In etcd's words; or that several members, or joining a cluster, are not served yet.
    pub fn bootstrap(&self) -> Result<Bootstrap, ConfigError> {
        let first = self.first_configuration()?;
        match first.members.len() {
            1 => Ok(first),
            members => Err(ConfigError::invalid(format!(
                "--initial-cluster names {members} members: ketch supports one member only yet"
            ))),
        }
    }

    /// The same with any number of members: what a restored snapshot begins with.
    ///
    /// # Errors
    /// In etcd's words.
    pub fn first_configuration(&self) -> Result<Bootstrap, ConfigError> {
        let clusters = parse_cluster(&self.initial_cluster)
            .map_err(|why| ConfigError::invalid(format!("error setting up initial cluster: {why}")))?;
        let Some(own) = clusters.get(&self.name) else {
            return Err(ConfigError::invalid(format!(
                "couldn't find local name {} in the initial cluster configuration",
                quote(&self.name)
            )));
        };
        if self.join_existing {
            return Err(ConfigError::invalid(
                "--initial-cluster-state=existing is not supported by ketch yet: \
                 it cannot join a cluster, only start a new one",
            ));
        }
        self.check_advertised(own)?;
        check_duplicates(&clusters)?;
        Ok(self.members_of(clusters))
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
