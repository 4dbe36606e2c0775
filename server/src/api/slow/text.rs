//! Requests as etcd writes them into its log: protobuf's text form in one line, with the sizes of values in place of the values.

use std::fmt::Write as _;

use ketch_proto::{etcdserverpb as pb, membershippb};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;

/// Fields of one message, with what stands between them and behind the last one.
#[derive(Default)]
struct Fields {
    out: String,
}

impl Fields {
    fn raw(&mut self, name: &str, value: &str) {
        // Writing into a String cannot fail.
        let _ = write!(self.out, "{}{name}:{value}", if self.out.is_empty() { "" } else { " " });
    }

    fn number(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.raw(name, &value.to_string());
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.raw(name, "true");
        }
    }

    fn bytes(&mut self, name: &str, value: &[u8], quote: fn(&[u8]) -> String) {
        if !value.is_empty() {
            self.raw(name, &quote(value));
        }
    }

    /// By its name, or its number if it has none; the first of a kind is left out.
    fn word(&mut self, name: &str, number: i32, word: Option<&str>) {
        if number != 0 {
            self.raw(name, word.unwrap_or(&number.to_string()));
        }
    }

    /// Go's older form ends each field with a blank.
    fn older(self) -> String {
        if self.out.is_empty() { self.out } else { self.out + " " }
    }
}

/// What is replicated.
pub(super) fn command(command: &pb::InternalRaftRequest) -> String {
    let mut fields = Fields::default();
    if let Some(header) = &command.header {
        fields.raw("ID", &header.id.to_string());
        fields.bytes("username", header.username.as_bytes(), quoted);
        if header.auth_revision != 0 {
            fields.raw("auth_revision", &header.auth_revision.to_string());
        }
    }
    let header = fields.out;
    if let Some(request) = &command.put {
        return format!("header:<{header}> put:<{}>", put(request));
    }
    if let Some(request) = &command.txn {
        return format!("header:<{header}> txn:<{}>", txn(request));
    }
    let (name, message) = if let Some(request) = &command.delete_range {
        ("delete_range", delete(request))
    } else if let Some(request) = &command.compaction {
        ("compaction", compaction(request))
    } else if let Some(request) = &command.alarm {
        ("alarm", alarm(request))
    } else if let Some(request) = &command.cluster_member_attr_set {
        ("cluster_member_attr_set", attributes(request))
    } else if let Some(request) = &command.cluster_version_set {
        ("cluster_version_set", version(request))
    } else if let Some(request) = &command.downgrade_info_set {
        ("downgrade_info_set", downgrade(request))
    } else {
        return format!("header:{{{header}}}");
    };
    format!("header:{{{header}}} {name}:{{{message}}}")
}

fn compaction(request: &pb::CompactionRequest) -> String {
    let mut fields = Fields::default();
    fields.number("revision", request.revision);
    fields.flag("physical", request.physical);
    fields.out
}

fn alarm(request: &pb::AlarmRequest) -> String {
    let mut fields = Fields::default();
    let action = pb::alarm_request::AlarmAction::try_from(request.action).ok();
    fields.word("action", request.action, action.map(|action| action.as_str_name()));
    if request.member_id != 0 {
        fields.raw("memberID", &request.member_id.to_string());
    }
    let kind = pb::AlarmType::try_from(request.alarm).ok();
    fields.word("alarm", request.alarm, kind.map(|kind| kind.as_str_name()));
    fields.out
}

fn attributes(request: &membershippb::ClusterMemberAttrSetRequest) -> String {
    let mut fields = Fields::default();
    if request.member_id != 0 {
        fields.raw("member_ID", &request.member_id.to_string());
    }
    if let Some(attributes) = &request.member_attributes {
        let mut inner = Fields::default();
        inner.bytes("name", attributes.name.as_bytes(), quoted);
        for url in &attributes.client_urls {
            inner.raw("client_urls", &quoted(url.as_bytes()));
        }
        fields.raw("member_attributes", &format!("{{{}}}", inner.out));
    }
    fields.out
}

fn version(request: &membershippb::ClusterVersionSetRequest) -> String {
    let mut fields = Fields::default();
    fields.bytes("ver", request.ver.as_bytes(), quoted);
    fields.out
}

fn downgrade(request: &membershippb::DowngradeInfoSetRequest) -> String {
    let mut fields = Fields::default();
    fields.flag("enabled", request.enabled);
    fields.bytes("ver", request.ver.as_bytes(), quoted);
    fields.out
}

/// A `RangeRequest`.
pub(super) fn range(request: &pb::RangeRequest) -> String {
    let mut fields = Fields::default();
    fields.bytes("key", &request.key, quoted);
    fields.bytes("range_end", &request.range_end, quoted);
    fields.number("limit", request.limit);
    fields.number("revision", request.revision);
    let order = SortOrder::try_from(request.sort_order).ok();
    fields.word("sort_order", request.sort_order, order.map(|order| order.as_str_name()));
    let target = SortTarget::try_from(request.sort_target).ok();
    fields.word("sort_target", request.sort_target, target.map(|target| target.as_str_name()));
    fields.flag("serializable", request.serializable);
    fields.flag("keys_only", request.keys_only);
    fields.flag("count_only", request.count_only);
    fields.number("min_mod_revision", request.min_mod_revision);
    fields.number("max_mod_revision", request.max_mod_revision);
    fields.number("min_create_revision", request.min_create_revision);
    fields.number("max_create_revision", request.max_create_revision);
    fields.out
}

/// A `DeleteRangeRequest`.
pub(super) fn delete(request: &pb::DeleteRangeRequest) -> String {
    let mut fields = Fields::default();
    fields.bytes("key", &request.key, quoted);
    fields.bytes("range_end", &request.range_end, quoted);
    fields.flag("prev_kv", request.prev_kv);
    fields.out
}

/// A `PutRequest`.
pub(super) fn put(request: &pb::PutRequest) -> String {
    let mut fields = Fields::default();
    fields.bytes("key", &request.key, quoted_bytes);
    fields.number("value_size", request.value.len() as i64);
    fields.number("lease", request.lease);
    fields.flag("prev_kv", request.prev_kv);
    fields.flag("ignore_value", request.ignore_value);
    fields.flag("ignore_lease", request.ignore_lease);
    fields.older()
}

/// A `TxnRequest`.
pub(super) fn txn(request: &pb::TxnRequest) -> String {
    let all = |ops: &[pb::RequestOp]| ops.iter().map(op).collect::<Vec<_>>().join(" ");
    let compares = request.compare.iter().map(compare).collect::<Vec<_>>().join(" ");
    format!("compare:<{compares}> success:<{}> failure:<{}>", all(&request.success), all(&request.failure))
}

fn op(op: &pb::RequestOp) -> String {
    match &op.request {
        Some(Request::RequestPut(request)) => format!("request_put:<{}>", put(request)),
        Some(Request::RequestTxn(request)) => format!("request_txn:<{}>", txn(request)),
        Some(Request::RequestRange(request)) => format!("request_range:{{{}}}", range(request)),
        Some(Request::RequestDeleteRange(request)) => format!("request_delete_range:{{{}}}", delete(request)),
        None => String::new(),
    }
}

fn compare(compare: &pb::Compare) -> String {
    let quote = if let Some(TargetUnion::Value(_)) = &compare.target_union { quoted_bytes } else { quoted };
    let mut fields = Fields::default();
    let result = CompareResult::try_from(compare.result).ok();
    fields.word("result", compare.result, result.map(|result| result.as_str_name()));
    let target = CompareTarget::try_from(compare.target).ok();
    fields.word("target", compare.target, target.map(|target| target.as_str_name()));
    fields.bytes("key", &compare.key, quote);
    let mut number = |name, number: &i64| fields.raw(name, &number.to_string());
    match &compare.target_union {
        Some(TargetUnion::Version(version)) => number("version", version),
        Some(TargetUnion::CreateRevision(revision)) => number("create_revision", revision),
        Some(TargetUnion::ModRevision(revision)) => number("mod_revision", revision),
        Some(TargetUnion::Lease(lease)) => number("lease", lease),
        Some(TargetUnion::Value(value)) => fields.number("value_size", value.len() as i64),
        None => {}
    }
    fields.bytes("range_end", &compare.range_end, quote);
    if let Some(TargetUnion::Value(_)) = &compare.target_union { fields.older() } else { fields.out }
}

/// Bytes in quotes; what is UTF-8 stays as it is.
fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match short(c) {
                Some(short) => out.push_str(short),
                None if c < ' ' || c == '\u{7f}' => _ = write!(out, "\\x{:02x}", u32::from(c)),
                None if ('\u{80}'..='\u{9f}').contains(&c) => _ = write!(out, "\\u{:04x}", u32::from(c)),
                None => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| _ = write!(out, "\\x{byte:02x}"));
    }
    out + "\""
}

/// The same in Go's older form: all but printable ASCII in octal.
fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::from('"');
    for &byte in bytes {
        match short(char::from(byte)) {
            Some(short) => out.push_str(short),
            None if (0x20..0x7f).contains(&byte) => out.push(char::from(byte)),
            None => _ = write!(out, "\\{byte:03o}"),
        }
    }
    out + "\""
}

fn short(c: char) -> Option<&'static str> {
    Some(match c {
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '"' => "\\\"",
        '\\' => "\\\\",
        _ => return None,
    })
}
