//! The load generator sends exactly what its plan says and reports what came back.

use std::sync::atomic::Ordering::Relaxed;

use ketch_benches::load::{Length, Operation, Plan, Report, run};

use crate::counting_server::{Counts, REFUSED_EVERY, start};

fn drive(plan: Plan) -> (Report, std::sync::Arc<Counts>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (url, counts) = start().await;
        let report = run(&Plan { endpoints: vec![url], ..plan }).await.unwrap();
        (report, counts)
    })
}

#[test]
fn a_closed_loop_sends_its_total_and_counts_errors() {
    let plan = Plan { connections: 3, clients: 7, length: Length::Requests(200), ..Plan::default() };
    let (report, counts) = drive(plan);
    assert_eq!(counts.puts.load(Relaxed), 200);
    assert_eq!(report.failed(), 200 / REFUSED_EVERY);
    assert_eq!(report.succeeded + report.failed(), 200);
    let text = "ResourceExhausted: etcdserver: mvcc: database space exceeded";
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), [text]);
    assert!(report.latency.p50 <= report.latency.p99 && report.latency.p99 <= report.latency.max);
    assert!(report.to_string().contains(&format!("20 × {text}")));
}

#[test]
fn an_open_loop_sends_its_total() {
    let plan = Plan { clients: 4, rate: Some(5000.0), length: Length::Requests(100), ..Plan::default() };
    let (report, counts) = drive(Plan { operation: Operation::Get, ..plan });
    assert_eq!(counts.gets.load(Relaxed), 100);
    assert_eq!((report.succeeded, report.failed()), (100, 0));
    // The last request is due 99 intervals after the first.
    assert!(report.elapsed.as_micros() >= 99 * 200);
}

#[test]
fn every_operation_reaches_its_method() {
    type Counter = fn(&Counts) -> u64;
    let expected: [(Operation, Counter); 3] = [
        (Operation::Txn, |counts| counts.txns.load(Relaxed)),
        (Operation::Range, |counts| counts.lists.load(Relaxed)),
        (Operation::Count, |counts| counts.counts.load(Relaxed)),
    ];
    for (operation, counter) in expected {
        let (report, counts) = drive(Plan { operation, length: Length::Requests(5), ..Plan::default() });
        assert_eq!((report.succeeded, counter(&counts)), (5, 5), "{}", operation.name());
    }
}

#[test]
fn nobody_listening_is_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = Plan { endpoints: vec![format!("http://{free}")], ..Plan::default() };
    runtime.block_on(run(&plan)).unwrap_err();
}

#[test]
fn messages_larger_than_every_window_arrive_whole() {
    let plan = Plan { clients: 4, value_size: 300_000, length: Length::Requests(9), ..Plan::default() };
    let (report, counts) = drive(plan);
    assert_eq!((report.succeeded + report.failed(), counts.puts.load(Relaxed)), (9, 9), "{report}");
    assert_eq!(report.failed(), 1, "only the one that the service refuses: {report}");
    assert_eq!(counts.value_bytes.load(Relaxed), 9 * 300_000);
}

#[test]
fn a_connection_that_breaks_fails_what_was_under_way_and_is_made_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let report = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.readable().await.unwrap();
            }
        });
        let plan = Plan { clients: 2, length: Length::Requests(5), endpoints: vec![url], ..Plan::default() };
        let report = run(&plan).await.unwrap();
        server.abort();
        report
    });
    assert_eq!((report.succeeded, report.failed()), (0, 5), "{report}");
    assert!(report.errors.keys().all(|text| text.starts_with("Unavailable: ")), "{report}");
}
