//! Listener and advertised addresses: which forms are accepted, and how one is written back.
//!
//! The written form matters beyond display: member ids are hashes of peer URLs as written here, so parsing and
//! printing must agree with etcd's to the byte.

use std::fmt;

use super::gotext::quote;

/// How a listener talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Cleartext over TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// Cleartext over a unix socket.
    Unix,
    /// TLS over a unix socket.
    Unixs,
}

impl Scheme {
    /// The scheme's name in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Unixs)
    }

    /// Whether the address is a path in the file system.
    #[must_use]
    pub fn is_unix(self) -> bool {
        matches!(self, Self::Unix | Self::Unixs)
    }
}

/// One URL of a `*-urls` option.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    /// `host:port` without user information; for unix sockets whatever stands before the first slash.
    host: String,
    path: String,
    /// Everything after the colon of the scheme, as written back.
    rest: String,
}

impl Url {
    /// Parses one URL; surrounding white space is ignored.
    ///
    /// # Errors
    /// A message in etcd's words when the text is no URL, has another scheme, lacks the port or has a path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = split_scheme(text)?;
        let parts = split_rest(text, rest, !scheme.is_empty())?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        };
        if !scheme.is_unix() {
            if split_host_port(&parts.host).is_err() {
                return Err(format!("URL address does not have the form \"host:port\": {text}"));
            }
            if !parts.path.is_empty() {
                return Err(format!("URL must not contain a path: {text}"));
            }
        }
        Ok(Self { scheme, host: parts.host, path: parts.path, rest: rest.to_owned() })
    }

    /// How this listener talks.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host without port or brackets; empty when the URL has none.
    #[must_use]
    pub fn host(&self) -> &str {
        split_host_port(&self.host).map_or(self.host.as_str(), |(host, _)| host)
    }

    /// The port as written; empty when the URL has none.
    #[must_use]
    pub fn port(&self) -> &str {
        split_host_port(&self.host).map_or("", |(_, port)| port)
    }

    /// What to bind or dial: `host:port`, or the path of the socket.
    ///
    /// As in etcd a unix URL may carry its relative path in the host's place: `unix://here.sock`.
    #[must_use]
    pub fn address(&self) -> String {
        if self.scheme.is_unix() { format!("{}{}", self.host, self.path) } else { self.host.clone() }
    }

    /// The same URL with another host; the port stays.
    #[must_use]
    pub(crate) fn with_host_port(&self, host: &str, port: &str) -> Self {
        let host = format!("{host}:{port}");
        Self { scheme: self.scheme, rest: format!("//{host}"), host, path: String::new() }
    }

    /// Why nothing can listen on this URL, if so: etcd binds to addresses and `localhost` only.
    pub(crate) fn check_bind(&self) -> Result<(), String> {
        if self.scheme.is_unix() {
            return Ok(());
        }
        let (host, _) = split_host_port(&self.host)?;
        if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok() {
            return Ok(());
        }
        Err(format!("expected IP in URL for binding ({self})"))
    }

    /// Why nobody can dial this URL, if so.
    pub(crate) fn check_host(&self) -> Result<(), String> {
        if self.scheme.is_unix() {
            return Ok(());
        }
        let (host, _) = split_host_port(&self.host)?;
        if host.is_empty() { Err(format!("unexpected empty host ({self})")) } else { Ok(()) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme.as_str(), self.rest)
    }
}

/// Parses a comma list; the result is sorted and free of duplicates, as etcd keeps it.
///
/// # Errors
/// The first URL's error, see [`Url::parse`].
pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
    let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
    urls.sort_by_cached_key(Url::to_string);
    urls.dedup();
    Ok(urls)
}

/// Joins URLs by commas.
#[must_use]
pub fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

struct Parts {
    host: String,
    path: String,
}

fn parse_error(text: &str, why: &str) -> String {
    format!("parse {}: {why}", quote(text))
}

/// Splits off the scheme; an empty one means that there is none.
fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(parse_error(text, "net/url: invalid control character in URL"));
    }
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err(parse_error(text, "missing protocol scheme")),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

/// Takes `//user@host:port/path?query#fragment` apart, as far as a listener cares.
fn split_rest(text: &str, rest: &str, has_scheme: bool) -> Result<Parts, String> {
    let hierarchy = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    if !hierarchy.starts_with('/') {
        if has_scheme {
            // An opaque URL such as `localhost:2379` names no host and no path.
            return Ok(Parts { host: String::new(), path: String::new() });
        }
        let first = hierarchy.split('/').next().unwrap_or_default();
        if first.contains(':') {
            return Err(parse_error(text, "first path segment in URL cannot contain colon"));
        }
    }
    let Some(authority) = hierarchy.strip_prefix("//") else {
        return Ok(Parts { host: String::new(), path: hierarchy.to_owned() });
    };
    let end = authority.find('/').unwrap_or(authority.len());
    let (authority, path) = authority.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_user, host)| host);
    check_authority(text, host)?;
    Ok(Parts { host: host.replace("%25", "%"), path: path.to_owned() })
}

fn check_authority(text: &str, host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let Some(end) = host.rfind(']') else {
            return Err(parse_error(text, "missing ']' in host"));
        };
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |at| &host[at..])
    };
    let digits = port.strip_prefix(':').unwrap_or(if port.is_empty() { "" } else { "x" });
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(parse_error(text, &format!("invalid port {} after host", quote(port))));
    }
    let wrong =
        host.chars().find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'));
    match wrong {
        Some(c) => {
            Err(parse_error(text, &format!("invalid character {} in host name", quote(&c.to_string()))))
        }
        None => Ok(()),
    }
}

/// Splits `host:port` and `[v6]:port`.
fn split_host_port(address: &str) -> Result<(&str, &str), String> {
    let missing = || format!("address {address}: missing port in address");
    if let Some(inner) = address.strip_prefix('[') {
        let (host, rest) =
            inner.split_once(']').ok_or_else(|| format!("address {address}: missing ']' in address"))?;
        return rest.strip_prefix(':').map(|port| (host, port)).ok_or_else(missing);
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(missing)?;
    if host.contains(':') {
        Err(format!("address {address}: too many colons in address"))
    } else {
        Ok((host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_written_forms() {
        for (text, address, written) in [
            ("http://127.0.0.1:2379", "127.0.0.1:2379", "http://127.0.0.1:2379"),
            (" HTTP://localhost:0 ", "localhost:0", "http://localhost:0"),
            ("http://[::1]:2379", "[::1]:2379", "http://[::1]:2379"),
            ("http://[fe80::1%25en0]:80", "[fe80::1%en0]:80", "http://[fe80::1%25en0]:80"),
            ("unix://here.sock", "here.sock", "unix://here.sock"),
            ("unix://localhost:23", "localhost:23", "unix://localhost:23"),
            ("unix:///run/k.sock", "/run/k.sock", "unix:///run/k.sock"),
            ("unix:/run/k.sock", "/run/k.sock", "unix:/run/k.sock"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.address().as_str(), url.to_string().as_str()), (address, written), "{text}");
        }
    }

    #[test]
    fn refusals_in_etcds_words() {
        for (text, why) in [
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("127.0.0.1:2379", "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon"),
            ("http://localhost", "URL address does not have the form \"host:port\": http://localhost"),
            ("http://::1:2379", "URL address does not have the form \"host:port\": http://::1:2379"),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
            ("http://a:b", "parse \"http://a:b\": invalid port \":b\" after host"),
            ("://a:1", "parse \"://a:1\": missing protocol scheme"),
            ("http://[::1:2379", "parse \"http://[::1:2379\": missing ']' in host"),
        ] {
            assert_eq!(Url::parse(text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn lists_are_sorted_sets() {
        let urls = parse_list("http://b:2,http://a:1, http://b:2").unwrap();
        assert_eq!(join(&urls), "http://a:1,http://b:2");
    }
}
