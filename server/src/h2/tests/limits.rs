//! What many streams together may hold, and what becomes of those that leave.

use std::task::Poll;

use super::super::frame::setting;
use super::super::state::{UNSENT_MAX, WASTED_MAX};
use super::super::*;
use super::client::*;

#[test]
fn calls_whose_bodies_come_side_by_side_all_become_whole() {
    const BODY: usize = 60_000;
    let mut client = Client::new();
    let mut left: Vec<(u32, usize)> = (0..100).map(|number| (2 * number + 1, BODY)).collect();
    for &(stream, _) in &left {
        client.send(&headers(stream, 0, POST_CALL));
    }
    let mut read_by_tasks = Vec::new();
    while !left.is_empty() {
        let mut moved = false;
        for (stream, bytes) in &mut left {
            // A client goes by the window that it was told, in turns.
            let len = 16_000.min(*bytes);
            if client.state.receive_window < len as i64 {
                continue;
            }
            *bytes -= len;
            moved = true;
            client.send(&data(*stream, u8::from(*bytes == 0), &vec![7; len]));
            for event in client.events.drain(..) {
                match event {
                    Event::Call { body, .. } => client.state.consumed(body.len()),
                    Event::Request { stream, .. } => read_by_tasks.push(stream),
                    Event::Reset { stream } => panic!("{stream} broke"),
                }
            }
            for &stream in &read_by_tasks {
                while matches!(client.state.poll_body(stream, &task()), Poll::Ready(Some(Ok(_)))) {}
            }
        }
        assert!(moved, "{} calls wait for a window that nobody opens", left.len());
        left.retain(|&(_, bytes)| bytes > 0);
    }
    assert_eq!(client.result, Ok(()));
}

#[test]
fn windows_that_change_at_every_frame_end_the_connection() {
    let mut client = Client::new();
    let many: Vec<(u16, u32)> = (0..1000).map(|size| (setting::INITIAL_WINDOW_SIZE, size)).collect();
    client.send(&headers(1, 1, POST)).send(&settings(&many));
    assert_eq!((client.result, client.state.streams[&1].send_window), (Ok(()), 999));
    let mut frames = 0;
    while client.result.is_ok() {
        client.send(&settings(&[(setting::INITIAL_WINDOW_SIZE, frames % 2)])).frames();
        frames += 1;
        assert!(frames < 2 * WASTED_MAX, "for ever");
    }
}

#[test]
fn streams_that_left_do_not_stay_in_line() {
    let mut client = Client::new();
    client.send(&headers(1, 1, POST)).send(&settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]));
    client.answer(1, false);
    assert_eq!(client.send_some(1, 100_000), 65_535, "the connection's window is used up");
    for number in 1..5000 {
        let stream = 2 * number + 1;
        client.send(&headers(stream, 1, POST));
        client.answer(stream, false);
        assert_eq!(client.send_some(stream, 1), 0);
        client.send(&reset(stream)).frames();
    }
    assert_eq!(client.result, Ok(()));
    assert!(client.state.line.len() < 200, "{}", client.state.line.len());
}

#[test]
fn whoever_breaks_a_streams_window_takes_its_call_along() {
    for increment in [0, 0x7fff_ffff] {
        let mut client = Client::new();
        client.send(&headers(1, 0, POST_CALL)).send(&data(1, 1, b"abc")).send(&window(1, increment));
        assert!(matches!(client.events[..], [Event::Call { .. }, Event::Reset { stream: 1 }]));
    }
}

#[test]
fn a_body_that_was_cut_off_has_not_ended() {
    let mut client = Client::new();
    client.send(&headers(1, 0, POST)).send(&data(1, 0, b"abc")).send(&reset(1));
    assert!(!client.state.is_body_over(1));
    assert!(matches!(client.state.poll_body(1, &task()), Poll::Ready(Some(Err(Gone)))));
}

#[test]
fn a_client_that_takes_large_frames_is_not_sent_more_than_others() {
    let mut client = Client::new();
    client.send(&window(0, 0x7000_0000));
    client.send(&settings(&[
        (setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff),
        (setting::MAX_FRAME_SIZE, (1 << 24) - 1),
    ]));
    client.send(&headers(1, 1, POST));
    client.answer(1, false);
    assert!(client.send_some(1, 10 << 20) <= 2 * UNSENT_MAX);
}
