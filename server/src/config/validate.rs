//! Values that contradict each other, and values that are not served yet.

use super::gotext::{duration_text, quote};
use super::settings::{Given, Origin, Settings};
use super::table::{self, Flag, Kind, Status};
use super::url::{self, Url};
use super::{ConfigError, Notice, env, features, log};

/// Longest election timeout in milliseconds.
const ELECTION_MS_MAX: u64 = 50_000;

/// Checks every rule of etcd, in its order, with its words.
///
/// # Errors
/// The first rule that is broken.
pub(crate) fn check(settings: &Settings) -> Result<(), ConfigError> {
    if settings.text("discovery-fallback") == "proxy" {
        return invalid("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"");
    }
    log::read(settings)?;
    urls(settings)?;
    bootstrap_sources(settings)?;
    timing(settings)?;
    if settings.is_given("listen-client-urls") && !settings.is_given("advertise-client-urls") {
        return invalid("--advertise-client-urls is required when --listen-client-urls is set explicitly");
    }
    match settings.text("auto-compaction-mode") {
        "revision" | "periodic" => {}
        "" => return invalid("undefined auto-compaction-mode"),
        other => return invalid(format!("unknown auto-compaction-mode {}", quote(other))),
    }
    let hash_check = settings.nanoseconds("compact-hash-check-time");
    if hash_check <= 0 {
        return invalid(format!(
            "--compact-hash-check-time must be >0 (set to {})",
            duration_text(hash_check)
        ));
    }
    Ok(())
}

fn invalid<T>(message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::invalid(message))
}

fn urls(settings: &Settings) -> Result<(), ConfigError> {
    for name in ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls"] {
        settings.urls(name).iter().try_for_each(Url::check_bind).map_err(ConfigError::invalid)?;
    }
    for (name, form) in [
        ("initial-advertise-peer-urls", "must be \"host:port\""),
        (
            "advertise-client-urls",
            "must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\"",
        ),
    ] {
        let given = settings.urls(name);
        given.iter().try_for_each(Url::check_host).map_err(|why| {
            ConfigError::invalid(format!("--{name} {} {form} ({why})", quote(&url::join(given))))
        })?;
    }
    Ok(())
}

fn bootstrap_sources(settings: &Settings) -> Result<(), ConfigError> {
    let endpoints = settings.strings("discovery-endpoints");
    let by_domain = !settings.text("discovery-srv").is_empty();
    let discovers = by_domain || !settings.text("discovery-srv-name").is_empty() || !endpoints.is_empty();
    let by_list =
        !settings.text("initial-cluster").is_empty() && (settings.is_given("initial-cluster") || !discovers);
    if [by_list, by_domain, !endpoints.is_empty()].into_iter().filter(|set| *set).count() > 1 {
        return invalid(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        );
    }
    if settings.text("discovery-token").is_empty() != endpoints.is_empty() {
        return invalid("both --discovery-token and --discovery-endpoints must be set");
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return invalid("--discovery-endpoints must not contain empty endpoints");
    }
    Ok(())
}

fn timing(settings: &Settings) -> Result<(), ConfigError> {
    let (tick, election) = (settings.unsigned("heartbeat-interval"), settings.unsigned("election-timeout"));
    if tick == 0 {
        return invalid("--heartbeat-interval must be >0 (set to 0ms)");
    }
    if election == 0 {
        return invalid("--election-timeout must be >0 (set to 0ms)");
    }
    if tick.saturating_mul(5) > election {
        return invalid(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{tick}ms]"
        ));
    }
    if election > ELECTION_MS_MAX {
        return invalid(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        ));
    }
    Ok(())
}

/// Options that etcd gives up, and its words whenever one is given; they have no effect here.
const DEPRECATED: [(&str, &str); 2] = [
    ("max-snapshots", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    (
        "v2-deprecation",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
    ),
];

/// Refuses every option that was given a value ketch cannot honour; returns what is worth a warning.
///
/// # Errors
/// Names the first such option in the order of the help text.
pub(crate) fn refuse_not_yet(settings: &Settings) -> Result<Vec<Notice>, ConfigError> {
    let mut notices = Vec::new();
    for flag in table::all() {
        let Some((_, given)) = settings.given().find(|(name, _)| *name == flag.name) else { continue };
        if flag.kind == Kind::Gates {
            notices.extend(features::check(&given.text)?);
            continue;
        }
        if let Some((_, words)) = DEPRECATED.iter().find(|(name, _)| *name == flag.name) {
            let (message, subject) = ((*words).to_owned(), format!("--{}", flag.name));
            notices.push(Notice { warning: true, message, subject });
            continue;
        }
        if given.value == flag.default_value() || given.text == flag.default {
            continue;
        }
        match flag.status {
            Status::NotYet => return invalid(not_yet(flag, given)),
            Status::NoEffect(why) => notices.push(Notice {
                warning: true,
                message: format!("option has no effect: {why}"),
                subject: format!("--{}", flag.name),
            }),
            Status::Works | Status::Differs(_) | Status::Ignored => {}
        }
    }
    for name in ["listen-client-urls", "listen-client-http-urls", "listen-metrics-urls", "listen-peer-urls"] {
        if let Some(url) = settings.urls(name).iter().find(|url| url.scheme().is_tls()) {
            return invalid(format!("--{name} {url}: TLS is not supported by ketch yet, use http or unix"));
        }
    }
    Ok(notices)
}

fn not_yet(flag: &Flag, given: &Given) -> String {
    let source = match given.origin {
        Origin::Argument => format!("--{}", flag.name),
        Origin::Environment => format!("--{} (from {})", flag.name, env::variable(flag.name)),
    };
    // A password must not reach a log.
    let value = if matches!(flag.name, "discovery-password" | "discovery-user" | "auth-token") {
        "the given value".to_owned()
    } else {
        quote(&given.text)
    };
    format!("{source} is not supported by ketch yet: it was set to {value}, remove it to start")
}
