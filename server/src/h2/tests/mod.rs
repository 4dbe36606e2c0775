//! The rules of RFC 9113, one connection's state driven frame by frame: what is refused and how, and that nothing a client sends makes
//! it hold more than it may.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::frame::{HEAD_BYTES, Head, flag, kind, setting};
use super::hpack::Decoder;
use super::state::{CONNECTION_WINDOW, STREAM_WINDOW, UNSENT_MAX, WASTED_MAX};
use super::*;
use client::*;

mod client;
mod limits;

#[test]
fn settings_come_first_and_are_acknowledged() {
    let mut client = Client::silent();
    let first = client.frames();
    assert_eq!(first[0].0.kind, kind::SETTINGS);
    assert!(first[0].1.chunks(6).any(|one| one == [0, 3, 0, 0, 0, 100]), "so many streams");
    assert_eq!(
        first[1],
        (Head { len: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream: 0 }, {
            (CONNECTION_WINDOW - 65_535).to_be_bytes().to_vec()
        })
    );
    client.send(&settings(&[(setting::ENABLE_PUSH, 0), (99, 7)]));
    assert_eq!(
        client.frames(),
        [(Head { len: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }, vec![])]
    );
    client.send(&bytes(kind::SETTINGS, flag::ACK, 0, &[]));
    client.send(&bytes(kind::PING, 0, 0, b"12345678"));
    let answer = client.frames();
    assert_eq!((answer[0].0.flags, &answer[0].1[..]), (flag::ACK, &b"12345678"[..]));
    client.send(&bytes(kind::PING, flag::ACK, 0, b"12345678"));
    assert_eq!((client.frames().len(), client.result), (0, Ok(())));
}

#[test]
fn what_breaks_the_rules_of_a_connection_ends_it() {
    let open = headers(1, 0, POST);
    let half = bytes(kind::HEADERS, 0, 3, &POST[..3]);
    let cases: Vec<(&str, Vec<u8>, Reason)> = vec![
        (
            "a frame that is too large",
            Head { len: 16_385, kind: 0, flags: 0, stream: 1 }.to_bytes(),
            Reason::FrameSize,
        ),
        ("DATA without a stream", data(0, 0, b""), Reason::Protocol),
        ("DATA on an idle stream", data(3, 0, b""), Reason::Protocol),
        ("DATA on a server's stream", data(2, 0, b""), Reason::Protocol),
        ("more padding than data", bytes(kind::DATA, flag::PADDED, 1, b"\x02a"), Reason::Protocol),
        ("padding without its length", bytes(kind::DATA, flag::PADDED, 1, b""), Reason::Protocol),
        ("HEADERS without a stream", headers(0, 0, POST), Reason::Protocol),
        ("HEADERS on a server's stream", headers(2, 0, POST), Reason::Protocol),
        ("more padding than fields", bytes(kind::HEADERS, flag::PADDED | 4, 3, b"\x09abc"), Reason::Protocol),
        ("a cut priority", bytes(kind::HEADERS, flag::PRIORITY | 4, 3, b"abc"), Reason::FrameSize),
        ("fields that are none", headers(3, 0, b"\x80"), Reason::Compression),
        ("fields that end early", headers(3, 0, b"\x00\x05ab"), Reason::Compression),
        (
            "a header block with something in it",
            [half.clone(), bytes(kind::PING, 0, 0, &[0; 8])].concat(),
            Reason::Protocol,
        ),
        (
            "a header block with another one in it",
            [half.clone(), headers(5, 0, POST)].concat(),
            Reason::Protocol,
        ),
        (
            "a header block that goes on elsewhere",
            [half, bytes(kind::CONTINUATION, 4, 5, b"")].concat(),
            Reason::Protocol,
        ),
        ("nothing to continue", bytes(kind::CONTINUATION, 4, 1, b""), Reason::Protocol),
        ("a priority of four bytes", bytes(kind::PRIORITY, 0, 1, &[0; 4]), Reason::FrameSize),
        ("a priority of nothing", bytes(kind::PRIORITY, 0, 0, &[0; 5]), Reason::Protocol),
        ("a reset of three bytes", bytes(kind::RST_STREAM, 0, 1, &[0; 3]), Reason::FrameSize),
        ("a reset of nothing", reset(0), Reason::Protocol),
        ("a reset of an idle stream", reset(3), Reason::Protocol),
        ("settings of a stream", bytes(kind::SETTINGS, 0, 1, &[]), Reason::Protocol),
        ("a setting of five bytes", bytes(kind::SETTINGS, 0, 0, &[0; 5]), Reason::FrameSize),
        ("an acknowledgement with settings", bytes(kind::SETTINGS, flag::ACK, 0, &[0; 6]), Reason::FrameSize),
        ("pushing twice", settings(&[(setting::ENABLE_PUSH, 2)]), Reason::Protocol),
        ("a window of 2^31", settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]), Reason::FlowControl),
        ("frames that are too small", settings(&[(setting::MAX_FRAME_SIZE, 16_383)]), Reason::Protocol),
        ("frames that are too large", settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)]), Reason::Protocol),
        ("a promise", bytes(kind::PUSH_PROMISE, 4, 1, &[0; 8]), Reason::Protocol),
        ("a ping of seven bytes", bytes(kind::PING, 0, 0, &[0; 7]), Reason::FrameSize),
        ("a ping on a stream", bytes(kind::PING, 0, 1, &[0; 8]), Reason::Protocol),
        ("GOAWAY on a stream", bytes(kind::GOAWAY, 0, 1, &[0; 8]), Reason::Protocol),
        ("a window update of three bytes", bytes(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), Reason::FrameSize),
        ("a window that opens by nothing", window(0, 0), Reason::Protocol),
        ("a window of an idle stream", window(3, 1), Reason::Protocol),
        ("a window above 2^31", window(0, 0x7fff_ffff), Reason::FlowControl),
        (
            "a stream's window above 2^31 by settings",
            [window(1, 0x7fff_0000), settings(&[(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff)])].concat(),
            Reason::FlowControl,
        ),
        (
            "a stream that has ended",
            [headers(3, flag::END_STREAM, POST), reset(3), headers(3, 0, POST)].concat(),
            Reason::StreamClosed,
        ),
    ];
    for (what, wrong, reason) in cases {
        let mut client = Client::new();
        client.send(&open).send(&wrong);
        assert_eq!(client.result.err().map(|fatal| fatal.reason), Some(reason), "{what}");
        assert_eq!(client.goaway(), Some(reason as u32), "{what}");
        assert!(client.state.is_over() && !client.state.is_open(1), "{what}");
    }
    for first in [headers(1, 0, POST), bytes(kind::SETTINGS, flag::ACK, 0, &[]), bytes(99, 0, 0, &[])] {
        assert_eq!(Client::silent().send(&first).goaway(), Some(Reason::Protocol as u32), "no settings");
    }
}

#[test]
fn what_breaks_the_rules_of_a_stream_ends_only_that() {
    let with_length = |length: &str| [POST, b"\x0f\x0d\x01", length.as_bytes()].concat();
    let cases: Vec<(&str, Vec<u8>, Reason)> = vec![
        ("no path", headers(1, 0, b"\x83\x86"), Reason::Protocol),
        ("a name in upper case", headers(1, 0, &[POST, b"\x00\x01A\x01b"].concat()), Reason::Protocol),
        ("data behind the end", [headers(1, 1, POST), data(1, 0, b"x")].concat(), Reason::StreamClosed),
        ("fields behind the end", [headers(1, 1, POST), headers(1, 1, POST)].concat(), Reason::StreamClosed),
        (
            "trailers that are not the end",
            [headers(1, 0, POST), headers(1, 0, POST)].concat(),
            Reason::Protocol,
        ),
        ("a window that opens by nothing", [headers(1, 0, POST), window(1, 0)].concat(), Reason::Protocol),
        ("a window above 2^31", [headers(1, 0, POST), window(1, 0x7fff_ffff)].concat(), Reason::FlowControl),
        (
            "more than was said",
            [headers(1, 0, &with_length("2")), data(1, 0, b"abc")].concat(),
            Reason::Protocol,
        ),
        (
            "less than was said",
            [headers(1, 0, &with_length("4")), data(1, 1, b"abc")].concat(),
            Reason::Protocol,
        ),
        (
            "less, before trailers",
            [headers(1, 0, &with_length("4")), headers(1, 1, POST)].concat(),
            Reason::Protocol,
        ),
        ("nothing of what was said", headers(1, 1, &with_length("4")), Reason::Protocol),
    ];
    for (what, wrong, reason) in cases {
        let mut client = Client::new();
        assert_eq!(client.send(&wrong).reset_of(1), Some(reason as u32), "{what}");
        assert!(!client.state.is_open(1));
        // And the connection goes on, what was under way on the stream is ignored or refused.
        client.send(&[headers(3, 1, POST), window(1, 5), reset(1)].concat());
        assert_eq!((client.result, client.state.is_open(3)), (Ok(()), true), "{what}");
    }
    // What is not known, and what means nothing here, is ignored.
    let mut client = Client::new();
    client.send(&headers(1, 0, POST));
    for ignored in [
        bytes(99, 0xff, 1, b"whatever"),
        bytes(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 9]),
        bytes(kind::PRIORITY, 0, 77, &[0; 5]),
        bytes(kind::GOAWAY, 0, 0, &[0; 8]),
        settings(&[(1234, 5)]),
    ] {
        client.send(&ignored);
    }
    assert_eq!((client.result, client.state.is_open(1)), (Ok(()), true));
}

#[test]
fn bytes_mean_the_same_however_they_are_cut() {
    let padded = [&[3][..], POST, &[0; 3]].concat();
    let with_priority = [&[0, 0, 0, 0, 9][..], POST].concat();
    let all = [
        settings(&[]),
        bytes(kind::HEADERS, flag::PADDED | 4, 1, &padded),
        bytes(kind::HEADERS, flag::PRIORITY | 4, 3, &with_priority),
        bytes(kind::HEADERS, flag::END_STREAM, 5, &POST[..1]),
        bytes(kind::CONTINUATION, 0, 5, b""),
        bytes(kind::CONTINUATION, 4, 5, &POST[1..]),
        bytes(kind::DATA, flag::PADDED, 1, b"\x02abc\0\0"),
        data(3, 1, b""),
        headers(7, 0, POST_CALL),
        data(7, 0, b"de"),
        data(7, 1, b"f"),
    ]
    .concat();
    for cut in 1..=all.len() {
        let mut client = Client::silent();
        for piece in all.chunks(cut) {
            client.send(piece);
        }
        assert_eq!(client.result, Ok(()));
        let told: Vec<_> = client
            .events
            .iter()
            .map(|event| match event {
                Event::Request { stream, head } => format!("{stream} {}", head.uri),
                Event::Call { stream, body, .. } => format!("{stream} {}", String::from_utf8_lossy(body)),
                Event::Reset { stream } => format!("{stream} reset"),
            })
            .collect();
        assert_eq!(told, ["1 /", "3 /", "5 /", "7 def"], "pieces of {cut}");
    }
}

#[test]
fn a_head_said_again_is_not_decoded_again_unless_it_means_something_else() {
    let mut client = Client::new();
    // Remembered: the second time it is a field of one byte.
    let first = [POST, b"\x40\x01x\x01y"].concat();
    let again = [POST, b"\xbe"].concat();
    for (stream, block) in [(1, &first), (3, &again), (5, &again)] {
        client.send(&headers(stream, 1, block));
    }
    // Now the same byte names something else.
    client.send(&headers(7, 1, b"\x83\x86\x84\x40\x01x\x01z")).send(&headers(9, 1, &again));
    let heads: Vec<Arc<RequestHead>> = client
        .events
        .drain(..)
        .map(|event| match event {
            Event::Request { head, .. } => head,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(Arc::ptr_eq(&heads[1], &heads[2]));
    assert_eq!(heads.iter().map(|head| &head.headers["x"]).collect::<Vec<_>>(), ["y", "y", "y", "z", "z"]);
}

#[test]
fn large_calls_are_requests() {
    let mut client = Client::new();
    client.send(&headers(1, 0, POST_CALL));
    for _ in 0..5 {
        client.send(&data(1, 0, &[0; 16_000]));
    }
    assert!(matches!(client.events[..], [Event::Request { stream: 1, .. }]), "its body is still coming");
    // And one that was handed over whole can be made one.
    client.events.clear();
    client.send(&headers(3, 0, POST_CALL)).send(&data(3, 1, b"abc"));
    let Some(Event::Call { stream: 3, body, .. }) = client.events.pop() else { panic!("no call") };
    assert!(client.state.put_back(3, &body));
    // One that was taken back meanwhile cannot.
    client.send(&headers(5, 0, POST_CALL)).send(&data(5, 1, b"abc")).send(&reset(5));
    assert!(matches!(client.events[..], [Event::Call { .. }, Event::Reset { stream: 5 }]));
    assert!(!client.state.put_back(5, &body));
}

#[test]
fn nobody_sends_more_than_windows_allow() {
    let mut client = Client::new();
    client.send(&headers(1, 0, POST));
    let mut sent = 0;
    while client.result.is_ok() && client.state.is_open(1) {
        client.send(&data(1, 0, &[0; 16_000]));
        sent += 16_000;
        assert!(sent < STREAM_WINDOW as usize + 16_001);
    }
    assert_eq!(client.reset_of(1), Some(Reason::FlowControl as u32));
    // Streams that stay below theirs, and go above the connection's.
    let mut client = Client::new();
    for stream in (1..11).step_by(2) {
        client.send(&headers(stream, 0, POST));
        for _ in 0..60 {
            client.send(&data(stream, 0, &[0; 16_000]));
        }
    }
    assert_eq!(client.goaway(), Some(Reason::FlowControl as u32));
    // Bodies that were taken, padding, and what nobody wants opens them again.
    let mut client = Client::new();
    let mut opened = 0;
    for number in 0..1000 {
        let stream = number * 2 + 1;
        client.send(&headers(stream, 0, POST_CALL)).send(&data(stream, 1, &[0; 16_000]));
        let padded = [&[200][..], &[0; 200]].concat();
        client.send(&headers(stream, 0, POST)).send(&bytes(kind::DATA, flag::PADDED, stream, &padded));
        for event in client.events.drain(..).collect::<Vec<_>>() {
            if let Event::Call { body, .. } = event {
                client.state.consumed(body.len());
            }
        }
        client.state.cancel(stream, Reason::Cancel);
        for (head, payload) in client.frames() {
            if (head.kind, head.stream) == (kind::WINDOW_UPDATE, 0) {
                opened += u32::from_be_bytes(payload.try_into().unwrap()) as usize;
            }
        }
        assert_eq!(client.result, Ok(()));
    }
    assert!(opened > 13_000_000 && opened <= 1000 * 16_201, "{opened}");
}

#[test]
fn nothing_is_sent_without_room_and_all_of_it_in_the_end() {
    let mut client = Client::new();
    client
        .send(&settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]))
        .send(&headers(1, 1, POST))
        .send(&headers(3, 1, POST));
    client.answer(1, false);
    client.answer(3, false);
    assert_eq!(client.send_some(1, 100), 10);
    assert_eq!(client.send_some(1, 100), 0);
    client.send(&window(1, 5));
    assert_eq!(client.send_some(1, 100), 5);
    // The windows shrink below zero, and have to come back from there.
    client.send(&settings(&[(setting::INITIAL_WINDOW_SIZE, 4)])).send(&window(1, 6));
    assert_eq!(client.send_some(1, 100), 0);
    client.send(&window(1, 1));
    assert_eq!((client.send_some(1, 100), client.send_some(3, 100)), (1, 4));
    // Frames are no larger than the client takes, and the connection's window is for all together.
    client.send(&window(1, 1 << 20)).send(&settings(&[(setting::MAX_FRAME_SIZE, 20_000)]));
    client.frames();
    assert_eq!(client.send_some(1, 1 << 20), 65_535 - 20);
    let sizes: Vec<_> = client.frames().iter().map(|(head, _)| head.len).collect();
    assert_eq!(sizes, [20_000, 20_000, 20_000, 65_535 - 20 - 60_000]);
    client.send(&window(0, 7));
    assert_eq!(client.send_some(1, 1 << 20), 7);
    // An end needs no room.
    let mut nothing = Bytes::new();
    assert_eq!(client.state.send_data(1, &mut nothing, true, &task()), Sent::All);
    assert!(client.state.send_trailers(3, &HeaderMap::new()));
    assert_eq!(client.kinds(), [(kind::DATA, 1), (kind::DATA, 1), (kind::HEADERS, 3)]);
    assert!(!client.state.is_open(1) && !client.state.is_open(3));
}

#[test]
fn a_client_that_takes_nothing_is_sent_little() {
    let mut client = Client::new();
    client.send(&window(0, 0x7000_0000)).send(&settings(&[(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]));
    client.send(&headers(1, 1, POST));
    client.answer(1, false);
    let sent = client.send_some(1, 10 << 20);
    assert!((UNSENT_MAX..UNSENT_MAX + 17_000).contains(&sent), "{sent}");
    assert!(client.state.wants_input());
    let mut pings = 0;
    while client.state.wants_input() {
        client.send(&settings(&[]));
        pings += 1;
        assert!(pings < 100_000, "answers to settings pile up");
    }
    client.frames();
    assert!(client.state.wants_input());
}

#[test]
fn answers_to_requests_that_are_still_coming_end_them() {
    let mut client = Client::new();
    client.send(&headers(1, 0, POST));
    client.answer(1, true);
    assert_eq!(client.reset_of(1), Some(Reason::NoError as u32));
    // What was under way is nobody's fault.
    client.send(&data(1, 0, b"abc")).send(&headers(1, 1, POST)).send(&window(1, 1)).send(&reset(1));
    assert_eq!((client.result, client.frames().len()), (Ok(()), 0));
    // That they are whole: no reset.
    client.send(&headers(3, 1, POST));
    client.answer(3, true);
    assert_eq!(client.kinds(), [(kind::HEADERS, 3)]);
    client.send(&data(3, 1, b"abc"));
    assert_eq!(client.reset_of(3), Some(Reason::StreamClosed as u32));
}

#[test]
fn small_answers_are_one_after_the_other() {
    let mut client = Client::new();
    let message = Bytes::from_static(b"\0\0\0\0\x02ab");
    client.send(&headers(1, 1, POST)).send(&headers(3, 1, POST));
    assert_eq!(client.state.send_unary(1, &message), Sent::All);
    let frames = client.frames();
    let flags: Vec<_> = frames.iter().map(|(head, _)| (head.kind, head.flags)).collect();
    assert_eq!(flags, [(kind::HEADERS, 4), (kind::DATA, 0), (kind::HEADERS, 5)]);
    assert_eq!(frames[1].1, message);
    let mut decoder = Decoder::default();
    let mut fields = Vec::new();
    for (_, block) in frames.iter().filter(|(head, _)| head.kind == kind::HEADERS) {
        decoder.decode(block, |field| fields.push(field.value.clone())).unwrap();
    }
    assert_eq!(fields, ["200", "application/grpc", "0"]);
    assert_eq!(client.state.send_unary(1, &message), Sent::Gone);
    assert_eq!(client.state.send_unary(3, &vec![0; 20_000].into()), Sent::Blocked, "more than a frame");
    client.send(&settings(&[(setting::INITIAL_WINDOW_SIZE, 6)]));
    assert_eq!(client.state.send_unary(3, &message), Sent::Blocked, "more than the window");
    assert_eq!(client.kinds(), [(kind::SETTINGS, 0)]);
}

#[test]
fn a_large_head_goes_in_several_frames() {
    let mut client = Client::new();
    client.send(&headers(1, 1, POST));
    let mut fields = HeaderMap::new();
    for number in 0..10 {
        fields.append("x", HeaderValue::from_bytes(&[b'a' + number; 5000]).unwrap());
    }
    assert!(client.state.send_head(1, StatusCode::OK, &fields, true));
    let frames = client.frames();
    let flags: Vec<_> = frames.iter().map(|(head, _)| (head.kind, head.flags)).collect();
    let (begin, middle, end) = ((kind::HEADERS, 1), (kind::CONTINUATION, 0), (kind::CONTINUATION, 4));
    assert_eq!(flags, [begin, middle, middle, end]);
    let block: Vec<u8> = frames.into_iter().flat_map(|(_, payload)| payload).collect();
    let mut count = 0;
    Decoder::default().decode(&block, |_| count += 1).unwrap();
    assert_eq!(count, 11);
}

#[test]
fn floods_end() {
    // Requests that are taken back at once.
    let mut client = Client::new();
    let mut stream = 1;
    while client.result.is_ok() {
        client.send(&headers(stream, 0, POST)).send(&reset(stream));
        stream += 2;
        assert!(stream < 4 * WASTED_MAX, "for ever");
    }
    assert_eq!(client.goaway(), Some(Reason::EnhanceYourCalm as u32));
    // Those that were answered do not count: watches that end.
    let mut client = Client::new();
    for number in 0..2 * WASTED_MAX {
        let stream = 2 * number + 1;
        client.send(&headers(stream, 0, POST));
        client.answer(stream, false);
        client.send(&reset(stream));
        client.frames();
        client.events.clear();
    }
    assert_eq!(client.result, Ok(()));
    // Requests whose fields are too large are answered, but come to nothing.
    let mut client = Client::new();
    let large = [POST, b"\x40\x01x\x7f\xa1\x1e", &[b'v'; 4000], &[0xbe; 300]].concat();
    client.send(&headers(1, 1, &large));
    let again = [POST, &[0xbe; 300][..]].concat();
    let mut stream = 3;
    while client.result.is_ok() {
        client.send(&headers(stream, 1, &again)).frames();
        stream += 2;
        assert!(stream < 4 * WASTED_MAX, "for ever");
    }
    // A header block without end, in frames with something in them and without.
    for piece in [&b""[..], &[b'x'; 16_000]] {
        let mut client = Client::new();
        client.send(&bytes(kind::HEADERS, 0, 1, POST));
        let mut frames = 0;
        while client.result.is_ok() {
            client.send(&bytes(kind::CONTINUATION, 0, 1, piece));
            frames += 1;
            assert!(frames < 1000, "for ever");
        }
        assert_eq!(client.goaway(), Some(Reason::EnhanceYourCalm as u32));
    }
}

#[test]
fn too_many_streams_and_too_late_ones_are_refused() {
    let mut client = Client::new();
    for number in 0..100 {
        client.send(&headers(2 * number + 1, 0, POST));
    }
    assert_eq!(client.send(&headers(201, 0, POST)).reset_of(201), Some(Reason::RefusedStream as u32));
    client.send(&reset(1)).send(&headers(203, 0, POST));
    assert!(client.state.is_open(203));
    client.state.close();
    let frames = client.frames();
    assert_eq!((frames[0].0.kind, &frames[0].1[..]), (kind::GOAWAY, &b"\0\0\0\xcb\0\0\0\0"[..]));
    client.send(&reset(3));
    assert_eq!(client.send(&headers(205, 0, POST)).reset_of(205), Some(Reason::RefusedStream as u32));
    assert!(!client.state.is_over(), "those that are open go on");
    // The last stream that was taken never rises (RFC 9113, section 6.8).
    client.send(&data(0, 0, b""));
    let frames = client.frames();
    assert_eq!((frames[0].0.kind, &frames[0].1[..8]), (kind::GOAWAY, &b"\0\0\0\xcb\0\0\0\x01"[..]));
    let mut client = Client::new();
    for number in 0..100 {
        client.send(&headers(2 * number + 1, 0, POST));
    }
    client.state.close();
    for number in 0..100 {
        client.state.cancel(2 * number + 1, Reason::Cancel);
    }
    assert!(client.state.is_over());
}

#[test]
fn fields_that_are_too_large_are_answered() {
    let mut client = Client::new();
    let mut bomb = [POST, b"\x40\x01x\x7f\xa1\x1e"].concat();
    bomb.extend_from_slice(&[b'v'; 4000]);
    bomb.extend_from_slice(&[0xbe; 300]);
    client.send(&headers(1, 1, &bomb));
    let frames = client.frames();
    assert_eq!((frames[0].0.kind, frames[0].0.flags), (kind::HEADERS, 5));
    assert!(frames[0].1.ends_with(b"431"));
    assert_eq!((client.result, client.state.is_open(1)), (Ok(()), false));
    client.send(&headers(3, 1, &[POST, b"\xbe"].concat()));
    let [Event::Request { head, .. }] = &client.events[..] else { panic!("{:?}", client.events) };
    assert_eq!(head.headers["x"].len(), 4000);
}

/// Frames by chance, most of them nearly right, answered by chance: nothing panics, what is held stays within the limits, and what is
/// sent is frames.
#[test]
fn no_frames_make_it_panic_or_hold_more_than_it_may() {
    let sequences = std::env::var("KETCH_FRAMES").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    for seed in 0..sequences {
        let mut random = u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) % below
        };
        let mut client = Client::new();
        for _ in 0..200 {
            let stream = (next(12) * 2 + u64::from(next(30) > 0)) as u32;
            let len = [0, 1, 4, 5, 6, 8, 9, 300, 16_384][next(9) as usize];
            let mut payload: Vec<u8> = (0..len).map(|_| next(256) as u8).collect();
            let kind = next(11) as u8;
            if kind <= kind::HEADERS && next(8) > 0 {
                payload = [POST, POST_CALL][next(2) as usize].to_vec();
            }
            let flags = if next(3) == 0 { next(256) as u8 } else { 4 | next(2) as u8 };
            let frame = bytes(kind, flags, stream, &payload);
            let cut = next(frame.len() as u64) as usize;
            client.send(&frame[..cut]).send(&frame[cut..]);
            let open: Vec<u32> = client.state.streams.keys().copied().collect();
            if let Some(&stream) = open.get(next(20) as usize) {
                match next(4) {
                    0 => _ = client.state.send_head(stream, StatusCode::OK, &HeaderMap::new(), next(2) == 0),
                    1 => _ = client.send_some(stream, next(40_000) as usize),
                    2 => _ = client.state.send_trailers(stream, &HeaderMap::new()),
                    _ => client.state.cancel(stream, Reason::Cancel),
                }
            }
            if next(3) == 0 {
                client.got = client.frames();
            }
            for event in client.events.drain(..).collect::<Vec<_>>() {
                if let Event::Call { stream, body, .. } = event {
                    if next(2) == 0 {
                        client.state.consumed(body.len());
                    } else {
                        _ = client.state.put_back(stream, &body);
                    }
                }
            }
            let held: usize = client.state.streams.values().map(|stream| stream.body.len()).sum();
            assert!(held <= CONNECTION_WINDOW as usize, "seed {seed}");
            assert!(client.state.partial.len() <= HEAD_BYTES + 16_384, "seed {seed}");
            assert!(client.state.streams.len() <= 100 && client.state.ended_early.len() <= 64, "seed {seed}");
            assert!(client.state.line.len() <= client.state.streams.len() + 200, "seed {seed}");
            let waiting = client.state.out.len();
            assert_eq!(client.state.unsent, waiting, "seed {seed}");
        }
        client.frames();
    }
}
