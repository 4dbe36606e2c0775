//! The head of a request: its fields put together and checked (RFC 9113, section 8).

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{self, Uri};
use http::{Method, Request, Version};

use super::hpack::{Decoder, Field, Malformed, Name};

/// What the fields of one request may come to, as the RFC counts them: tokens of many groups, baggage of tracing.
pub const FIELDS_BYTES_MAX: usize = 1 << 20;

/// The head of one request.
#[derive(Debug)]
pub struct RequestHead {
    /// Its method.
    pub method: Method,
    /// Where to.
    pub uri: Uri,
    /// Its fields, without those that begin with a colon.
    pub headers: HeaderMap,
    /// The length that it says its body has.
    pub content_length: Option<u64>,
    /// What whoever serves the connection has found out about requests like this one.
    pub tag: u8,
}

/// Why there is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The connection's fields cannot be understood any more.
    Undecodable,
    /// The request is none.
    Malformed,
    /// Its fields are larger than is allowed.
    TooLarge,
}

impl From<Malformed> for Problem {
    fn from(Malformed: Malformed) -> Problem {
        Problem::Undecodable
    }
}

impl RequestHead {
    /// The head that `block` holds.
    ///
    /// # Errors
    /// See [`Problem`]; after all but the first the connection goes on.
    pub fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<RequestHead, Problem> {
        let mut gathered = Gathered::default();
        decoder.decode(block, |field| gathered.take(field))?;
        gathered.finish()
    }

    /// The request, with `body`.
    pub fn to_request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

#[derive(Default)]
struct Gathered {
    method: Option<Method>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    headers: HeaderMap,
    size: usize,
    malformed: bool,
}

impl Gathered {
    fn take(&mut self, field: &Field) {
        self.size += field.size();
        if self.malformed || self.size > FIELDS_BYTES_MAX {
            return;
        }
        let place = match &field.name {
            Name::Method => {
                let method = Method::from_bytes(&field.value).ok();
                self.malformed |= method.is_none() || self.method.is_some() || !self.headers.is_empty();
                self.method = method;
                return;
            }
            Name::Scheme => &mut self.scheme,
            Name::Authority => &mut self.authority,
            Name::Path => &mut self.path,
            Name::Field(name) => {
                match HeaderValue::from_maybe_shared(field.value.clone()) {
                    // A map takes only so many fields.
                    Ok(value) if !is_forbidden(name, &value) => {
                        self.malformed |= self.headers.try_append(name.clone(), value).is_err();
                    }
                    _ => self.malformed = true,
                }
                return;
            }
            Name::Bad(_) => {
                self.malformed = true;
                return;
            }
        };
        self.malformed |= place.replace(field.value.clone()).is_some() || !self.headers.is_empty();
    }

    fn finish(self) -> Result<RequestHead, Problem> {
        if self.size > FIELDS_BYTES_MAX {
            return Err(Problem::TooLarge);
        }
        let method = self.method.filter(|_| !self.malformed).ok_or(Problem::Malformed)?;
        let uri = match (method == Method::CONNECT, self.scheme, self.path) {
            (true, None, None) => uri_of(None, self.authority, None),
            (false, Some(scheme), Some(path)) if !path.is_empty() => {
                uri_of(Some(&scheme), self.authority, Some(path))
            }
            _ => None,
        };
        let uri = uri.ok_or(Problem::Malformed)?;
        let mut lengths = self.headers.get_all(CONTENT_LENGTH).iter();
        let content_length = match (lengths.next(), lengths.next()) {
            (None, _) => None,
            (Some(value), None) => Some(number(value).ok_or(Problem::Malformed)?),
            _ => return Err(Problem::Malformed),
        };
        Ok(RequestHead { method, uri, headers: self.headers, content_length, tag: 0 })
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

fn uri_of(scheme: Option<&Bytes>, authority: Option<Bytes>, path: Option<Bytes>) -> Option<Uri> {
    let mut parts = uri::Parts::default();
    if let Some(authority) = authority.filter(|authority| !authority.is_empty()) {
        parts.authority = Some(uri::Authority::from_maybe_shared(authority).ok()?);
        parts.scheme = scheme.map(|scheme| uri::Scheme::try_from(&scheme[..])).transpose().ok()?;
    }
    parts.path_and_query = path.map(uri::PathAndQuery::from_maybe_shared).transpose().ok()?;
    Uri::from_parts(parts).ok()
}

/// What belongs to a connection has no place in a request (section 8.2.2).
fn is_forbidden(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        CONNECTION | TRANSFER_ENCODING | UPGRADE => true,
        TE => value != "trailers",
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            out.push(0);
            for text in [name, value] {
                assert!(text.len() < 127);
                out.push(text.len() as u8);
                out.extend_from_slice(text.as_bytes());
            }
        }
        out
    }

    fn decode(fields: &[(&str, &str)]) -> Result<RequestHead, Problem> {
        RequestHead::decode(&mut Decoder::default(), &block(fields))
    }

    const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":path", "/x?y=1")];

    fn with(more: &[(&str, &str)]) -> Result<RequestHead, Problem> {
        decode(&[&GET, more].concat())
    }

    #[test]
    fn a_head_is_its_fields() {
        let head = with(&[(":authority", "host:1"), ("a", "1"), ("a", "2"), ("te", "trailers")]).unwrap();
        let request = head.to_request(());
        assert_eq!(request.uri(), "http://host:1/x?y=1");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.headers().get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(with(&[]).unwrap().uri, "/x?y=1");
        assert_eq!(with(&[("content-length", "70")]).unwrap().content_length, Some(70));
        let connect = decode(&[(":method", "CONNECT"), (":authority", "host:1")]).unwrap();
        assert_eq!(connect.uri, "host:1");
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        let malformed =
            |result: Result<RequestHead, Problem>| assert_eq!(result.unwrap_err(), Problem::Malformed);
        for left_out in 0..GET.len() {
            let mut fields = GET.to_vec();
            let field = fields.remove(left_out);
            malformed(decode(&fields));
            // Behind an ordinary field it comes too late.
            fields.extend([("a", "1"), field]);
            malformed(decode(&fields));
            malformed(with(&[field]));
        }
        for field in [
            (":status", "200"),
            (":odd", "1"),
            ("Upper", "1"),
            ("sp ace", "1"),
            ("", "1"),
            ("value", "a\nb"),
            ("value", "a\0b"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("content-length", "x"),
            ("content-length", ""),
            ("content-length", "+1"),
            ("content-length", "99999999999999999999"),
            (":authority", "a b"),
        ] {
            malformed(with(&[field]));
        }
        malformed(with(&[("content-length", "1"), ("content-length", "1")]));
        malformed(decode(&[(":method", "GET"), (":scheme", "http"), (":path", "")]));
        malformed(decode(&[(":method", "G T"), (":scheme", "http"), (":path", "/")]));
        malformed(decode(&[(":method", "CONNECT"), (":scheme", "http"), (":authority", "h:1")]));
        malformed(decode(&[]));
    }

    #[test]
    fn fields_without_end_are_too_large_and_the_connection_goes_on() {
        let mut decoder = Decoder::default();
        let mut bomb = block(&GET);
        // One field of 4000 bytes, remembered, and then named a thousand times with a byte each.
        bomb.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
        bomb.extend_from_slice(&[b'v'; 4000]);
        bomb.extend_from_slice(&[0x80 | 62; 1000]);
        assert_eq!(RequestHead::decode(&mut decoder, &bomb).unwrap_err(), Problem::TooLarge);
        let mut next = block(&GET);
        next.push(0x80 | 62);
        assert_eq!(RequestHead::decode(&mut decoder, &next).unwrap().headers["x"].len(), 4000);
        assert_eq!(RequestHead::decode(&mut decoder, &[0x80]).unwrap_err(), Problem::Undecodable);
    }
}
