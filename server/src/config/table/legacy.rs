//! Names that old command lines still carry.

use super::{Flag, Group, Kind, Status, row};

const fn ignored(name: &'static str) -> Flag {
    row(Group::Legacy, Status::Ignored, name, Kind::Ignored, "", "")
}

pub(super) const FLAGS: &[Flag] = &[
    ignored("cluster-active-size"),
    ignored("cluster-remove-delay"),
    ignored("cluster-sync-interval"),
    ignored("config"),
    ignored("force"),
    ignored("max-result-buffer"),
    ignored("max-retry-attempts"),
    ignored("peer-heartbeat-interval"),
    ignored("peer-election-timeout"),
    ignored("retry-interval"),
    ignored("snapshot"),
    ignored("v"),
    ignored("vv"),
    ignored("test.coverprofile"),
    ignored("test.outputdir"),
];
