//! Whether a page is compressed: as `Accept-Encoding` asks, and as Go's scrape handler understands it.

use std::io::{self, Write as _};

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Whether the client would rather have gzip than the page as it is.
pub(super) fn prefers_gzip(headers: &HeaderMap) -> bool {
    let (mut plain, mut gzip) = (None, None);
    for value in headers.get_all(ACCEPT_ENCODING) {
        let Ok(text) = value.to_str() else { continue };
        // What comes behind a word that is none is not looked at.
        for (coding, quality) in text.split(',').map_while(weighed) {
            for (of, names) in [(&mut plain, ["identity", "*"]), (&mut gzip, ["gzip", "*"])] {
                if names.contains(&coding) {
                    *of = (*of).max(Some(quality));
                }
            }
        }
    }
    gzip > plain.or(Some(0))
}

/// A coding and its quality in thousandths.
fn weighed(text: &str) -> Option<(&str, u32)> {
    let (coding, weight) = text.split_once(';').map_or((text, None), |(coding, rest)| (coding, Some(rest)));
    let coding = coding.trim();
    if coding.is_empty() || coding.contains(char::is_whitespace) {
        return None;
    }
    Some((coding, weight.map_or(Some(1000), quality)?))
}

fn quality(text: &str) -> Option<u32> {
    let quality: f32 = text.trim().strip_prefix("q=")?.parse().ok()?;
    (0.0..=1.0).contains(&quality).then_some((quality * 1000.0) as u32)
}

/// Compresses a page, quickly rather than well.
pub(super) fn gzip(page: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 4), Compression::fast());
    encoder.write_all(page.as_bytes())?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn gzip_is_preferred_where_it_is_wanted_more() {
        for (value, expected) in [
            ("gzip", true),
            ("gzip;q=0.5", true),
            ("zstd, gzip", true),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", true),
            ("gzip; q=0.001", true),
            ("", false),
            ("gzip;q=0", false),
            ("GZIP", false),
            ("x-gzip", false),
            ("*", false),
            ("gzip, identity", false),
            ("gzip;q=0.1, identity;q=0.9", false),
            ("deflate;level=9, gzip", false),
            ("gzip;q=2", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(prefers_gzip(&headers), expected, "{value}");
        }
        assert!(!prefers_gzip(&HeaderMap::new()));
    }

    #[test]
    fn a_page_comes_out_as_it_went_in() {
        let page = "etcd_server_has_leader 1\n".repeat(1000);
        let packed = gzip(&page).unwrap();
        let mut found = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut found).unwrap();
        assert!(packed.len() < page.len() / 10);
        assert_eq!(found, page);
    }
}
