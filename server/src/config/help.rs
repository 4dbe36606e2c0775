//! What `--help`, `--version` and a mistake print.

use std::fmt::Write;

use super::table::{self, Group, Status};
use crate::version;

/// The short usage: under a syntax error, and before the list of flags.
#[must_use]
pub fn usage() -> &'static str {
    "Usage:\n\n  ketch [flags]          start a member\n  ketch --version        print the version\n  \
     ketch --help           print every flag\n\nEvery flag also has a variable: --data-dir is ETCD_DATA_DIR.\n\
     A flag that is not supported yet takes its default value only.\n"
}

const GROUPS: &[(Group, &str)] = &[
    (Group::Member, "Member"),
    (Group::Clustering, "Clustering"),
    (Group::Security, "Security"),
    (Group::Auth, "Auth"),
    (Group::Monitoring, "Monitoring"),
    (Group::Logging, "Logging"),
    (Group::Tracing, "Tracing"),
    (Group::Features, "Features"),
    (Group::Unsafe, "Unsafe"),
    (Group::Process, "Process"),
];

/// The usage and every flag with its default and what ketch does with it.
#[must_use]
pub fn help() -> String {
    let mut out = usage().to_owned();
    for (group, title) in GROUPS {
        // Writing into a String cannot fail.
        let _ = write!(out, "\n{title}:\n");
        for flag in table::all().filter(|flag| flag.group == *group) {
            let mark = match flag.status {
                Status::NotYet => " [not supported yet]".to_owned(),
                Status::NoEffect(why) => format!(" [no effect: {why}]"),
                Status::Differs(why) => format!(" [{why}]"),
                Status::Works | Status::Ignored => String::new(),
            };
            let _ = write!(out, "  --{} '{}'\n    {}{mark}\n", flag.name, flag.default_text(), flag.help);
        }
    }
    out
}

/// The lines of `--version`: the API version first, in etcd's form, then this build.
#[must_use]
pub fn version_text() -> String {
    format!(
        "etcd Version: {}\nGit SHA: {}\nketch Version: {}\nketch OS/Arch: {}/{}\n",
        version::SERVER,
        option_env!("KETCH_GIT_SHA").unwrap_or("not recorded in this build"),
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
