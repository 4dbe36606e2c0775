//! The error table as a whole: counts, uniqueness and quirks.

use std::collections::{BTreeMap, HashSet};

use ketch_proto::rpc_error::RpcError;
use ketch_proto::tonic::{Code, Status};

#[test]
fn there_are_63_errors_in_the_documented_classes() {
    assert_eq!(RpcError::ALL.len(), 63);
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    for error in RpcError::ALL {
        *classes.entry(format!("{:?}", error.code())).or_default() += 1;
    }
    let expected = [
        ("Cancelled", 2),
        ("DataLoss", 1),
        ("DeadlineExceeded", 1),
        ("FailedPrecondition", 24),
        ("InvalidArgument", 18),
        ("NotFound", 2),
        ("OutOfRange", 3),
        ("PermissionDenied", 1),
        ("ResourceExhausted", 2),
        ("Unauthenticated", 1),
        ("Unavailable", 8),
    ];
    assert_eq!(classes.into_iter().collect::<Vec<_>>(), expected.map(|(name, n)| (name.to_owned(), n)));
}

#[test]
fn texts_are_unique_and_found_again() {
    let mut texts = HashSet::new();
    for error in RpcError::ALL {
        assert!(error.message().starts_with("etcdserver: "), "{error}");
        assert!(texts.insert(error.message()), "{error} twice");
        assert_eq!(RpcError::from_message(error.message()), Some(*error));
    }
    assert_eq!(RpcError::from_message("etcdserver: "), None);
}

#[test]
fn two_errors_travel_as_unknown() {
    let odd: Vec<_> = RpcError::ALL.iter().filter(|error| error.wire_code() != error.code()).collect();
    assert_eq!(odd, [&RpcError::MemberNotEnoughStarted, &RpcError::RequestTooManyRequests]);
    let status = Status::from(RpcError::RequestTooManyRequests);
    assert_eq!((status.code(), status.message()), (Code::Unknown, "etcdserver: too many requests"));
}
